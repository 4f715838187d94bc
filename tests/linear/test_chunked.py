"""Targets fitted block by block into a store are what the model gives in memory, whoever fits them."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

from neuroalign import storage
from neuroalign.align import join
from neuroalign.compute import get_executor, received, run_pieces, share
from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import BandedRidgeEncoder, PriorRidgeEncoder, RidgeEncoder, TRFEncoder
from neuroalign.errors import (
    AlignmentError,
    ConfigError,
    LabelsLostError,
    NeuroalignError,
    NeuroalignWarning,
    SchemaError,
)
from neuroalign.evaluation import cross_validate, resolve_cv
from neuroalign.linear import AlphaGrid, fit_to_store, load_fitted, predict_to_store
from neuroalign.solvers import _banded_plan, ridge_chunk, ridge_cv, ridge_plan
from neuroalign.solvers.banded import KeptPaths
from neuroalign.storage.pieces import piece_shape

N, P, T = 90, 12, 1300
RESULTS = ("coef", "intercept", "alphas", "cv_scores")


def labelled(values, dims, **coords):
    ids = [f"image-{k}" for k in range(len(values))]
    return xr.DataArray(values, dims=dims, coords={"stimulus": ids, **coords})


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, P)).astype("float32")
    y = (x @ rng.standard_normal((P, T)) + 2 * rng.standard_normal((N, T))).astype("float32")
    X = labelled(x, ("stimulus", "unit"))
    return X, labelled(y, ("stimulus", "voxel"), roi=("voxel", np.where(np.arange(T) % 3, "V1", "V4")))


@pytest.fixture(scope="module")
def stored(data, tmp_path_factory):
    path = storage.save(data[1], tmp_path_factory.mktemp("y") / "y.zarr", chunks={"voxel": 500})
    return storage.open(path)


@pytest.fixture(scope="module")
def reference(data):
    return RidgeEncoder().fit(*data)


def equal(ds, model, exact=True):
    same = ds["alphas"].values == np.asarray(model.alphas_)  # a tie of two penalties may go either way
    known = np.isfinite(np.asarray(model.alphas_))
    assert (same | ~known).mean() > 0.995
    for name in RESULTS:
        found, expected = ds[name].values, np.asarray(getattr(model, f"{name}_"))
        if exact:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found[..., same | ~known], expected[..., same | ~known], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [37, 100, 256, 512, 999, 1300, 5000, None])
def test_bit_equal_to_memory_for_blocks_of_any_size(data, stored, reference, tmp_path, chunk):
    ds = storage.open(fit_to_store(RidgeEncoder(), data[0], stored, tmp_path / "r.zarr", chunk=chunk))
    equal(ds, reference)
    assert ds["roi"].equals(data[1]["roi"])


def test_blocks_of_any_size_agree_where_penalties_nearly_tie(tmp_path):
    """Without signal, curves of scores are flat in float32; masked targets and several dimensions move the others."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((120, 40)).astype("float32"), rng.standard_normal((120, 9, 10, 11)).astype("float32")
    y[3, 4, 5, 6], y[:, 0, 0, 0], y[:, 2, :, 3] = np.nan, np.inf, 1.0
    with pytest.warns(NeuroalignWarning, match="NaN or Inf"):
        paths = [fit_to_store(RidgeEncoder(), X, y, tmp_path / f"{c}.zarr", chunk=c) for c in (11, 110, 256, 660, 990)]
    first, *others = (storage.open(path, lazy=False) for path in paths)
    assert all(first.identical(other) for other in others)


def test_worker_processes_give_the_same_bits(data, stored, tmp_path):
    paths = [
        fit_to_store(RidgeEncoder(), data[0], stored, tmp_path / f"{n}.zarr", chunk=256, executor=kind, n_workers=n)
        for n, kind in ((0, "serial"), (2, "processes"))
    ]
    here, there = (storage.open(path, lazy=False) for path in paths)
    assert here.identical(there)
    for executor in ("serial", "processes"):
        out = predict_to_store(paths[0], data[0], tmp_path / f"{executor}-p.zarr", executor=executor, n_workers=1)
        expected = load_fitted(paths[0]).predict(data[0])
        np.testing.assert_allclose(storage.open(out)["prediction"].values, expected.values, rtol=1e-4, atol=1e-5)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["0.zarr", "2.zarr", "processes-p.zarr", "serial-p.zarr"]


