"""TRFEncoder and TRFDecoder against the explicit delayed design and MNE."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.stats
import xarray as xr
from mne.decoding import ReceptiveField, TimeDelayingRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from neuroalign import schema
from neuroalign.align import concat, lagged
from neuroalign.decoding import TRFDecoder
from neuroalign.encoding import TRFEncoder
from neuroalign.errors import AlignmentError, ConfigError, NeuroalignWarning, SchemaError
from neuroalign.metrics import SCORERS
from neuroalign.solvers import convert_alpha, trf_cv, trf_lags

SFREQ = 50.0
LENGTHS = (211, 97, 160, 40)
KERNEL = np.array([0.0, 0.0, 1.0, 2.0, 1.0, -1.0, 0.0])  # peaks at 60 ms


def recording(lengths=LENGTHS, n_features=2, n_channels=3, seed=0, noise=2.0):
    """Runs of unequal length; the second one holds a gap of the clock."""
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(len(lengths)), lengths)
    clock = np.concatenate([np.arange(n) for n in lengths])
    clock[np.flatnonzero(run == 1)[50:]] += 7
    piece = np.cumsum(np.r_[False, (np.diff(clock) != 1) | (np.diff(run) != 0)])
    x = rng.normal(1, 2, (len(run), n_features))
    weights = rng.normal(size=(n_features, n_channels))
    y = lagged(x, range(len(KERNEL)), piece) @ np.kron(KERNEL[:, None], weights)
    y += np.geomspace(0.3, 30, n_channels) * noise * rng.normal(size=y.shape) + 5
    coords = {"time": clock / SFREQ, "run": ("time", run)}
    labelled = [
        xr.DataArray(v, dims=("time", d), coords=coords, attrs={"sfreq": SFREQ, "units": "a.u."})
        for v, d in ((x, "unit"), (y, "channel"))
    ]
    return *labelled, piece


def explicit(x, y, lags, piece, folds, grid, scorer):
    design, scores = lagged(x, lags, piece), np.zeros((len(grid), y.shape[1]))
    for train, test in folds:
        scores += [
            SCORERS[scorer](y[test], Ridge(alpha=a).fit(design[train], y[train]).predict(design[test])) / len(folds)
            for a in grid
        ]
    best = np.asarray(grid)[scores.argmax(axis=0)]
    return Ridge(alpha=best).fit(design, y), design, best, scores.max(axis=0)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(("tmin", "tmax"), [(0.0, 0.12), (-0.04, 0.1), (0.06, 0.06), (-0.1, -0.02)])
@pytest.mark.parametrize("cls", [TRFEncoder, TRFDecoder])
def test_the_explicit_delayed_design(cls, tmin, tmax, scorer):
    x, y, piece = recording()
    if cls is TRFDecoder:
        x, y = y, x
    grid = np.logspace(0, 5, 6)
    model = cls(tmin=tmin, tmax=tmax, alphas=grid, cv=LeaveOneGroupOut(), scorer=scorer).fit(x, y, groups=x["run"])
    lags = np.arange(round(tmin * SFREQ), round(tmax * SFREQ) + 1)
    np.testing.assert_allclose(model.lags_, lags / SFREQ)
    signed = lags if cls is TRFEncoder else -lags
    folds = [(x["run"].values != r, x["run"].values == r) for r in range(4)]
    expected, design, best, scores = explicit(x.values, y.values, signed, piece, folds, grid, scorer)
    np.testing.assert_array_equal(model.alphas_, best)
    np.testing.assert_allclose(model.cv_scores_, scores, atol=1e-7)
    np.testing.assert_allclose(model.predict(x), expected.predict(design), atol=1e-7)
    coef = expected.coef_.T.reshape(len(lags), x.shape[1], -1)  # lag-major
    np.testing.assert_allclose(model.coef_.transpose("lag", ...), coef, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-7)
    assert model.coef_.dims == (x.dims[1], "lag", y.dims[1])


def test_runs_are_left_out_whole():
    x, y, _ = recording()
    usual = TRFEncoder(tmax=0.1, cv="run").fit(x, y)
    by_group = TRFEncoder(tmax=0.1, cv=LeaveOneGroupOut()).fit(x, y, groups=x["run"].values)
    np.testing.assert_array_equal(usual.alphas_, by_group.alphas_)
    np.testing.assert_array_equal(usual.coef_, by_group.coef_)
    two = TRFEncoder(tmax=0.1, cv=GroupKFold(2)).fit(x, y, groups=x["run"].values)
    assert np.isfinite(two.cv_scores_).all()
    with pytest.raises(ConfigError, match="one group a run"):
        TRFEncoder(tmax=0.1).fit(x, y, groups=np.arange(len(x)) % 2)
    with pytest.raises(SchemaError, match="one group a sample"):
        TRFEncoder(tmax=0.1).fit(x, y, groups=[0, 1])
    with pytest.raises(ConfigError, match=r"'run'[\s\S]*story"):
        TRFEncoder(cv="story").fit(x, y)


def test_groups_cut_a_plain_array():
    x, y, _ = recording((60, 60, 60))
    groups = np.repeat([0, 1, 2], 60)
    model = TRFEncoder(tmax=0.1, sfreq=SFREQ).fit(x.values, y.values, groups=groups)
    clean = xr.DataArray(x.values, dims=("sample", "unit"), coords={"run": ("sample", groups)})
    target = xr.DataArray(y.values, dims=("sample", "channel"), coords={"run": ("sample", groups)})
    np.testing.assert_allclose(model.coef_, TRFEncoder(tmax=0.1, sfreq=SFREQ).fit(clean, target).coef_)


@pytest.mark.parametrize("alpha", [0.0, 10.0, 1000.0])
def test_mne_on_one_run(alpha):
    """One long run; MNE pads with zeros as well. The inner cuts of a single run weigh little here."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 2))
    y = lagged(x, range(7)) @ np.kron(KERNEL[:, None], rng.normal(size=(2, 3))) + rng.normal(size=(6000, 3)) + 2
    mine = TRFEncoder(tmin=-0.02, tmax=0.12, sfreq=SFREQ, alphas=[alpha]).fit(x, y)
    estimator = TimeDelayingRidge(-0.02, 0.12, SFREQ, alpha=alpha, fit_intercept=True)
    peer = ReceptiveField(-0.02, 0.12, SFREQ, estimator=estimator, scoring="r2").fit(x, y)
    np.testing.assert_allclose(mine.lags_, peer.delays_ / SFREQ)
    np.testing.assert_allclose(mine.coef_, np.moveaxis(peer.coef_, 0, -1), atol=0.02)
    inside = slice(20, -20)
    np.testing.assert_allclose(mine.predict(x)[inside], peer.predict(x)[inside], atol=0.06)
    assert np.corrcoef(mine.predict(x)[inside].ravel(), peer.predict(x)[inside].ravel())[0, 1] > 0.99999


