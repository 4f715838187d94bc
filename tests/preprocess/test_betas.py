"""Single-trial responses: known answers, slow references, nilearn, and a real run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuroalign import schema
from neuroalign.errors import AlignmentError, ConfigError, SchemaError
from neuroalign.preprocess import SingleTrialBetas
from neuroalign.preprocess.hrf import cosine_drift, event_regressors

TR, N = 2.0, 200


def table(n: int = 20, seed: int = 0, gap: float = 16.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    onset = 5.0 + gap * np.arange(n) + rng.uniform(0, 4, n)
    ids = [f"s{i:02d}" for i in rng.permutation(n)]
    return pd.DataFrame({"onset": onset, "duration": 2.0, "stimulus_id": ids, "trial_type": "image"})


def simulate(events: pd.DataFrame, *, noise: float, seed: int = 0) -> tuple[xr.Dataset, np.ndarray]:
    rng = np.random.default_rng(seed)
    times = np.arange(N) * TR
    truth = rng.normal(2, 1, (len(events), 5))
    bold = event_regressors("spm", events["onset"], events["duration"], times) @ truth
    drift = cosine_drift(N, 1 / TR, 0.008) @ rng.normal(0, 20, (cosine_drift(N, 1 / TR, 0.008).shape[1], 5))
    values = 100 + bold + drift + noise * rng.normal(size=bold.shape)
    ds = schema.fmri_masked(
        values, ijk=np.arange(15).reshape(5, 3), affine=np.eye(4), tr=TR, volume_shape=(20, 20, 20), events=events
    )
    return ds.assign_attrs(subject="01", run="02"), truth


@pytest.mark.parametrize("method", ["lsa", "lss"])
def test_known_answer(method: str) -> None:
    events = table()
    ds, truth = simulate(events, noise=0.0)
    betas = SingleTrialBetas(method=method).fit_transform(ds)
    assert betas.dims == ("trial", "voxel")
    if method == "lsa":
        np.testing.assert_allclose(betas.values, truth, atol=1e-4)
    assert np.corrcoef(betas.values.ravel(), truth.ravel())[0, 1] > 0.95
    assert betas["stimulus_id"].values.tolist() == events["stimulus_id"].tolist()
    assert set(betas["run"].values) == {"02"}
    np.testing.assert_array_equal(betas["i"].values, ds["i"].values)
    assert betas.attrs["volume_shape"] == [20, 20, 20]
    assert schema.history(betas)["steps"][-1]["step"] == "SingleTrialBetas"


def test_noise_of_the_betas_is_as_theory_says() -> None:
    events = table()
    times = np.arange(N) * TR
    design = np.column_stack(
        [event_regressors("spm", events["onset"], 2.0, times), cosine_drift(N, 1 / TR, 0.01), np.ones(N)]
    )
    expected = np.sqrt(np.diag(np.linalg.inv(design.T @ design))[: len(events)])
    errors = []
    for seed in range(40):
        ds, truth = simulate(events, noise=1.0, seed=seed)
        errors.append(SingleTrialBetas().fit_transform(ds).values - truth)
    spread = np.std(np.concatenate(errors, axis=1), axis=1)
    np.testing.assert_allclose(spread, expected, rtol=0.25)


def test_separate_models_equal_the_obvious_loop() -> None:
    events = table(25, gap=6.0)
    ds, _ = simulate(events, noise=1.0)
    betas = SingleTrialBetas(method="lss").fit_transform(ds).values
    times = np.arange(N) * TR
    trials = event_regressors("spm", events["onset"], events["duration"], times)
    nuisance = np.column_stack([cosine_drift(N, 1 / TR, 0.01), np.ones(N)])
    for trial in range(len(events)):
        design = np.column_stack([trials[:, trial], np.delete(trials, trial, axis=1).sum(axis=1), nuisance])
        expected = np.linalg.lstsq(design, ds["bold"].values.astype(float), rcond=None)[0][0]
        np.testing.assert_allclose(betas[trial], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_betas_agree_with_nilearn() -> None:
    from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

    events = table()
    ds, _ = simulate(events, noise=1.0)
    frame = events.assign(trial_type=[f"t{i:02d}" for i in range(len(events))])[["onset", "duration", "trial_type"]]
    design = make_first_level_design_matrix(
        np.arange(N) * TR, frame, hrf_model="spm", drift_model="cosine", high_pass=0.01
    )
    labels, results = run_glm(ds["bold"].values.astype(float), design.values, noise_model="ols")
    (result,) = results.values()
    assert len(set(labels)) == 1
    theirs = np.asarray(result.theta)[[design.columns.get_loc(name) for name in frame["trial_type"]]]
    ours = SingleTrialBetas(high_pass=0.01).fit_transform(ds).values
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(ours, theirs, atol=0.1)


def test_runs_are_modelled_alone() -> None:
    first, truth_1 = simulate(table(seed=1), noise=0.0, seed=1)
    second, truth_2 = simulate(table(seed=2), noise=0.0, seed=2)
    tree = xr.DataTree.from_dict({"/run-01": first.assign_attrs(run="01"), "/run-02": second})
    betas = SingleTrialBetas().fit_transform(tree)
    np.testing.assert_allclose(betas.values, np.concatenate([truth_1, truth_2]), atol=1e-4)
    assert betas["run"].values.tolist() == ["01"] * 20 + ["02"] * 20
    joined = schema.fmri_masked(
        np.concatenate([first["bold"].values, second["bold"].values]),
        ijk=np.arange(15).reshape(5, 3),
        affine=np.eye(4),
        tr=TR,
        volume_shape=(20, 20, 20),
        events=pd.concat([table(seed=1).assign(run="01"), table(seed=2).assign(run="02")]),
    )
    times = np.tile(np.arange(N) * TR, 2)
    columns = {"event_run": ("event", joined["run"].values)}
    joined = joined.drop_vars("run").assign_coords(
        time=times, run=("time", np.repeat(["01", "02"], N).astype(object)), **columns
    )
    np.testing.assert_allclose(SingleTrialBetas().fit_transform(joined).values, betas.values, atol=1e-5)
    with pytest.raises(AlignmentError, match="given to runs"):
        SingleTrialBetas().fit_transform(joined.drop_vars("event_run"))


def test_start_time_moves_the_volumes() -> None:
    events = table()
    ds, truth = simulate(events, noise=0.0)
    moved = ds.assign_coords(onset=("event", events["onset"].to_numpy() + 0.7)).assign_attrs(start_time=0.7)
    np.testing.assert_allclose(SingleTrialBetas().fit_transform(moved).values, truth, atol=1e-4)


def noisy(seed: int = 0) -> tuple[xr.Dataset, np.ndarray, pd.DataFrame]:
    """A run with confounds in its values, n/a among them, and spikes in the volumes that its mask leaves out."""
    events = table(seed=seed)
    ds, truth = simulate(events, noise=0.0, seed=seed)
    rng = np.random.default_rng(seed)
    confounds = np.column_stack([rng.normal(size=N), 1e4 + rng.normal(size=N), rng.normal(size=N).cumsum()])
    keep = np.ones(N, dtype=bool)
    keep[[0, 33, 34, 120]] = False
    values = ds["bold"].values + (confounds - confounds.mean(axis=0)) @ rng.normal(0, 3, (3, 5))
    values[~keep] = 1e5
    confounds[0, 0] = np.nan
    ds = ds.assign(bold=ds["bold"].copy(data=values), confounds=(("time", "confound"), confounds))
    return ds.assign_coords(confound=["a", "b", "c"], sample_mask=("time", keep)), truth, events


@pytest.mark.parametrize("method", ["lsa", "lss"])
def test_confounds_and_bad_volumes_are_in_the_model(method: str) -> None:
    ds, truth, events = noisy()
    betas = SingleTrialBetas(method=method).fit_transform(ds).values
    if method == "lsa":
        np.testing.assert_allclose(betas, truth, atol=1e-2)
    keep = ds["sample_mask"].values
    trials = event_regressors("spm", events["onset"], events["duration"], np.arange(N) * TR)[keep]
    confounds = ds["confounds"].values[keep] - ds["confounds"].values[keep].mean(axis=0)
    nuisance = np.column_stack([confounds, cosine_drift(N, 1 / TR, 0.01)[keep], np.ones(keep.sum())])
    y = ds["bold"].values[keep].astype(float)
    for trial in range(len(events)):
        rest = np.delete(trials, trial, axis=1)
        rest = rest if method == "lsa" else rest.sum(axis=1)
        design = np.column_stack([trials[:, trial], rest, nuisance])
        expected = np.linalg.lstsq(design, y, rcond=None)[0][0]
        np.testing.assert_allclose(betas[trial], expected, rtol=1e-3, atol=1e-3)
    assert np.abs(SingleTrialBetas(method=method, confounds=[]).fit_transform(ds).values - betas).max() > 0.1
    some = SingleTrialBetas(confounds=["b", "c"]).fit_transform(ds)
    assert schema.history(some)["steps"][-1]["confounds"] == ["b", "c"]
    with pytest.raises(ConfigError, match="no such confounds"):
        SingleTrialBetas(confounds=["motion"]).fit_transform(ds)
    with pytest.raises(SchemaError, match="confound is missing"):
        SingleTrialBetas().fit_transform(ds.drop_vars("sample_mask"))
    with pytest.raises(SchemaError, match="No volume"):
        SingleTrialBetas().fit_transform(ds.assign_coords(sample_mask=("time", np.zeros(N, dtype=bool))))
    last = ds.assign_coords(sample_mask=("time", keep & (np.arange(N) < 150)))
    with pytest.raises(SchemaError, match="cannot be told"):
        SingleTrialBetas(method=method).fit_transform(last)


def test_copied_confounds_do_not_make_trials_unknown() -> None:
    ds, truth, _ = noisy()
    twice = xr.concat([ds["confounds"], ds["confounds"].assign_coords(confound=["d", "e", "f"])], "confound")
    betas = SingleTrialBetas().fit_transform(ds.drop_vars(["confounds", "confound"]).assign(confounds=twice))
    np.testing.assert_allclose(betas.values, truth, atol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_a_run_with_confounds_and_start_time_agrees_with_first_level_models() -> None:
    """FirstLevelModel with censored volumes, confounds and the reference of slice timing in mid-volume."""
    import nibabel as nib
    from nilearn.glm.first_level import FirstLevelModel

    ds, _, events = noisy()
    keep = ds["sample_mask"].values
    confounds = pd.DataFrame(np.nan_to_num(ds["confounds"].values), columns=["a", "b", "c"])
    confounds -= confounds[keep].mean()
    image = nib.Nifti1Image(ds["bold"].values.T.reshape(5, 1, 1, N), np.eye(4))
    mask = nib.Nifti1Image(np.ones((5, 1, 1), dtype=np.int8), np.eye(4))
    model = FirstLevelModel(
        t_r=TR, slice_time_ref=0.5, hrf_model="spm", high_pass=0.01, mask_img=mask, noise_model="ols",
        signal_scaling=False, minimize_memory=False,
    )  # fmt: skip
    frame = events.assign(trial_type=[f"t{i:02d}" for i in range(len(events))])[["onset", "duration", "trial_type"]]
    model.fit(image, frame, confounds=confounds, sample_masks=np.flatnonzero(keep))
    theirs = [model.compute_contrast(name, output_type="effect_size").get_fdata() for name in frame["trial_type"]]
    ours = SingleTrialBetas().fit_transform(ds.assign_attrs(start_time=TR / 2)).values
    np.testing.assert_allclose(ours, np.array(theirs).reshape(ours.shape), atol=0.1)
    assert np.corrcoef(ours.ravel(), np.ravel(theirs))[0, 1] > 0.999
    assert np.abs(SingleTrialBetas().fit_transform(ds).values - ours).max() > 0.3


def test_runs_of_a_tree_have_their_own_confounds_and_masks() -> None:
    first, truth_1, _ = noisy(1)
    second, truth_2, _ = noisy(2)
    second = second.assign_coords(sample_mask=("time", second["sample_mask"].values & (np.arange(N) != 60)))
    tree = xr.DataTree.from_dict({"/run-01": first.assign_attrs(run="01"), "/run-02": second})
    betas = SingleTrialBetas().fit_transform(tree)
    np.testing.assert_allclose(betas.values, np.concatenate([truth_1, truth_2]), atol=1e-2)
    hole = second.assign(bold=second["bold"].where(second["voxel"] != 3))
    tree = xr.DataTree.from_dict({"/run-01": first.assign_attrs(run="01"), "/run-02": hole})
    holed = SingleTrialBetas().fit_transform(tree)
    missing = np.isnan(holed.values)
    assert missing[20:, 3].all()
    assert missing.sum() == 20
    np.testing.assert_array_equal(holed.values[~missing], betas.values[~missing])


def test_tiles_of_sites_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ds, _, _ = noisy()
    whole = SingleTrialBetas("glover", method="lss").fit_transform(ds)
    monkeypatch.setattr("neuroalign.preprocess._nuisance._TILE_BYTES", 8 * N * 2)
    np.testing.assert_allclose(SingleTrialBetas("glover", method="lss").fit_transform(ds).values, whole.values, 1e-5)


def test_volumes_and_regions_keep_their_dimensions() -> None:
    ds, _ = simulate(table(), noise=0.1)
    values = ds["bold"].values.reshape(N, 1, 1, 5)
    volume = schema.fmri_volume(values, affine=np.eye(4), tr=TR, events=table())
    assert SingleTrialBetas().fit_transform(volume).dims == ("trial", "k", "j", "i")
    region = schema.fmri_regions(ds["bold"].values, roi=list("abcde"), tr=TR, events=table())
    assert SingleTrialBetas().fit_transform(region)["roi"].values.tolist() == list("abcde")
    surface = schema.fmri_surface(ds["bold"].values, hemi=list("LLLRR"), tr=TR, space="fsLR", events=table())
    betas = SingleTrialBetas().fit_transform(surface)
    assert (betas.dims, betas["node"].values.tolist()) == (("trial", "vertex"), [0, 1, 2, 0, 1])
    names = ["CIFTI_STRUCTURE_CORTEX_LEFT"] * 5
    dense = schema.fmri_grayordinates(ds["bold"].values, structure=names, vertex=range(5), tr=TR, events=table())
    out = SingleTrialBetas().fit_transform(dense)
    assert out.dims == ("trial", "grayordinate")
    np.testing.assert_array_equal(out.values, betas.values)


def test_faults_are_named() -> None:
    events = table()
    ds, _ = simulate(events, noise=1.0)
    with pytest.raises(AlignmentError, match="outside the run"):
        SingleTrialBetas().fit_transform(ds.assign_coords(onset=("event", events["onset"].to_numpy() * 1000)))
    with pytest.raises(AlignmentError, match="no events"):
        SingleTrialBetas().fit_transform(ds.drop_vars(["onset"]))
    with pytest.raises(AlignmentError, match="duration"):
        SingleTrialBetas().fit_transform(ds.assign_coords(duration=("event", np.full(20, np.nan))))
    with pytest.raises(SchemaError, match="cannot be told apart"):
        SingleTrialBetas().fit_transform(ds.assign_coords(onset=("event", np.full(20, 10.0))))
    with pytest.raises(SchemaError, match="NaN"):
        SingleTrialBetas().fit_transform(ds.assign(bold=ds["bold"].where(ds["bold"] > 100)))
    with pytest.raises(SchemaError, match="the Dataset itself"):
        SingleTrialBetas().fit_transform(ds["bold"])
    with pytest.raises(ConfigError, match="lsa or lss"):
        SingleTrialBetas(method="glm").fit_transform(ds)
    with pytest.raises(ConfigError, match="high-pass"):
        SingleTrialBetas(high_pass=128.0).fit_transform(ds)
    with pytest.raises(AlignmentError, match="no fMRI run"):
        SingleTrialBetas().fit_transform(xr.Dataset())


def test_real_checkerboard_is_in_visual_cortex(real_data: Callable[[str], Path]) -> None:
    """Blocks of a flickering checkerboard against fixation: strong positive betas in some voxels, above any chance."""
    from neuroalign.loaders.fmri import read_fmri

    folder = real_data("fmriprep-visualcontrol")
    ds = read_fmri(next(folder.glob("*_bold.nii.gz")), tr=1.0)
    brain = ds["bold"].mean("time") > 100
    ds = ds.assign(bold=ds["bold"].where(brain, 0.0))
    events = pd.read_csv(next(folder.glob("*_desc-events.tsv")), sep="\t").query("event == 'Checkerboard'")
    ds = ds.assign_coords({name: ("event", events[name].to_numpy()) for name in ("onset", "duration")})
    betas = SingleTrialBetas("glover").fit_transform(ds).where(brain)
    t = betas.mean("trial") / (betas.std("trial", ddof=1) / np.sqrt(betas.sizes["trial"]))
    assert betas.sizes["trial"] == len(events)
    assert float(t.max()) > 8
    assert float((t > 4).sum()) > 5 * float((t < -4).sum())
