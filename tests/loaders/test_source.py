"""Source estimates against MNE."""

from __future__ import annotations

import shutil
import struct

import mne
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, IntegrityError, SchemaError
from neuroalign.loaders import load, read_source

NAME = "sample_audvis_trunc-meg-{}.stc"


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_equals_mne(real_data, hemi):
    path = real_data("meg-mne-audvis") / NAME.format(hemi)
    ds, stc = load(path), mne.read_source_estimate(path)
    assert ds["source"].dims == ("vertex", "time")
    assert_array_equal(ds["source"].values, stc.data.astype(np.float32))
    assert_array_equal(ds["node"].values[ds["hemi"].values == "L"], stc.vertices[0])
    assert_array_equal(ds["node"].values[ds["hemi"].values == "R"], stc.vertices[1])
    assert_allclose(ds["time"].values, stc.times)
    assert ds.attrs["sfreq"] == 100.0
    assert ds.attrs["units"] == "a.u."
    assert len(ds.attrs["neuro_sources"]) == 2


def test_units_and_space(real_data):
    path = real_data("meg-mne-audvis") / NAME.format("lh")
    ds = read_source(path, units="z", space="sample")
    assert ds.attrs["units"] == ds["source"].attrs["units"] == "z"
    assert ds.attrs["space"] == "sample"
    with pytest.raises(SchemaError, match="Unknown unit"):
        read_source(path, units="sigma")


def test_the_rate_survives_a_32_bit_step(tmp_path):
    stc = mne.SourceEstimate(np.ones((2, 4)), [np.array([1]), np.array([5])], tmin=-0.1, tstep=1 / 600.614990234375)
    stc.save(tmp_path / "odd", verbose="ERROR")
    ds = read_source(tmp_path / "odd-lh.stc")
    assert ds.attrs["sfreq"] == pytest.approx(600.61499, abs=1e-3)
    assert ds.attrs["first_sample"] == -60


def test_a_missing_hemisphere(real_data, tmp_path):
    shutil.copyfile(real_data("meg-mne-audvis") / NAME.format("lh"), tmp_path / "x-lh.stc")
    with pytest.raises(IntegrityError, match=r"x-rh\.stc"):
        read_source(tmp_path / "x-lh.stc")
    (tmp_path / "x-vl.stc").write_bytes(b"")
    with pytest.raises(ConfigError, match="volume"):
        read_source(tmp_path / "x-vl.stc")


@pytest.mark.parametrize(("at", "value"), [(4, -1.0), (4, float("nan")), (0, float("inf"))])
def test_header_lies(real_data, tmp_path, at, value):
    for hemi in ("lh", "rh"):
        shutil.copyfile(real_data("meg-mne-audvis") / NAME.format(hemi), tmp_path / f"x-{hemi}.stc")
    data = bytearray((tmp_path / "x-lh.stc").read_bytes())
    data[at : at + 4] = struct.pack(">f", value)
    (tmp_path / "x-lh.stc").write_bytes(data)
    with pytest.raises(IntegrityError, match="start and step"):
        read_source(tmp_path / "x-lh.stc")


def test_a_vertex_twice(real_data, tmp_path):
    for hemi in ("lh", "rh"):
        shutil.copyfile(real_data("meg-mne-audvis") / NAME.format(hemi), tmp_path / f"x-{hemi}.stc")
    data = bytearray((tmp_path / "x-rh.stc").read_bytes())
    data[12:16] = data[16:20]
    (tmp_path / "x-rh.stc").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"[Vv]ertices"):
        read_source(tmp_path / "x-lh.stc")
