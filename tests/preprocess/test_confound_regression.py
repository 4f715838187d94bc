"""Confound regression against dense least squares, nilearn, known answers and a real fMRIPrep run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuroalign import align, load_model, schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import ConfoundRegressor, Standardizer
from neuroalign.preprocess._nuisance import nuisance_basis
from neuroalign.preprocess.hrf import cosine_drift

TR, N, SITES = 2.0, 120, 7
ORDER_MATTERS = {
    "check_methods_sample_order_invariance": "samples are points in time, whose order matters",
    "check_methods_subset_invariance": "residuals depend on the whole run",
}


@parametrize_with_checks(
    [ConfoundRegressor(), ConfoundRegressor(high_pass=0.1, standardize="z", sfreq=1.0)],
    expected_failed_checks=lambda e: ORDER_MATTERS,
)
def test_scikit_learn_contract(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def table(n: int = N, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(size=n).cumsum(), rng.normal(size=n), 1e4 + 1e-3 * rng.normal(size=n)])


def values(n: int = N, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drift = np.linspace(-1, 1, n)[:, None] * rng.normal(0, 20, SITES)
    confounds = table(n) - table(n).mean(axis=0)
    return 1000 + 5 * rng.normal(size=(n, SITES)) + drift + confounds @ rng.normal(size=(3, SITES))


def run(n: int = N, seed: int = 0, **more: object) -> xr.Dataset:
    ds = schema.fmri_masked(
        values(n, seed),
        ijk=np.arange(3 * SITES).reshape(SITES, 3),
        affine=np.eye(4),
        tr=TR,
        volume_shape=(30, 30, 30),
        events=pd.DataFrame({"onset": [4.0], "duration": [1.0]}),
    )
    ds = ds.assign(confounds=(("time", "confound"), table(n))).assign_coords(confound=["drift", "noise", "offset"])
    return ds.assign(bold=ds["bold"].astype(np.float64)).assign_coords(**more)


def dense(y: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Residuals by the pseudo-inverse of everything, centred and scaled."""
    design = np.column_stack([c - c.mean(axis=0) for c in columns])
    design = np.column_stack([np.ones(len(y)), design / np.linalg.norm(design, axis=0)])
    return y - design @ (np.linalg.pinv(design) @ y)


@pytest.mark.parametrize("high_pass", [None, 0.01])
@pytest.mark.parametrize("detrend", [0, 1, 3])
def test_one_projection_equals_dense_least_squares(detrend: int, high_pass: float | None) -> None:
    ds = run()
    out = ConfoundRegressor(detrend=detrend, high_pass=high_pass).fit_transform(ds)
    t = np.linspace(-1, 1, N)
    columns = [table(), *(t[:, None] ** p for p in range(1, detrend + 1))]
    columns += [] if high_pass is None else [cosine_drift(N, 1 / TR, high_pass)]
    np.testing.assert_allclose(out["bold"].values, dense(ds["bold"].values, *columns), atol=1e-7)
    assert set(out["dof"].values.tolist()) == {N - 1 - sum(c.shape[1] for c in columns)}
    assert "valid" not in out.coords


@pytest.mark.parametrize("standardize", [None, "z", "%"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("detrend", [True, False])
def test_it_equals_nilearn(standardize: str | None, masked: bool, detrend: bool) -> None:
    from nilearn.signal import clean

    if masked and detrend:  # nilearn counts the volumes that are left, not time
        return
    # No slow confounds: nilearn leaves its filter out where a confound correlates with one of its cosines.
    y, confounds = values(), table()[:, 1:]
    keep = np.ones(N, dtype=bool)
    keep[[0, 1, 50, 51, 90]] = not masked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = clean(
            y,
            detrend=detrend,
            standardize={None: None, "z": "zscore_sample", "%": "psc"}[standardize],
            confounds=confounds,
            filter="cosine",
            high_pass=0.01,
            t_r=TR,
            sample_mask=np.flatnonzero(keep) if masked else None,
        )
    ours = ConfoundRegressor(
        confounds,
        detrend=int(detrend),
        high_pass=0.01,
        standardize=standardize,
        keep_mean=standardize is None and not detrend,
        sample_mask=keep if masked else None,
        sfreq=1 / TR,
    ).fit_transform(y)
    assert np.isnan(ours[~keep]).all()
    if standardize == "z":  # they divide by n - 1
        theirs *= np.sqrt(keep.sum() / (keep.sum() - 1))
    np.testing.assert_allclose(ours[keep], theirs, atol=1e-5)


def test_filtered_variance_is_not_brought_back() -> None:
    """Filtering and then regressing unfiltered confounds leaves slow variance; one projection does not."""
    ds = run()
    slow = cosine_drift(N, 1 / TR, 0.02)
    y = ds["bold"].values - ds["bold"].values.mean(axis=0)
    filtered = y - slow @ (slow.T @ y)
    basis = nuisance_basis(table())
    stepwise = filtered - basis @ (basis.T @ filtered)
    joint = ConfoundRegressor(detrend=0, high_pass=0.02).fit_transform(ds)["bold"].values
    assert np.abs(slow.T @ stepwise).max() > 1.0
    assert np.abs(slow.T @ joint).max() < 1e-8
    assert np.abs(basis.T @ joint).max() < 1e-8


def test_copies_constants_and_offsets_count_once() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, N))
    offset = 1e4 + 1e-3 * b
    columns = np.column_stack([a, 3 * a - 7, a + b, np.full(N, 5.0), np.zeros(N), offset, b, np.linspace(0, 1, N)])
    basis = nuisance_basis(columns)
    assert basis.shape[1] == 1 + 3  # the constant, a, b and a line
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-12)
    assert nuisance_basis(np.full((N, 2), 1e4)).shape[1] == 1
    x = columns @ rng.normal(size=(8, 2))
    out = ConfoundRegressor(columns).fit_transform(np.column_stack([x, rng.normal(size=N)]))
    np.testing.assert_array_equal(out[:, :2], 0)
    assert np.abs(out[:, 2]).max() > 1
    single = ConfoundRegressor(columns.astype(np.float32)).fit_transform(x.astype(np.float32))
    assert single.dtype == np.float32


