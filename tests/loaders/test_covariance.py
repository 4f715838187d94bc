"""Noise covariances against MNE."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from neuroalign.errors import IntegrityError, SchemaError
from neuroalign.loaders import load, read_covariance


@pytest.mark.parametrize("name", ["sample_audvis_trunc-cov.fif", "test-cov.fif.gz"])
def test_equals_mne(real_data, name):
    path = real_data("meg-mne-audvis") / name
    x, cov = load(path), mne.read_cov(path, verbose="ERROR")
    assert x.dims == ("channel", "channel_2")
    assert_array_equal(x.values, cov.data)
    assert x["channel"].values.tolist() == x["channel_2"].values.tolist() == cov.ch_names
    assert x["channel"].values[x["bad"].values].tolist() == [n for n in cov.ch_names if n in cov["bads"]]
    assert x.attrs["n_samples"] == cov["nfree"]
    assert len(x.attrs["projections"]) == len(cov["projs"])


def test_a_diagonal(tmp_path):
    cov = mne.Covariance(np.array([1.0, 4.0]), ["Cz", "Pz"], [], [], nfree=9)
    cov.save(tmp_path / "d-cov.fif", verbose="ERROR")
    assert_array_equal(read_covariance(tmp_path / "d-cov.fif").values, np.diag([1.0, 4.0]))


def test_other_files_are_refused(real_data, tmp_path):
    with pytest.raises(SchemaError, match="no covariance"):
        read_covariance(real_data("meg-mne-audvis") / "test-eve.fif")
    with pytest.raises(IntegrityError, match="no such file"):
        read_covariance(tmp_path / "x-cov.fif")