def test_a_dask_cluster_gives_the_same_bits(data, stored, reference, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        path = fit_to_store(RidgeEncoder(), data[0], stored, tmp_path / "r.zarr", chunk=512, executor=client)
    equal(storage.open(path), reference)


def test_threads_and_dask_arrays(data, reference, tmp_path):
    lazy = data[1].chunk(voxel=300)
    with ThreadPoolExecutor(2) as executor:
        path = fit_to_store(RidgeEncoder(), data[0], lazy, tmp_path / "r.zarr", chunk=512, executor=executor)
    equal(storage.open(path), reference)


def test_plain_arrays_and_memory_maps(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 30))
    np.save(tmp_path / "y.npy", y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    path = fit_to_store(RidgeEncoder(), x, mapped, tmp_path / "r.zarr", chunk=16)
    model = RidgeEncoder().fit(x, y)
    equal(storage.open(path), model, False)
    fitted = load_fitted(path)
    assert isinstance(fitted.predict(x), np.ndarray)
    np.testing.assert_allclose(fitted.predict(x), model.predict(x), rtol=1e-6)


def test_missing_and_constant_targets(data, tmp_path):
    X, y = data[0], data[1].copy(deep=True)
    y[3, 900], y[:, 2], y[:, 512:768] = np.nan, 5.0, np.inf
    with pytest.warns(UserWarning, match="257 of 1300 targets hold NaN or Inf and 1 of 1300 targets are constant"):
        path = fit_to_store(RidgeEncoder(), X, y, tmp_path / "r.zarr", chunk=256)
    with pytest.warns(UserWarning, match="257 of 1300"):
        model = RidgeEncoder().fit(X, y)
    ds = storage.open(path)
    equal(ds, model, False)
    np.testing.assert_array_equal(ds["masked"].values, model.masked_targets_)
    xr.testing.assert_allclose(load_fitted(path).predict(X), model.predict(X), atol=1e-5)
    with pytest.raises(SchemaError, match="hold NaN"):
        fit_to_store(RidgeEncoder(nan="raise"), X, y, tmp_path / "s.zarr", chunk=256)
    with pytest.raises(SchemaError, match="No target is finite"):
        fit_to_store(RidgeEncoder(), X, y * np.nan, tmp_path / "t.zarr")


@pytest.mark.parametrize("way", [False, "pooled"])
@pytest.mark.parametrize("cv", [3, "loo"])
def test_targets_that_choose_together(data, stored, tmp_path, way, cv):
    if (way, cv) == ("pooled", "loo"):
        with pytest.raises(ConfigError, match="held-out folds"):
            fit_to_store(RidgeEncoder(alpha_per_target=way, cv=cv), data[0], stored, tmp_path / "r.zarr")
        return
    X, y = data[0].drop_vars("stimulus"), stored.drop_vars("stimulus")
    encoder = RidgeEncoder(alpha_per_target=way, cv=cv, alphas=np.logspace(-1, 6, 30))
    model = clone(encoder).fit(X, y)
    stores = [
        storage.open(fit_to_store(encoder, X, y, tmp_path / f"{chunk}.zarr", chunk=chunk), lazy=False)
        for chunk in (100, 512, 2000)
    ]
    assert stores[0].identical(stores[1])
    assert stores[0].identical(stores[2])
    equal(stores[0], model)
    kept = stores[0]["scores" if way is False else "fold_scores"]
    assert kept.dims == (("alpha", "voxel") if way is False else ("fold", "alpha", "voxel"))
    mean = kept if way is False else kept.mean("fold")
    at_choice = mean.sel(alpha=stores[0]["alphas"])
    np.testing.assert_allclose(at_choice, stores[0]["cv_scores"], rtol=1e-12)
    if way is False:
        assert np.unique(stores[0]["alphas"]).size == 1
        assert stores[0]["alphas"][0] == kept["alpha"][int(mean.mean("voxel").values.argmax())]
    part = load_fitted(tmp_path / "100.zarr", isel={"voxel": [3, 700]})
    xr.testing.assert_allclose(part.predict(X), model.predict(X).isel(voxel=[3, 700]), atol=1e-5)


@pytest.mark.parametrize("way", [False, "pooled"])
def test_targets_that_choose_together_with_missing_and_held_out_ones(data, tmp_path, way):
    X, y = data[0], data[1].copy(deep=True)
    y[3, 900], y[:, 2], y[:, 512:768] = np.nan, 5.0, np.inf
    encoder = RidgeEncoder(alpha_per_target=way, scorer="r")
    with pytest.warns(UserWarning, match="257 of 1300"):
        path = fit_to_store(encoder, X[:70], y[:70], tmp_path / "r.zarr", chunk=256, test=(X[70:], y[70:]))
    with pytest.warns(UserWarning, match="257 of 1300"):
        model = clone(encoder).fit(X[:70], y[:70])
    ds = storage.open(path)
    equal(ds, model, False)
    np.testing.assert_allclose(ds["score"], model.score_map(X[70:], y[70:]), rtol=1e-4, atol=1e-5)


def mean_error(truth, predicted):
    return -np.square(truth - predicted).mean(axis=0)


@pytest.mark.parametrize("way", [True, False])
def test_scorers_that_are_functions(data, tmp_path, way):
    X, y = data[0], data[1][:, :300]
    encoder = RidgeEncoder(scorer=mean_error, alpha_per_target=way)
    paths = [fit_to_store(encoder, X, y, tmp_path / f"{kind}.zarr", executor=kind, n_workers=1, chunk=128,
                          test=(X, y)) for kind in ("serial", "processes")]  # fmt: skip
    model = clone(encoder).fit(X, y)
    assert storage.open(paths[0], lazy=False).identical(storage.open(paths[1], lazy=False))
    equal(storage.open(paths[0]), model, False)
    np.testing.assert_allclose(storage.open(paths[0])["score"], model.score_map(X, y), rtol=1e-5)
    with pytest.raises(ConfigError, match=r"mean_error[\s\S]*scorer=\.\.\."):
        load_fitted(paths[0]).score(X, y)
    xr.testing.assert_allclose(load_fitted(paths[0]).predict(X), model.predict(X), atol=1e-5)
    assert load_fitted(paths[0], scorer=mean_error).score(X, y) == pytest.approx(model.score(X, y), rel=1e-5)

    def mean_error_2(truth, predicted):
        return -np.abs(truth - predicted).mean(axis=0)

    mean_error_2.__qualname__ = "mean_error"  # edited meanwhile
    with pytest.raises(ConfigError, match="scorer"):
        fit_to_store(RidgeEncoder(scorer=mean_error_2, alpha_per_target=way), X, y, paths[0], chunk=128, test=(X, y))
    with pytest.raises(ConfigError, match="top of a module"):
        fit_to_store(RidgeEncoder(scorer=lambda a, b: a[0]), X, y, tmp_path / "l.zarr", executor="processes")


@pytest.mark.parametrize("p", [12, 150])
@pytest.mark.parametrize(
    "options", [{}, {"renormalise": True, "cv": "loo"}, {"alpha_per_target": False, "renormalise": True}]
)
def test_decoders_of_many_targets(tmp_path, p, options):
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((90, 400)) * np.geomspace(1e-3, 1e3, 400)
    brain = latents[:, :40] / np.geomspace(1e-3, 1e3, 400)[:40] @ rng.standard_normal((40, p))
    X, y = (
        labelled(brain + rng.standard_normal((90, p)), ("stimulus", "voxel")),
        labelled(latents, ("stimulus", "unit")),
    )
    y[4, 17], y[:, 3] = np.nan, 2.0
    decoder = RidgeDecoder(**options)
    with pytest.warns(NeuroalignWarning, match="1 of 400"):
        model = clone(decoder).fit(X, y)
    with pytest.warns(NeuroalignWarning, match="1 of 400"):
        path = fit_to_store(decoder, X, y, tmp_path / "r.zarr", chunk=150, executor="processes", n_workers=1)
    equal(storage.open(path), model, False)
    found, scale = load_fitted(path), np.abs(model.patterns_).max("voxel").fillna(1.0) + 1e-300
    np.testing.assert_allclose(found.patterns_ / scale, model.patterns_ / scale, atol=1e-6)
    few = load_fitted(path, isel={"unit": [5, 300]})
    np.testing.assert_allclose(few.patterns_, found.patterns_.isel(unit=[5, 300]))
    xr.testing.assert_allclose(found.predict(X), model.predict(X))


def test_several_target_dimensions_and_held_out_scores(tmp_path):
    rng = np.random.default_rng(1)
    X = labelled(rng.standard_normal((60, 4)), ("stimulus", "unit"), unit=list("abcd"))
    names = [f"E{k}" for k in range(7)]
    y = labelled(
        rng.standard_normal((60, 7, 5)), ("stimulus", "channel", "time"), channel=names, time=np.arange(5) / 100
    )
    y = y + X.values[:, :1, None]
    path = fit_to_store(
        RidgeEncoder(), X[:40], y.transpose("channel", "stimulus", "time")[:, :40], tmp_path / "r.zarr",
        chunk=11, test=(X[40:], y[40:].transpose("time", "channel", "stimulus")),
    )  # fmt: skip
    model, ds = RidgeEncoder().fit(X[:40], y[:40]), storage.open(path)
    equal(ds, model, False)
    xr.testing.assert_allclose(ds["coef"], model.coef_)
    xr.testing.assert_allclose(ds["score"], model.score_map(X[40:], y[40:]))
    part = load_fitted(path, sel={"channel": ["E5", "E1"]}, isel={"time": slice(1, 3)})
    xr.testing.assert_allclose(part.predict(X), model.predict(X).sel(channel=["E5", "E1"]).isel(time=slice(1, 3)))
    assert load_fitted(path, sel={"channel": "E2"}).coef_.sizes == {"unit": 4, "channel": 1, "time": 5}
    predicted = storage.open(predict_to_store(path, X[40:], tmp_path / "p.zarr"))["prediction"]
    xr.testing.assert_allclose(predicted.drop_attrs(), model.predict(X[40:]).drop_attrs())


def test_a_store_a_fold_scores_as_cross_validate_does(data, stored, tmp_path):
    X, y = data[0], stored.isel(voxel=slice(0, 300))
    folds, model = resolve_cv(3, X, y), RidgeEncoder(cv=4)
    for k, (train, test) in enumerate(folds):
        held_out = X.isel(stimulus=test), y.isel(stimulus=test)
        path = tmp_path / f"fold-{k}.zarr"
        fit_to_store(model, X.isel(stimulus=train), y.isel(stimulus=train), path, test=held_out, chunk=128)
    scores = [storage.open(tmp_path / f"fold-{k}.zarr")["score"].values for k in range(3)]
    expected = cross_validate(model, X, y, cv=folds).data["fold_score"]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_few_targets_are_read_without_the_others(data, stored, tmp_path):
    path = fit_to_store(RidgeEncoder(), data[0], stored, tmp_path / "r.zarr", chunk=512)
    for k in (1, 2):  # the weights of other blocks are gone: nobody asks for them
        file = path / "coef" / "c" / "0" / str(k)
        file.write_bytes(bytes(file.stat().st_size))
    assert load_fitted(path, isel={"voxel": slice(10, 20)}).coef_.sizes == {"unit": P, "voxel": 10}
    with pytest.raises(NeuroalignError, match="coef"):
        load_fitted(path, isel={"voxel": [600]})


def test_response_functions_go_the_same_way(tmp_path):
    rng = np.random.default_rng(2)
    time = np.arange(400) / 100
    X = xr.DataArray(rng.standard_normal((400, 2)), dims=("time", "unit"), coords={"time": time})
    y = xr.DataArray(rng.standard_normal((400, 6)), dims=("time", "channel"), coords={"time": time})
    y[2:, 0] = X[:-2, 0].values
    path = fit_to_store(TRFEncoder(tmin=0.0, tmax=0.03), X, y, tmp_path / "r.zarr", chunk=4)
    fitted, expected = load_fitted(path), TRFEncoder(tmin=0.0, tmax=0.03).fit(X, y)
    xr.testing.assert_allclose(fitted.coef_, expected.coef_)
    xr.testing.assert_allclose(fitted.predict(X), expected.predict(X))
    weights = storage.open(path)["coef"].transpose(*expected.coef_.dims)
    np.testing.assert_allclose(weights.values, expected.coef_.values)


def test_banded_models_go_the_same_way(tmp_path):
    rng = np.random.default_rng(0)
    ids = {"stimulus": [f"s{k}" for k in range(60)]}
    spaces = {
        name: xr.DataArray(rng.normal(size=(60, p)), dims=("stimulus", "unit"), coords=ids)
        for name, p in (("vision", 4), ("semantics", 3))
    }
    values = np.repeat(spaces["vision"].values @ rng.normal(size=(4, 3)), 200, axis=1) + rng.normal(size=(60, 600))
    values[3, 7], values[:, 8] = np.nan, 1.0
    X, y = join(spaces, xr.DataArray(values, dims=("stimulus", "voxel"), coords=ids | {"voxel": np.arange(600)}))
    encoder = BandedRidgeEncoder(cv=3, n_iter=5, random_state=0)
    with pytest.warns(NeuroalignWarning, match="hold NaN"):
        whole = clone(encoder).fit(X, y)
    with pytest.warns(NeuroalignWarning, match="hold NaN"):
        path = fit_to_store(encoder, X, y, tmp_path / "b.zarr", chunk=256)
    assert storage.open(path)["band_weights"].dims == ("space", "voxel")
    part = load_fitted(path)
    for name in ("coef_", "intercept_", "alphas_", "band_weights_", "cv_scores_"):
        xr.testing.assert_allclose(getattr(part, name), getattr(whole, name), rtol=1e-9, atol=1e-12)
    few = load_fitted(path, isel={"voxel": [3, 300]})
    np.testing.assert_allclose(few.predict_bands(X), whole.predict_bands(X).isel(voxel=[3, 300]), atol=1e-9)


@pytest.mark.parametrize("n", [60, 25])  # primal and dual
@pytest.mark.parametrize("room", [2**28, 30_000, 0])
def test_banded_blocks_share_their_decompositions(tmp_path, monkeypatch, n, room):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, 40)).astype("float32"), rng.standard_normal((n, 900)).astype("float32")
    y[:, :300] += 3 * X[:, :1]
    X = xr.DataArray(X, dims=("stimulus", "unit"), coords={"band": ("unit", np.repeat(["a", "b"], 20))})
    y, encoder = xr.DataArray(y, dims=("stimulus", "voxel")), BandedRidgeEncoder(cv=3, n_iter=6, random_state=0)
    monkeypatch.setattr(KeptPaths.__init__, "__defaults__", (room,))
    counts, eigh = [], _banded_plan.eigh

    def counting(gram, size=0.0):
        counts[-1] += 1
        return eigh(gram, size)

    monkeypatch.setattr(_banded_plan, "eigh", counting)
    stores = []
    for chunk in (128, 900):
        counts.append(0)
        stores.append(storage.open(fit_to_store(encoder, X, y, tmp_path / f"{chunk}.zarr", chunk=chunk), lazy=False))
    once = 2 * (n == 60) + 3 * 6 + 6  # bands, folds by candidates, all samples by candidates
    assert counts[1] <= (once if room == 2**28 else 2 * once)
    assert (counts[0] <= once) == (room == 2**28)
    for name in ("alphas", "band_weights", "cv_scores"):
        np.testing.assert_array_equal(stores[0][name], stores[1][name])
    np.testing.assert_allclose(stores[0]["coef"], stores[1]["coef"], rtol=1e-5, atol=1e-7)
    whole = clone(encoder).fit(X, y)
    np.testing.assert_allclose(stores[0]["coef"], whole.coef_, rtol=1e-5, atol=1e-7)
    assert load_fitted(tmp_path / "128.zarr").alpha_edges_ == whole.alpha_edges_