def test_volumes_left_out_are_nan_and_change_nothing_else() -> None:
    ds = run()
    keep = np.ones(N, dtype=bool)
    keep[[5, 6, 40, 77]] = False
    broken = ds.assign(bold=ds["bold"].where(xr.DataArray(keep, dims="time"), 1e6))
    broken = broken.assign(confounds=broken["confounds"].where(xr.DataArray(keep, dims="time")))  # n/a in the table
    step = ConfoundRegressor(high_pass=0.01, standardize="z")
    out = step.fit_transform(broken.assign_coords(sample_mask=("time", keep)))
    assert out["valid"].values.tolist() == keep.tolist()
    assert np.isnan(out["bold"].values[~keep]).all()
    schema.validate(out, "fmri")
    taken_out = step.fit_transform(ds.isel(time=np.flatnonzero(keep)))  # a gap is the same
    np.testing.assert_allclose(out["bold"].values[keep], taken_out["bold"].values, atol=1e-9)
    assert out["dof"].values[0] == taken_out["dof"].values[0]
    by_valid = step.fit_transform(broken.assign_coords(valid=("time", keep)))
    np.testing.assert_array_equal(by_valid["bold"].values, out["bold"].values)
    by_argument = ConfoundRegressor(high_pass=0.01, standardize="z", sample_mask=keep).fit_transform(broken)
    np.testing.assert_array_equal(by_argument["bold"].values, out["bold"].values)
    np.testing.assert_allclose(out["bold"].std("time").values, 1)


def test_degrees_of_freedom_are_those_of_the_noise() -> None:
    """Divided by dof, the squared residuals of white noise are its variance."""
    keep = np.random.default_rng(2).random(60) > 0.2
    confounds = np.random.default_rng(3).normal(size=(60, 12))
    noise = np.random.default_rng(4).normal(size=(60, 4000))
    ds = schema.fmri_regions(noise, roi=[str(k) for k in range(4000)], tr=TR)
    out = ConfoundRegressor(confounds, detrend=2, sample_mask=keep).fit_transform(ds)
    dof = int(out["dof"][0])
    assert dof == keep.sum() - 15
    variance = np.nansum(out["bold"].values ** 2, axis=0) / dof
    assert variance.mean() == pytest.approx(1, abs=0.02)


def test_runs_are_cleaned_alone() -> None:
    first, second = run(seed=1), run(80, seed=2)
    step = ConfoundRegressor(detrend=2, high_pass=0.01, standardize="%")
    alone = [step.fit_transform(ds) for ds in (first, second)]
    both = step.fit_transform(align.concat([first, second]))
    np.testing.assert_allclose(both["bold"].values, np.concatenate([a["bold"].values for a in alone]), atol=1e-9)
    assert both["dof"].values[[0, -1]].tolist() == [alone[0]["dof"].values[0], alone[1]["dof"].values[0]]
    assert both["dof"].values[0] != both["dof"].values[-1]
    tree = xr.DataTree.from_dict({"/sub-01/run-1": first, "/sub-01/run-2": second})
    cleaned = step.fit(tree).transform(tree)
    xr.testing.assert_identical(cleaned["sub-01/run-2"].to_dataset()["bold"], alone[1]["bold"])
    assert [n.path for n in cleaned.leaves] == ["/sub-01/run-1", "/sub-01/run-2"]
    unlabelled = xr.concat([first["bold"], second["bold"]], "time")  # the clock starts again
    confounds = np.concatenate([table(), table(80)])
    again = ConfoundRegressor(confounds, detrend=2, high_pass=0.01, standardize="%").fit_transform(unlabelled)
    np.testing.assert_allclose(again.values, both["bold"].values, atol=1e-9)