def epochs_for_mne(x, y):
    """Add every epoch with its sign turned, so that all means are zero: MNE fills edges with zeros only without an
    intercept, and the intercept found here is zero."""
    x, y = np.concatenate([x, -x], axis=1), np.concatenate([y, -y], axis=1)
    n, epochs, _ = x.shape
    coords = {"time": np.tile(np.arange(n) / SFREQ, epochs), "run": ("time", np.repeat(np.arange(epochs), n))}
    flat = [np.moveaxis(v, 1, 0).reshape(n * epochs, -1) for v in (x, y)]
    return x, y, *(xr.DataArray(v, dims=("time", d), coords=coords) for v, d in zip(flat, ("a", "b"), strict=True))


def test_mne_on_epochs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5, 2))  # time, epochs, features
    y = np.stack([lagged(x[:, e], range(7)) @ np.kron(KERNEL[:, None], np.ones((2, 3))) for e in range(5)], axis=1)
    x, y, lx, ly = epochs_for_mne(x, y + rng.normal(size=y.shape))
    for peer_kind in (Ridge(alpha=30.0, fit_intercept=False), 30.0):
        peer = ReceptiveField(-0.04, 0.12, SFREQ, estimator=peer_kind, fit_intercept=False).fit(x, y)
        mine = TRFEncoder(tmin=-0.04, tmax=0.12, alphas=[30.0]).fit(lx, ly)
        np.testing.assert_allclose(np.moveaxis(mine.coef_.values, -1, 0), peer.coef_, atol=1e-7)
        predicted = mine.predict(lx).values.reshape(10, 120, 3)
        np.testing.assert_allclose(predicted, np.moveaxis(peer.predict(x), 1, 0), atol=1e-7)