def test_threads_that_share_decompositions_do_not_mix_them(monkeypatch):
    """Threads of an executor, or of a dask worker, fit blocks with the same plan: one comes between here."""
    shared, other, rng = _banded_plan._LastBasis(), [], np.random.default_rng(0)
    sides, alphas = rng.standard_normal((5, 8)), np.ones(8)
    grams = [part @ part.T for part in rng.standard_normal((2, 5, 9))]

    def solve(number):
        return shared.solve(np.eye(2)[number], lambda: grams[number], sides, alphas)

    class Basis(np.ndarray):
        @property
        def nbytes(self):  # is asked for when the basis was just made
            if not other:
                other.append(None)
                other.append(solve(1))
            return 0

    eigh = _banded_plan.eigh
    monkeypatch.setattr(_banded_plan, "eigh", lambda gram: tuple(part.view(Basis) for part in eigh(gram)))
    found = solve(0)
    for gram, result in zip(grams, (found, other[1]), strict=True):
        np.testing.assert_allclose(result, np.linalg.solve(gram + np.eye(5), sides))


def test_names_that_features_and_targets_share(tmp_path):
    rng = np.random.default_rng(0)
    X = labelled(rng.standard_normal((40, 3)), ("stimulus", "unit"), unit=list("abc"))
    y = labelled(rng.standard_normal((40, 4)), ("stimulus", "unit"), unit=list("wxyz"))
    path = fit_to_store(RidgeEncoder(), X, y, tmp_path / "r.zarr")
    assert storage.open(path)["coef"].dims == ("unit", "unit_out")
    model = RidgeEncoder().fit(X, y)
    xr.testing.assert_allclose(load_fitted(path).predict(X), model.predict(X))
    xr.testing.assert_allclose(load_fitted(path, sel={"unit_out": ["y"]}).predict(X), model.predict(X)[:, [2]])