def test_a_dataset_keeps_its_labels_and_says_what_was_done() -> None:
    ds = run()
    out = ConfoundRegressor(["noise"], standardize="%").fit_transform(ds)
    schema.validate(out, "fmri")
    assert out.attrs["units"] == out["bold"].attrs["units"] == "%"
    assert out["onset"].values.tolist() == [4.0]
    assert out["bold"].attrs["affine"] == ds.attrs["affine"]
    step = schema.history(out)["steps"][-1]
    assert (step["step"], step["confounds"], step["standardize"]) == ("ConfoundRegressor", ["noise"], "%")
    none = ConfoundRegressor([], keep_mean=True, detrend=0).fit_transform(ds)
    np.testing.assert_allclose(none["bold"].values, ds["bold"].values)
    assert none.attrs["units"] == "a.u."
    given = ConfoundRegressor(ds["confounds"].sel(confound=["noise"]), standardize="%").fit_transform(ds["bold"])
    np.testing.assert_array_equal(given.values, out["bold"].values)


def test_all_kinds_of_sites() -> None:
    ds = run()
    expected = ConfoundRegressor().fit_transform(ds)["bold"].values
    volume = schema.fmri_volume(ds["bold"].values.reshape(N, 1, SITES, 1), affine=np.eye(4), tr=TR)
    out = ConfoundRegressor(table()).fit_transform(volume)
    assert out["bold"].dims == ("time", "k", "j", "i")
    np.testing.assert_allclose(out["bold"].values.reshape(N, SITES), expected)
    surface = schema.fmri_surface(ds["bold"].values, hemi="L", tr=TR)
    np.testing.assert_allclose(ConfoundRegressor(table()).fit_transform(surface)["bold"].values, expected)
    turned = ConfoundRegressor(table()).fit_transform(ds["bold"].transpose("voxel", "time"))
    np.testing.assert_allclose(turned.values.T, expected)


def test_missing_sites_stay_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = run()
    hole = ds.assign(bold=ds["bold"].where(ds["voxel"] != 2))
    out = ConfoundRegressor(standardize="z").fit_transform(hole)["bold"]
    whole = ConfoundRegressor(standardize="z").fit_transform(ds)["bold"]
    assert np.isnan(out.values[:, 2]).all()
    np.testing.assert_allclose(np.delete(out.values, 2, 1), np.delete(whole.values, 2, 1))
    monkeypatch.setattr("neuroalign.preprocess._nuisance._TILE_BYTES", 8 * N * 3)
    np.testing.assert_allclose(ConfoundRegressor(standardize="z").fit_transform(ds)["bold"].values, whole.values)
    flat = ds.assign(bold=ds["bold"].where(ds["voxel"] != 2, 700.0))
    assert not ConfoundRegressor(standardize="z").fit_transform(flat)["bold"].values[:, 2].any()
    dark = ds.assign(bold=ds["bold"].where(ds["voxel"] != 2, 0.0))
    assert np.isnan(ConfoundRegressor(standardize="%").fit_transform(dark)["bold"].values[:, 2]).all()


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(8, 40),
    n_confounds=st.integers(0, 4),
    order=st.integers(0, 2),
    seed=st.integers(0, 99),
    bad=st.integers(0, 2),
)
def test_residuals_are_orthogonal_and_idempotent(n: int, n_confounds: int, order: int, seed: int, bad: int) -> None:
    rng = np.random.default_rng(seed)
    keep = np.arange(n) >= bad
    confounds = rng.normal(size=(n, n_confounds)) * 10.0 ** rng.integers(-3, 4, n_confounds)
    y = rng.normal(size=(n, 3))
    step = ConfoundRegressor(confounds, detrend=order, sample_mask=keep)
    if keep.sum() <= n_confounds + order + 1:
        return
    out = step.fit_transform(y)
    np.testing.assert_allclose((confounds[keep].T @ out[keep]) / np.abs(confounds).max(initial=1), 0, atol=1e-9)
    np.testing.assert_allclose(out[keep].mean(axis=0), 0, atol=1e-12)
    again = step.fit_transform(np.nan_to_num(out))
    np.testing.assert_allclose(again[keep], out[keep], atol=1e-9)