def test_mne_backwards():
    """MNE reads the recording that follows the stimulus through negative lags."""
    rng = np.random.default_rng(0)
    envelope = rng.normal(size=(120, 5, 1))
    eeg = np.stack([lagged(envelope[:, e], [3]) @ [[1.0, -2.0, 0.5]] for e in range(5)], axis=1)
    eeg, envelope, lx, ly = epochs_for_mne(eeg + 0.5 * rng.normal(size=eeg.shape), envelope)
    peer = ReceptiveField(
        -0.1, 0, SFREQ, estimator=Ridge(alpha=30.0, fit_intercept=False), fit_intercept=False, patterns=True
    ).fit(eeg, envelope)
    mine = TRFDecoder(tmin=0.0, tmax=0.1, alphas=[30.0]).fit(lx, ly)
    np.testing.assert_allclose(mine.coef_.values[..., 0], peer.coef_[0][:, ::-1], atol=1e-7)
    predicted = mine.predict(lx).values.reshape(10, 120, 1)
    np.testing.assert_allclose(predicted, np.moveaxis(peer.predict(eeg), 1, 0), atol=1e-7)
    forward, theirs = mine.patterns_.values[..., 0], peer.patterns_[0][:, ::-1]
    assert np.corrcoef(forward.ravel(), theirs.ravel())[0, 1] > 0.9999  # MNE scales patterns in its own way
    assert mine.lags_[np.argmax(np.abs(forward[1]))] == pytest.approx(0.06)


def test_latency_and_response_are_recovered():
    x, y, _ = recording((800, 800, 800), n_features=1, n_channels=2, noise=0.5)
    model = TRFEncoder(tmin=-0.1, tmax=0.3).fit(x, y)
    assert model.response_.identical(model.coef_)
    response = model.response_.isel(unit=0, channel=0)
    assert float(response["lag"][np.argmax(np.abs(response.values))]) == pytest.approx(0.06)
    true = np.zeros(21)
    true[5:12] = KERNEL
    assert abs(np.corrcoef(response, true)[0, 1]) > 0.99


def test_prediction_is_causal_and_stays_inside_its_run():
    x, y, piece = recording()
    model = TRFEncoder(tmax=0.1).fit(x, y)
    changed = x.copy()
    inside = np.flatnonzero(piece == 1)
    changed[inside] += 100.0
    differ = (model.predict(changed) != model.predict(x)).any("channel").values
    assert differ[inside].all()
    assert not np.delete(differ, inside).any()
    changed = x.copy()
    changed[300] += 100.0
    differ = np.flatnonzero((model.predict(changed) != model.predict(x)).any("channel").values)
    assert (differ.min(), differ.max()) == (300, 305)


def test_runs_one_after_another_predict_as_alone():
    x, y, piece = recording()
    for cls, a, b in ((TRFEncoder, x, y), (TRFDecoder, y, x)):
        model = cls(tmin=-0.04, tmax=0.1).fit(a, b)
        parts = [model.predict(a.isel(time=piece == k)) for k in np.unique(piece)]
        np.testing.assert_allclose(model.predict(a), np.concatenate(parts), rtol=1e-10)
    assert model.predict(y.isel(time=[5])).shape == (1, 2)