def test_the_solver_in_two_steps_is_the_solver(data):
    x, y = data[0].values, data[1].values
    test = np.arange(N) < 45
    folds, alphas = [(test, ~test), (~test, test)], np.logspace(-2, 4, 7)
    whole, part = ridge_cv(x, y, alphas=alphas, folds=folds), ridge_chunk(ridge_plan(x, alphas=alphas, folds=folds), y)
    for name in ("coef", "intercept", "alphas", "scores", "cv_scores", "edge"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))
    with pytest.raises(SchemaError, match="number of samples"):
        ridge_chunk(ridge_plan(x, alphas=alphas, folds=folds), y[:-1])


def test_other_inputs_are_not_mixed(data, tmp_path):
    X, y = data[0], data[1][:, :40]
    path = fit_to_store(RidgeEncoder(), X, y, tmp_path / "r.zarr")
    written = (path / "manifest.json").stat().st_mtime_ns
    assert fit_to_store(RidgeEncoder(), X, y.copy(), path) == path
    assert (path / "manifest.json").stat().st_mtime_ns == written
    for estimator, features, responses in (
        (RidgeEncoder(scorer="r"), X, y),
        (RidgeEncoder(), X + 1, y),
        (RidgeEncoder(), X, y + 1),
        (RidgeEncoder(), X, y.assign_coords(roi=("voxel", ["V1"] * 40))),
    ):
        with pytest.raises(ConfigError, match="resume=False"):
            fit_to_store(estimator, features, responses, path)
    fit_to_store(RidgeEncoder(), X, y + 1, path, resume=False)
    np.testing.assert_allclose(storage.open(path)["intercept"], RidgeEncoder().fit(X, y + 1).intercept_, rtol=1e-5)


