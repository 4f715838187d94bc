from __future__ import annotations

import csv

import numpy as np
import pytest
import xarray as xr
from scipy.io import loadmat

from neuroalign.rsa import compare, concat, evaluate, from_square, permutation_test, reorder, select

NAMES = np.array([f"image_{i:02d}" for i in range(92)], dtype=object)


@pytest.fixture(scope="module")
def kriegeskorte(real_data):
    root = real_data("rdm92-kriegeskorte")
    models = {
        str(one["name"][0]): from_square(one["RDM"].astype(float), NAMES)
        for one in loadmat(root / "92_modelRDMs.mat")["Models"].ravel()
    }
    brains = loadmat(root / "92_brainRDMs.mat")["RDMs"][0]  # (subject, session)
    values = np.array([[session["RDM"].astype(float) for session in subject] for subject in brains])
    names = [str(subject[0]["name"][0]).split(" | ")[1] for subject in brains]
    data = xr.DataArray(
        values,
        {"subject": names, "condition": NAMES, "condition_2": NAMES},
        ("subject", "session", "condition", "condition_2"),
    )
    return models, from_square(data)


@pytest.fixture(scope="module")
def figure_1(real_data):
    published = loadmat(real_data("rdm92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat")
    rows, columns = np.triu_indices(92, 1)
    out = {}
    for one in published["RDMs_mIT_hIT_fig1"].ravel():
        # The vectors are squareform of MATLAB: the lower triangle by columns, that is the upper by rows.
        full = np.zeros((92, 92))
        full[rows, columns] = full[columns, rows] = one["RDM"].ravel()
        out[str(one["name"][0])] = from_square(full, NAMES)
    return out["mIT_674neurons"], out["hITvisStim_316vx"]


def test_human_and_monkey_it_correlate_as_published(figure_1):
    monkey, human = figure_1
    assert round(float(compare(monkey, human, method="pearson")), 2) == 0.49
    shuffled = reorder(human, np.random.default_rng(0).permutation(NAMES))
    np.testing.assert_allclose(compare(monkey, shuffled), compare(monkey, human))


def test_human_and_monkey_it_agree_more_than_shuffled_images(figure_1):
    found = permutation_test(*figure_1, compare="pearson", n=499, random_state=0)
    assert found["p"].item() == pytest.approx(1 / 500)


def test_monkey_rdm_of_both_files_is_the_same(kriegeskorte, figure_1):
    models, _ = kriegeskorte
    assert float(compare(models["monkeyIT"], figure_1[0])) > 0.999


def test_models_against_human_it_with_both_ceilings(kriegeskorte):
    models, data = kriegeskorte
    result = evaluate(models, data, compare="rho-a", n=60, random_state=0)
    assert result.data.attrs["n_subjects"] == 4
    low, high = result.ceiling.values
    assert 0.3 < low < high < 0.75
    assert (result.score < high).all()
    best, worst = str(result.score.idxmax().item()), str(result.score.idxmin().item())
    assert best == "animacy"
    assert worst in ("V1", "RADON")
    assert result.significant.sel(model=["animacy", "monkeyIT"]).all()
    assert not result.significant.sel(model=["V1", "RADON"]).any()
    assert float(result.p_ceiling.sel(model="V1")) < 0.05


def test_whole_subject_leaves_the_lower_ceiling(kriegeskorte):
    """Sessions of one subject agree more than subjects do; leaving out single sessions would raise the bound."""
    models, data = kriegeskorte
    one = models["animacy"]
    honest = evaluate(one, data, n=10, random_state=0, compare="pearson").ceiling.sel(bound="lower").item()
    flat = data.stack(entry=("subject", "session")).drop_vars(["entry", "subject", "session"]).rename(entry="subject")
    leaky = evaluate(one, flat, n=10, random_state=0, compare="pearson").ceiling.sel(bound="lower").item()
    within = np.mean([compare(x[0], x[1]).item() for x in data.transpose("subject", "session", "pair")])
    across = compare(data.isel(session=0), data.isel(session=1))
    across = across.where(~np.eye(4, dtype=bool)).mean().item()
    assert within > across
    assert honest != pytest.approx(leaky, abs=1e-3)


def test_behaviour_of_sixteen_subjects_reaches_its_ceiling(real_data, kriegeskorte):
    models, _ = kriegeskorte
    mat = loadmat(real_data("rdm92-kriegeskorte") / "92_behavRDMs.mat")["rdms_behav_92"].ravel()
    data = concat({f"s{i:02d}": from_square(one["RDM"].astype(float), NAMES) for i, one in enumerate(mat)})
    result = evaluate(models, data, n=30, random_state=0)
    assert result.data.attrs["df"] == 15
    assert str(result.score.idxmax().item()) in ("FaceBodyManmadeNatobj", "animacy")
    low, high = result.ceiling.values
    assert 0 < low < high


def test_part_of_the_images(kriegeskorte):
    models, data = kriegeskorte
    some = NAMES[np.random.default_rng(0).permutation(92)[:20]]
    found = compare(select(models["animacy"], some), select(data, some), method="rho-a")
    assert found.shape == (4, 2)


@pytest.mark.parametrize(
    ("table", "model_file", "row"),
    [
        ("case1_rsa_results.csv", "case1_ResNet18_RDM_layer3.1.conv2.npz", "layer3.1.conv2"),
        ("case1_rsa_results.csv", "case1_ResNet18_RDM_layer4.1.bn2.npz", "layer4.1.bn2"),
        ("case2_rsa_results.csv", "case2_CLIP-RN50_RDM_visual.layer4.npz", "visual.layer4"),
    ],
)
@pytest.mark.parametrize("region", ["fmri_IT_RDMs", "fmri_EVC_RDMs"])
def test_result_tables_of_net2brain_digit_by_digit(real_data, table, model_file, row, region):
    root = real_data("net2brain-78images-fmri")
    names = [f"image_{i:02d}" for i in range(1, 79)]
    with np.load(root / f"{region}.npz") as file:
        brain = from_square(file["arr_0"], names).rename(dim_0="subject")
    with np.load(root / model_file) as file:
        model = from_square(file["arr_0"], names)
    with (root / table).open() as file:
        theirs = next(r for r in csv.DictReader(file) if region in r["ROI"] and row in r["Layer"])
    r = compare(model, brain, method="spearman")
    printed = np.array(theirs["R2_array"].strip("[]").split(), dtype=float)
    np.testing.assert_allclose(r**2, printed, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose((r**2).mean(), float(theirs["R2"]), rtol=1e-12)
    # Their test of r^2 against 0 must come out significant on noise; ours is on r.
    result = evaluate(model, brain, compare="spearman", bootstrap="subjects", n=200, random_state=0)
    np.testing.assert_allclose(result.score, r.mean())


def test_ceilings_of_net2brain_are_of_squares(real_data):
    """Their log holds means of squared correlations; the correlations behind them are the ceilings here."""
    root = real_data("net2brain-78images-fmri")
    with np.load(root / "fmri_IT_RDMs.npz") as file:
        brain = from_square(file["arr_0"], [f"image_{i:02d}" for i in range(1, 79)]).rename(dim_0="subject")
    upper = compare(brain, brain.mean("subject"), method="spearman")
    np.testing.assert_allclose((upper**2).mean(), 0.0647332511659806, rtol=1e-12)
    others = (brain.sum("subject") - brain) / 14
    lower = np.array(
        [compare(brain.isel(subject=i), others.isel(subject=i), method="spearman").item() for i in range(15)]
    )
    np.testing.assert_allclose((lower**2).mean(), 0.002784925615650058, rtol=1e-12)
    low, high = evaluate(brain.isel(subject=0), brain, compare="spearman", n=10, random_state=0).ceiling.values
    assert low == pytest.approx(lower.mean(), abs=0.01)
    # Ranks are pooled here, raw distances there: pooled ranks explain the subjects better.
    assert upper.mean().item() < high < 0.27