def test_lags_longer_than_a_run():
    x, y, piece = recording((60, 60, 4))
    model = TRFEncoder(tmax=0.2, alphas=[10.0]).fit(x, y)
    expected = Ridge(alpha=10.0).fit(lagged(x.values, range(11), piece), y.values)
    np.testing.assert_allclose(model.predict(x), expected.predict(lagged(x.values, range(11), piece)), atol=1e-8)


@pytest.mark.parametrize(("tmin", "tmax"), [(0.2, 0.4), (-0.4, -0.2), (0.0, 0.4), (-0.1, 0.1)])
@pytest.mark.parametrize("cls", [TRFEncoder, TRFDecoder])
def test_a_stretch_shorter_than_the_lags(cls, tmin, tmax):
    x, y, _ = recording((90, 90, 90))
    model = cls(tmin=tmin, tmax=tmax, alphas=[10.0]).fit(x, y)
    weights = model.coef_.transpose("lag", "unit", "channel").values.reshape(-1, 3)
    lags = np.rint(model.lags_ * SFREQ).astype(int) * (1 if cls is TRFEncoder else -1)
    for n in (1, 2, 5, 15, 40):
        short = x.isel(time=slice(n))
        expected = lagged(short.values, lags.tolist()) @ weights + model.intercept_.values
        np.testing.assert_allclose(model.predict(short), expected, atol=1e-9)


@pytest.mark.parametrize("factor", [1e-15, 1e-6])
def test_units_do_not_matter(factor):
    x, y, _ = recording()
    for cls, a, b in ((TRFEncoder, x, y), (TRFDecoder, y, x)):
        usual = cls(tmax=0.1).fit(a, b)
        np.testing.assert_allclose(cls(tmax=0.1).fit(a * factor, b).predict(a * factor), usual.predict(a), rtol=1e-6)
        np.testing.assert_allclose(cls(tmax=0.1).fit(a, b * factor).predict(a), usual.predict(a) * factor, rtol=1e-6)


def test_float32_is_kept():
    x, y, _ = recording()
    single = TRFEncoder(tmax=0.1).fit(x.astype("f4"), y.astype("f4"))
    predicted = single.predict(x.astype("f4"))
    assert predicted.dtype == single.coef_.dtype == np.float32
    np.testing.assert_allclose(predicted, TRFEncoder(tmax=0.1).fit(x, y).predict(x), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tmax": 0.1}, "No sampling rate"),
        ({"tmax": 0.1, "sfreq": 0.0}, "Not a sampling rate"),
        ({"tmax": 0.1, "sfreq": -50.0}, "Not a sampling rate"),
        ({"tmax": 0.1, "sfreq": np.nan}, "Not a sampling rate"),
        ({"tmin": 0.2, "tmax": 0.1, "sfreq": 50.0}, "tmin <= tmax"),
        ({"tmax": np.inf, "sfreq": 50.0}, "finite tmin"),
        ({"tmin": np.nan, "sfreq": 50.0}, "finite tmin"),
        ({"sfreq": 50.0, "cv": 9}, "folds"),
    ],
)
def test_wrong_windows_are_refused(options, message):
    x, y, _ = recording()
    with pytest.raises(ConfigError, match=message):
        TRFEncoder(**options).fit(x.values, y.values)


def test_other_clocks_are_refused():
    x, y, _ = recording()
    with pytest.raises(ConfigError, match="contradicts the time coordinate"):
        TRFEncoder(tmax=0.1, sfreq=100.0).fit(x, y)
    model = TRFEncoder(tmax=0.1).fit(x, y)
    faster = x.assign_coords(time=x["time"] / 2).assign_attrs(sfreq=100.0)
    with pytest.raises(SchemaError, match=r"another sampling rate[\s\S]*50 Hz[\s\S]*100 Hz"):
        model.predict(faster)
    with pytest.raises(AlignmentError, match="Sampling rates differ"):
        TRFEncoder(tmax=0.1).fit(faster, y)
    trials = xr.DataArray(np.random.default_rng(0).normal(size=(9, 3)), dims=("trial", "unit"))
    with pytest.raises(SchemaError, match="samples along trial"):
        TRFEncoder(tmax=0.1, sfreq=50.0).fit(trials, trials)
    with pytest.raises(AlignmentError, match=r"run[\s\S]*position 0"):
        TRFEncoder(tmax=0.1).fit(x, y.assign_coords(run=y["run"] + 1))