def test_a_narrow_grid_warns_once(data, tmp_path):
    with pytest.warns(UserWarning, match="too narrow") as caught:
        path = fit_to_store(RidgeEncoder(alphas=[1e7, 1e8]), data[0], data[1], tmp_path / "r.zarr", chunk=256)
    assert len(caught) == 1
    assert load_fitted(path).alpha_edges_ == [1.0, 0.0]


@pytest.mark.filterwarnings("ignore:The grid")
def test_bad_input(data, tmp_path):
    X, y = data
    path = tmp_path / "r.zarr"
    for bad, error, words in (
        (lambda: fit_to_store(RidgeEncoder(alpha_per_target="some"), X, y, path), ConfigError, "share alphas"),
        (lambda: fit_to_store(TRFEncoder(alphas=AlphaGrid(per_target=False)), X, y, path), ConfigError, "in memory"),
        (lambda: fit_to_store(TRFDecoder(), X, y, path), ConfigError, "patterns are learned from all"),
        (lambda: fit_to_store(BandedRidgeEncoder(), X, y, path), ConfigError, "random_state=0"),
        (lambda: fit_to_store(PriorRidgeEncoder(), X, y, path), ConfigError, "pull and trust are learned from all"),
        (lambda: fit_to_store("ridge", X, y, path), ConfigError, "block by block"),
        (lambda: fit_to_store(RidgeEncoder(), X, y[::-1], path), AlignmentError, "differ"),
        (lambda: fit_to_store(RidgeEncoder(), X, y.values, path), LabelsLostError, "y has lost"),
        (lambda: fit_to_store(RidgeEncoder(), X, y[:, 0], path), SchemaError, "only one target"),
        (lambda: fit_to_store(RidgeEncoder(), X, y, path, chunk=0), ConfigError, "number of targets"),
        (lambda: fit_to_store(RidgeEncoder(), X, y, path, executor="threads"), ConfigError, "serial"),
        (lambda: fit_to_store(RidgeEncoder(), X, y, path, executor=3, resume=False), ConfigError, "Not an executor"),
        (lambda: fit_to_store(RidgeEncoder(), X, y, path, test=(X, y[:, 1:]), resume=False), AlignmentError, "shape"),
        (lambda: fit_to_store(RidgeEncoder(), X.values, y.values[:-1], path), SchemaError, "fit together"),
    ):
        with pytest.raises(error, match=words):
            bad()
    assert not path.exists()
    with pytest.raises(ConfigError, match="no fitted model"):
        load_fitted(storage.save(y, tmp_path / "y.zarr"))
    fit_to_store(RidgeEncoder(), X, y, path, resume=False)
    for picks in ({"isel": {"time": 3}}, {"isel": {"voxel": 5000}}):
        with pytest.raises(ConfigError, match="No such"):
            load_fitted(path, **picks)