def test_cloned_saved_and_in_a_pipeline(tmp_path: Path) -> None:
    ds = run()
    step = clone(ConfoundRegressor(table(), high_pass=0.01, standardize="z")).fit(ds["bold"])
    step.save(tmp_path / "step")
    xr.testing.assert_identical(load_model(tmp_path / "step").transform(ds["bold"]), step.transform(ds["bold"]))
    out = make_pipeline(ConfoundRegressor(table()), Standardizer()).fit_transform(ds["bold"])
    np.testing.assert_allclose(out.std("time").values, 1)


def test_faults_are_named() -> None:
    ds = run()
    bad = ds["confounds"].copy()
    bad[0, 0] = np.nan
    cases: list[tuple[dict[str, object], xr.Dataset | xr.DataArray, type[Exception], str]] = [
        ({}, ds.assign(confounds=bad), SchemaError, "sample_mask"),
        ({"confounds": np.ones((5, 1))}, ds, AlignmentError, "one row a volume"),
        ({"confounds": ["motion"]}, ds, ConfigError, "no such confounds"),
        ({"confounds": ["motion"]}, ds["bold"], ConfigError, "no confounds"),
        ({"confounds": ds["confounds"].assign_coords(time=ds["time"] + 2 * TR)}, ds, AlignmentError, "differ in"),
        ({"confounds": np.random.default_rng(0).normal(size=(N, N))}, ds, SchemaError, "too few volumes"),
        ({"sample_mask": np.zeros(N, dtype=bool)}, ds, SchemaError, "too few volumes"),
        ({"sample_mask": np.arange(5)}, ds, ConfigError, "np.isin"),
        ({"standardize": "psc"}, ds, ConfigError, "Unknown scale"),
        ({"standardize": "z", "keep_mean": True}, ds, ConfigError, "keep_mean"),
        ({"detrend": -1}, ds, ConfigError, "order of drift"),
        ({"high_pass": 0.5}, ds, ConfigError, "high-pass"),
        ({}, ds.assign(bold=ds["bold"].where(ds["bold"] > 1000)), SchemaError, "NaN"),
        ({"standardize": "%"}, ds.assign(bold=ds["bold"] - 1e6), SchemaError, "positive mean"),
        ({}, ConfoundRegressor().fit_transform(ds), ConfigError, "cleaned before"),
        ({}, xr.Dataset(), AlignmentError, "no fMRI run"),
    ]
    for options, data, error, message in cases:
        with pytest.raises(error, match=message):
            ConfoundRegressor(**options).fit_transform(data)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="high-pass"):
        ConfoundRegressor(high_pass=0.01).fit_transform(values())
    with pytest.raises(AlignmentError, match="another shape"):
        ConfoundRegressor().fit(ds).transform(ds.isel(voxel=slice(3)))


def test_real_run_with_its_confounds(real_data: Callable[[str], Path]) -> None:
    """The table of fMRIPrep has duplicated drift, n/a in its first row and one non-steady-state volume."""
    from nilearn.signal import clean

    from neuroalign.loaders import read_fmri, read_tsv

    folder = real_data("fmriprep-visualcontrol")
    mask = read_fmri(next(folder.glob("*_dseg.nii.gz")))["map"].values > 0
    ds = read_fmri(next(folder.glob("*_bold.nii.gz")), tr=1.0)
    bold = ds["bold"].values[:, mask].astype(np.float64)
    frame = read_tsv(next(folder.glob("*_regressors.tsv")))
    keep = (frame["NonSteadyStateOutlier00"] == 0).to_numpy()
    names = [
        "X",
        "Y",
        "Z",
        "RotX",
        "RotY",
        "RotZ",
        "CSF",
        "WhiteMatter",
        "Cosine00",
        "Cosine01",
        "FramewiseDisplacement",
    ]
    confounds = frame[names].to_numpy()
    assert np.isnan(confounds[~keep]).any()
    run = schema.fmri_regions(bold, roi=[str(k) for k in range(bold.shape[1])], tr=1.0)
    run = run.assign(bold=run["bold"].astype(np.float64), confounds=(("time", "confound"), confounds))
    run = run.assign_coords(confound=names, sample_mask=("time", keep))
    out = ConfoundRegressor(detrend=0, high_pass=0.008).fit_transform(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = clean(
            bold,
            detrend=False,
            standardize=None,
            confounds=np.column_stack([np.nan_to_num(confounds), cosine_drift(len(keep), 1.0, 0.008)]),
            filter=False,
            sample_mask=np.flatnonzero(keep),
        )
    np.testing.assert_allclose(out["bold"].values[keep], theirs - theirs.mean(axis=0), atol=2e-2)
    assert keep.sum() - 1 - len(names) - 4 <= int(out["dof"][0]) < keep.sum() - len(names)
    before = run["bold"].values[keep].std(axis=0).mean()
    assert out["bold"].values[keep].std(axis=0).mean() < 0.8 * before