def test_runs_from_concat():
    rng = np.random.default_rng(0)

    def run() -> xr.Dataset:
        return schema.sensors(
            rng.normal(size=(2, 80)) * 1e-5, modality="eeg", sfreq=SFREQ, channel=["Fz", "Cz"], units="V"
        )

    eeg = concat([run(), run(), run()])["eeg"]
    coords = {name: c for name, c in eeg.coords.items() if c.dims == ("time",)}
    envelope = xr.DataArray(rng.normal(size=(240, 1)), dims=("time", "unit"), coords=coords, attrs={"sfreq": SFREQ})
    model = TRFEncoder(tmax=0.1, alphas=[1.0]).fit(envelope, eeg)
    design = lagged(envelope.values, range(6), np.repeat([0, 1, 2], 80))
    expected = Ridge(alpha=1.0).fit(design, eeg.values.T).predict(design)
    assert model.predict(envelope).dims == ("time", "channel")
    np.testing.assert_allclose(model.predict(envelope), expected, rtol=1e-6, atol=1e-12)


def test_a_target_that_is_never_tested_warns():
    x, y, _ = recording((60, 60, 60))
    y[:, 1] = 0.0
    y[3, 1] = 1.0
    folds = [([0, 1], [2]), ([0, 2], [1])]
    with pytest.warns(NeuroalignWarning, match="1 of 3 targets are constant in every inner test fold"):
        model = TRFEncoder(tmax=0.04, cv=folds).fit(x, y)
    assert np.isnan(model.coef_.values[..., 1]).all()
    assert np.isfinite(model.coef_.values[..., [0, 2]]).all()
    with pytest.raises(SchemaError, match="No penalty could be chosen"):
        TRFEncoder(sfreq=50.0).fit(x.values[:5], y.values[:5])
    with pytest.raises(ConfigError, match="leaves nothing to train on"):
        TRFEncoder(sfreq=50.0, tmax=0.04).fit(x.values[:5], y.values[:5])


@pytest.mark.parametrize("labelled", [True, False])
def test_intervals_of_the_response(labelled):
    x, y, _ = recording((200,) * 8, noise=0.5)
    y[3, 1] = np.nan
    if not labelled:
        x, y = x.values, y.values
    with pytest.warns(NeuroalignWarning, match="1 of 3 targets hold NaN"):
        model = TRFEncoder(tmax=0.1, sfreq=SFREQ, alphas=[10.0]).fit(x, y)
    interval = model.response_interval(x, y, random_state=0)
    low, high = np.asarray(interval)
    response = np.asarray(model.response_)
    assert ((low < response) & (response < high))[..., [0, 2]].all()
    assert np.isnan(low[..., 1]).all()
    wider = np.asarray(model.response_interval(x, y, level=0.99, random_state=0))
    ratio = (wider[1] - wider[0])[..., [0, 2]] / (high - low)[..., [0, 2]]
    freedom = 8 if labelled else 4  # the gap makes nine pieces; a plain array is one run of five stretches
    expected = scipy.stats.t.ppf(0.995, freedom) / scipy.stats.t.ppf(0.975, freedom)
    np.testing.assert_allclose(ratio, expected, rtol=1e-6)
    if labelled:
        assert interval.dims == ("bound", "unit", "lag", "channel")
        assert interval["bound"].values.tolist() == ["lower", "upper"]
        with pytest.raises(AlignmentError, match="another shape"):
            model.response_interval(x, y.isel(channel=[0, 1]))
        with pytest.raises(SchemaError, match="Too few segments"):
            model.response_interval(x[:240], y[:240])
    else:
        with pytest.raises(SchemaError, match="other targets than at fit"):
            model.response_interval(x, y[:, :2])
    with pytest.raises(ConfigError, match="level"):
        model.response_interval(x, y, level=95)