def test_real_responses_go_the_same_way(real_data, tmp_path):
    with np.load(real_data("objects81-fmri-alexnet-w2v") / "roi_data.npz", allow_pickle=False) as tables:
        name = max((n for n in tables.files if tables[n].ndim == 2), key=lambda n: tables[n].size)
        y = np.nan_to_num(tables[name].astype("float32"))
    y = y[:, y.std(axis=0) > 0]
    X = np.random.default_rng(0).standard_normal((len(y), 5)).astype("float32")
    path = fit_to_store(RidgeEncoder(), X, y, tmp_path / "r.zarr", chunk=256)
    equal(storage.open(path), RidgeEncoder().fit(X, y), False)


def test_shapes_of_pieces():
    assert piece_shape((10,), 100) == (10,)
    assert piece_shape((5, 4, 3), 24) == (2, 4, 3)
    assert piece_shape((5, 1, 3), 3) == (1, 1, 3)
    assert piece_shape((5, 4), 1) == (1, 1)


def double(item, shared):
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return float(item * shared["weights"].sum())


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_pieces_outlive_a_dead_worker():
    shared = {"weights": np.ones(20_000)}
    outcome = run_pieces(double, [1, "die", 2, 3, 4], shared=shared, executor="processes", n_workers=2)
    assert outcome.results == {0: 20_000.0, 2: 40_000.0, 3: 60_000.0, 4: 80_000.0}
    assert list(outcome.failures) == [1]
    assert "died" in str(outcome.failures[1])


def divide(item, shared):
    return 1 / item


def test_after_ten_failures_the_rest_is_left_out():
    outcome = run_pieces(divide, [1, *[0] * 20])
    assert outcome.results == {0: 1.0}
    assert len(outcome.failures) == 10
    assert len(outcome.untried) == 10


def test_a_shared_value_is_mapped_not_copied(tmp_path):
    value = {"a": np.arange(60_000.0).reshape(200, 300), "b": [np.asfortranarray(np.ones((300, 200)) * 2)], "c": "text"}
    with get_executor("processes", 1) as pool, share(value, pool, tmp_path) as handle:
        (file,) = tmp_path.iterdir()
        assert file.stat().st_size >= value["a"].nbytes + value["b"][0].nbytes
        there = received(handle)
        np.testing.assert_array_equal(there["a"], value["a"])
        assert there["b"][0].flags.f_contiguous
        assert there["c"] == "text"
        assert not there["a"].flags.writeable
        assert received(handle) is there
    assert not list(tmp_path.iterdir())
