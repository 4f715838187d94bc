"""Windows in seconds to lags in samples, against MNE and mTRFpy."""

from __future__ import annotations

import numpy as np
import pytest

from neuroalign.errors import ConfigError
from neuroalign.solvers import trf_lags

WINDOWS = [(-0.1, 0.4, 64.0), (0.0, 0.25, 100.0), (-0.033, 0.277, 128.0), (0.05, 0.05, 50.0), (0.1, 0.3, 10.0)]


@pytest.mark.parametrize(("tmin", "tmax", "sfreq"), WINDOWS)
def test_mne(tmin, tmax, sfreq):
    mne = pytest.importorskip("mne")
    peer = mne.decoding.ReceptiveField(tmin, tmax, sfreq, estimator=1.0)
    x = np.random.default_rng(0).standard_normal((200, 1))
    with mne.use_log_level("error"):
        peer.fit(x, x)
    np.testing.assert_array_equal(trf_lags(tmin, tmax, sfreq), peer.delays_)


@pytest.mark.parametrize(("tmin", "tmax", "sfreq"), [*WINDOWS, (-0.011, 0.031, 64.0), (0.012, 0.013, 64.0)])
def test_mtrfpy(tmin, tmax, sfreq):
    mtrf = pytest.importorskip("mtrf")
    x = np.random.default_rng(0).standard_normal((200, 1))
    peer = mtrf.TRF()
    peer.train([x], [x], sfreq, tmin, tmax, 1.0, verbose=False)
    lags = np.rint(peer.times * sfreq)
    mine = trf_lags(tmin, tmax, sfreq, convention="mtrf")
    # Products of decimal fractions end beside a whole number: mTRF then takes one sample more.
    assert set(mine) <= set(lags)
    exact = (np.floor(tmin * sfreq), np.ceil(tmax * sfreq))
    if np.abs(np.array([tmin, tmax]) * sfreq - np.rint(np.array([tmin, tmax]) * sfreq)).max() in (0.0,) or (
        mine[0] == exact[0] and mine[-1] == exact[1]
    ):
        np.testing.assert_array_equal(mine, lags)


def test_whole_samples_stay_whole():
    np.testing.assert_array_equal(trf_lags(0.1, 0.3, 10.0, convention="mtrf"), [1, 2, 3])  # 0.3 * 10 > 3
    np.testing.assert_array_equal(trf_lags(-0.3, -0.1, 10.0, convention="mtrf"), [-3, -2, -1])
    np.testing.assert_array_equal(trf_lags(0, 0, 50.0), [0])


@pytest.mark.parametrize("convention", ["mne", "mtrf"])
def test_their_ends_make_the_same_lags(convention):
    lags = trf_lags(-0.033, 0.277, 128.0, convention=convention)
    for again in ("mne", "mtrf"):
        np.testing.assert_array_equal(trf_lags(lags[0] / 128.0, lags[-1] / 128.0, 128.0, convention=again), lags)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.1, 0.0, 50.0), "Empty window"),
        ((0.0, np.nan, 50.0), "Empty window"),
        ((0.0, 0.1, 0.0), "sampling rate"),
        ((0.0, 0.1, np.inf), "sampling rate"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ConfigError, match=words):
        trf_lags(*arguments)
    with pytest.raises(ConfigError, match="mne or mtrf"):
        trf_lags(0.0, 0.1, 50.0, convention="eelbrain")