@pytest.mark.filterwarnings("ignore:The grid of alphas")
def test_what_is_near_a_stretch_is_not_trained_on():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1000, 2)), rng.standard_normal((1000, 3))
    grid, lags = np.logspace(0, 4, 5), range(11)
    model = TRFEncoder(tmax=0.2, sfreq=SFREQ, alphas=grid).fit(x, y)
    folds = [(np.delete(np.arange(5), k), [k]) for k in range(5)]
    pieces = [slice(200 * k, 200 * k + 200) for k in range(5)]
    data = [x[p] for p in pieces], [y[p] for p in pieces]
    same = trf_cv(*data, lags=lags, alphas=grid, folds=folds, runs=[0] * 5, gap=10)
    np.testing.assert_allclose(model.cv_scores_, same.cv_scores)


@pytest.fixture(scope="module")
def speech(real_data):
    """Two minutes of EEG of a listener, in two trials at 64 Hz: envelopes and channels, (trial, time, column)."""
    folder = real_data("cocktail-party-eeg")
    envelope = scipy.io.loadmat(folder / "F_env.mat")["stim1"].ravel()
    xs, ys = [], []
    for trial in (1, 2):
        values = scipy.io.loadmat(folder / f"1_{trial}.mat")["eeg"][:, ::8].astype("f8")
        x = np.asarray(envelope[trial - 1], dtype="f8").reshape(-1, 1)[: len(values)]
        pairs = [(part[: len(part) // 2 * 2].reshape(-1, 2, part.shape[1])).mean(axis=1) for part in (x, values)]
        xs.append(pairs[0] - pairs[0].mean(axis=0))
        ys.append(pairs[1] - pairs[1].mean(axis=0))
    return xs, ys


def test_real_speech_against_mtrfpy_and_mne(speech):
    xs, ys = speech
    mtrf = pytest.importorskip("mtrf")
    lags, lam = trf_lags(-0.1, 0.4, 64.0, convention="mtrf"), 10.0
    alpha = convert_alpha(lam, source="mtrf", target="sklearn", sfreq=64.0, n_trials=2)
    mine = trf_cv(xs, ys, lags=lags, alphas=[alpha], folds=[([0], [1])])
    theirs = mtrf.TRF()
    theirs.train(xs, ys, 64.0, -0.1, 0.4, lam, verbose=False)
    scale = np.abs(mine.coef).max()
    np.testing.assert_allclose(theirs.weights / 64.0, mine.coef.transpose(1, 0, 2), atol=1e-9 * scale)

    plain = trf_cv(xs, ys, lags=lags, alphas=[alpha], folds=[([0], [1])], fit_intercept=False)
    solver = TimeDelayingRidge(int(lags[0]), int(lags[-1]), 1.0, alpha=alpha, fit_intercept=False)
    peer = ReceptiveField(int(lags[0]), int(lags[-1]), 1.0, estimator=solver, fit_intercept=False)
    peer.fit(np.stack(xs, axis=1), np.stack(ys, axis=1))
    np.testing.assert_allclose(plain.coef.transpose(2, 1, 0), peer.coef_, atol=1e-9 * scale)


def test_real_speech_in_single_precision(speech):
    xs, ys = ([part.astype("f4") for part in side] for side in speech)
    options = {"lags": range(-6, 27), "alphas": np.logspace(-2, 6, 9), "folds": [([0], [1]), ([1], [0])]}
    small = trf_cv(xs, ys, **options)
    large = trf_cv([x.astype("f8") for x in xs], [y.astype("f8") for y in ys], **options)
    np.testing.assert_allclose(small.scores, large.scores, atol=1e-12)
    np.testing.assert_array_equal(small.alphas, large.alphas)
    np.testing.assert_allclose(small.coef, large.coef, rtol=1e-6)
