"""The simulated data set: what is on disk is what the truth says, read with other people's libraries."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from neuroalign.datasets.simulate import (
    BLOCKS,
    BOLD,
    MODALITIES,
    SENSORS,
    TRUE_LAYER,
    _bold,
    _signals,
    _simulate,
    _sites,
    make_images,
    read_truth,
    simulate,
    simulate_network,
)
from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.storage import verify

torch = pytest.importorskip("torch")
mne = pytest.importorskip("mne")
mne_bids = pytest.importorskip("mne_bids")
nibabel = pytest.importorskip("nibabel")

SMALL = {"n_subjects": 1, "n_images": 16, "n_repeats": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated") / "study", n_subjects=1)


@pytest.fixture(scope="module")
def truth(study):
    return read_truth(study)


@pytest.fixture(scope="module")
def stimuli(study):
    return pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t")


@pytest.fixture(scope="module")
def activations(study, stimuli, truth):
    """All blocks and the pixels, by plain forward passes on the PNG files."""
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(study / "stimuli" / name)) for name in stimuli["path"]])
    x = torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 255
    out = {"pixels": pixels.reshape(len(pixels), -1) / 255}
    for name, block in simulate_network(truth["network"]["random_state"]).named_children():
        x = block(x)
        out[name] = x.flatten(1).numpy().astype(float)
    return out


def read_run(study, modality, run):
    """Give the table of events and the response to each trial (trial, site[, time]) with MNE or nibabel alone."""
    if modality == "fmri":
        return read_betas(study, run)
    path = mne_bids.BIDSPath(root=study, subject="01", task="images", run=str(run), datatype=modality)
    raw = mne_bids.read_raw_bids(path, verbose="error")
    events = pd.read_csv(study / "sub-01" / modality / f"sub-01_task-images_run-{run}_events.tsv", sep="\t")
    samples = np.rint(events["onset"] * raw.info["sfreq"]).astype(int)
    triples = np.column_stack([samples, np.zeros_like(samples), np.ones_like(samples)])
    epochs = mne.Epochs(raw, triples, tmin=-0.1, tmax=0.5, baseline=(None, 0), preload=True, verbose="error")
    return events, epochs


def read_betas(study, run):
    stem = study / "sub-01" / "func" / f"sub-01_task-images_run-{run}"
    events = pd.read_csv(f"{stem}_events.tsv", sep="\t")
    mask = nibabel.load(next(study.glob("derivatives/*/sub-01/func/*_mask.nii.gz"))).get_fdata() > 0
    data = nibabel.load(f"{stem}_bold.nii.gz").get_fdata().transpose(2, 1, 0, 3)[mask.T].T
    # The response to 0.5 s on a fine grid, and discrete cosines: written out here once more.
    fine = events["onset"].to_numpy()[None, :, None] + np.arange(0.005, 0.5, 0.01)
    t = BOLD.tr * np.arange(len(data))[:, None, None] - fine
    hrf = (gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6) / (1 - 1 / 6)
    n, n_cosines = len(data), int(2 * len(data) * BOLD.tr * 0.01)
    cosines = np.cos(np.pi * (np.arange(n)[:, None] + 0.5) / n * np.arange(n_cosines + 1))
    design = np.column_stack([hrf.sum(axis=2) * 0.01, cosines])
    return events, np.linalg.lstsq(design, data, rcond=None)[0][: len(events)]


@pytest.fixture(scope="module")
def responses(study, truth, stimuli):
    """Responses (repeat, stimulus, site) at the latency (or betas), with the time courses of the sensors."""
    out, courses = {}, {}
    for modality in MODALITIES:
        runs = []
        for run in range(1, truth["n_repeats"] + 1):
            events, values = read_run(study, modality, run)
            rows = events.reset_index().set_index("stimulus_id").loc[stimuli["stimulus_id"], "index"].to_numpy()
            if modality != "fmri":
                courses.setdefault(modality, []).append(values.get_data()[rows])
                at = values.time_as_index(truth["modalities"][modality]["latency"] + 1e-9)[0]
                values = values.get_data()[:, :, at]
            runs.append(values[rows])
        out[modality] = np.stack(runs)
    return out, {name: np.stack(course) for name, course in courses.items()}


def test_kernel_peaks_at_the_latency_and_is_over_before_the_next_trial():
    time = np.arange(0, 0.8, 0.001)
    for settings in SENSORS.values():
        kernel = _signals.evoked_kernel(time, settings.latency)
        assert kernel[0] == 0
        assert time[kernel.argmax()] == pytest.approx(settings.latency)
        assert kernel.max() == pytest.approx(1)
        assert kernel[time > settings.soa - 0.1].max() < 1e-4
        assert settings.latency * settings.sfreq == pytest.approx(round(settings.latency * settings.sfreq))


@pytest.mark.parametrize("modality", list(SENSORS))
def test_noise_has_the_stated_covariance(modality):
    settings = SENSORS[modality]
    noise = _signals.sensor_noise((40, 20_000), settings, np.random.default_rng(0))
    for lag in (0, 1, 5):
        found = (noise[:, lag:] * noise[:, : 20_000 - lag]).mean()
        assert found == pytest.approx(_signals.autocovariance(np.array(lag), settings), rel=0.02)
    n_before, peak = -round(settings.tmin * settings.sfreq), round(settings.latency * settings.sfreq)
    starts = np.arange(0, 19_000, 100)
    epochs = np.stack([noise[:, s : s + n_before + peak + 1] for s in starts])
    corrected = epochs[..., -1] - epochs[..., : n_before + 1].mean(axis=-1)
    assert corrected.var() == pytest.approx(_signals.epoch_noise_variance(settings), rel=0.04)


def test_weights_give_the_wanted_variances():
    rng = np.random.default_rng(0)
    features, wanted = rng.gamma(1.0, size=(50, 6)), np.array([1.0, 4.0, 9.0])
    weights = _signals.draw_weights(features, wanted, rng, zero_sum=False)
    np.testing.assert_allclose((features @ weights).var(axis=0), wanted)
    centred = _signals.draw_weights(features, wanted, rng, zero_sum=True)
    np.testing.assert_allclose(centred.sum(axis=1), 0, atol=1e-12)


def test_beta_precision_equals_that_of_many_fits():
    rng = np.random.default_rng(0)
    design = _bold.trial_design(_bold.bold_onsets(12, rng))
    cosines = _bold.cosine_drift(len(design), 1 / BOLD.tr, BOLD.high_pass)
    full = np.column_stack([design, cosines, np.ones(len(design))])
    betas = np.linalg.lstsq(full, rng.standard_normal((len(design), 20_000)), rcond=None)[0][:12]
    np.testing.assert_allclose(betas.var(axis=1), _bold.beta_variance_factor(design), rtol=0.05)


def test_sites_look_real():
    cap, helmet, mask = _sites.eeg_cap(), _sites.meg_helmet(), _sites.brain_mask()
    assert len(set(cap.names)) == 32
    np.testing.assert_allclose(np.linalg.norm(cap.positions, axis=1), 0.095)
    standard = mne.channels.make_standard_montage("easycap-M1").get_positions()["ch_pos"]
    theirs = np.stack([standard[name] for name in cap.names])
    assert np.corrcoef(cap.positions[:, 2], theirs[:, 2])[0, 1] > 0.98
    lateral = cap.positions[:, 2] < 0.08  # near the vertex an azimuth says nothing
    turn = np.angle((theirs[:, 0] + 1j * theirs[:, 1]) * (cap.positions[:, 0] - 1j * cap.positions[:, 1]))
    assert np.abs(np.rad2deg(turn[lateral])).max() < 15
    gaps = np.linalg.norm(helmet.positions[:, None] - helmet.positions, axis=-1) + np.eye(64)
    assert 0.015 < gaps.min(axis=1).min() < gaps.min(axis=1).max() < 0.05
    shafts = _sites.seeg_shafts(np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(np.diff(shafts.positions[:8], axis=0), axis=1), 0.0035)
    for sites in (cap, helmet, shafts, _sites.brain_sites()):
        assert 0.4 <= sites.active.mean() <= 0.6
    assert 0.3 < mask.mean() < 0.6


def test_pictures_are_seeded_and_differ():
    images, families = make_images(60, random_state=1)
    again, _ = make_images(60, random_state=1)
    np.testing.assert_array_equal(images, again)
    assert len(np.unique(images.reshape(60, -1), axis=0)) == 60
    assert images.std(axis=(1, 2, 3)).min() > 1
    assert len(set(families)) == 6


def test_network_is_a_function_of_its_seed():
    a, b, c = simulate_network(3), simulate_network(3), simulate_network(4)
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert [name for name, _ in a.named_children()] == list(BLOCKS)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), c(x))
    assert not a.training
    assert torch.equal(pickle.loads(pickle.dumps(a))(x), a(x))


def test_files_have_bids_names_and_reasonable_sizes(study):
    files = [p for p in study.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 40e6
    pattern = re.compile(r"sub-\d\d(_task-images)?(_run-\d)?(_space-\w+)?(_desc-brain)?_[a-z]+\.[a-z.]+")
    for path in files:
        if path.name.startswith("sub-"):
            assert pattern.fullmatch(path.name), path.name
    assert json.loads((study / "dataset_description.json").read_text())["BIDSVersion"]
    assert mne_bids.get_entity_vals(study, "run", ignore_datatypes=["func"]) == ["1", "2", "3", "4"]
    assert set(mne_bids.get_datatypes(study)) == {"eeg", "func", "ieeg", "meg"}
    verify(study, "full")


@pytest.mark.parametrize("modality", list(SENSORS))
def test_mne_bids_reads_everything_without_a_warning(study, truth, modality):
    path = mne_bids.BIDSPath(root=study, subject="01", task="images", run="2", datatype=modality)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = mne_bids.read_raw_bids(path, verbose="warning")
    sites = {"eeg": _sites.eeg_cap, "meg": _sites.meg_helmet}.get(modality)
    assert raw.ch_names == truth["subjects"]["01"][modality]["site"]
    assert set(raw.get_channel_types()) == {{"eeg": "eeg", "ieeg": "seeg", "meg": "mag"}[modality]}
    assert raw.info["line_freq"] == 50
    assert len(raw.annotations) >= truth["n_images"]
    positions = np.stack([channel["loc"][:3] for channel in raw.info["chs"]])
    assert np.isfinite(positions).all()
    if sites is not None:
        np.testing.assert_allclose(positions, sites().positions, atol=1e-5)
    rms = raw.get_data().std()
    low, high = {"eeg": (5e-6, 30e-6), "ieeg": (30e-6, 200e-6), "meg": (50e-15, 500e-15)}[modality]
    assert low < rms < high


def test_brainvision_markers_are_the_events(study):
    stem = study / "sub-01" / "eeg" / "sub-01_task-images_run-1"
    raw = mne.io.read_raw_brainvision(f"{stem}_eeg.vhdr", verbose="error")
    events = pd.read_csv(f"{stem}_events.tsv", sep="\t")
    marks = [a for a in raw.annotations if a["description"].startswith("Stimulus")]
    np.testing.assert_allclose([a["onset"] for a in marks], events["onset"])
    assert [int(a["description"][-3:]) for a in marks] == [int(name[5:]) for name in events["stimulus_id"]]


def test_fmri_files(study, truth):
    image = nibabel.load(study / "sub-01" / "func" / "sub-01_task-images_run-1_bold.nii.gz")
    assert image.shape[:3] == BOLD.shape
    assert image.header.get_zooms() == (10, 10, 10, 2)
    assert image.get_data_dtype() == np.int16
    mask = nibabel.load(next(study.glob("derivatives/*/sub-01/func/*_mask.nii.gz")))
    np.testing.assert_array_equal(mask.affine, image.affine)
    np.testing.assert_array_equal(truth["modalities"]["fmri"]["affine"], image.affine)
    values = image.get_fdata()
    assert values.min() > 0
    assert values[mask.get_fdata() > 0].mean() == pytest.approx(BOLD.base, rel=0.02)
    assert values[mask.get_fdata() == 0].mean() == pytest.approx(BOLD.base / 10, rel=0.02)


def test_every_run_shows_every_picture_once(study, stimuli):
    tables = [pd.read_csv(p, sep="\t") for p in sorted(study.rglob("*_events.tsv"))]
    assert len(tables) == 16
    for table in tables:
        assert sorted(table["stimulus_id"]) == sorted(stimuli["stimulus_id"])
        assert (np.diff(table["onset"]) > 0).all()
    orders = [list(table["stimulus_id"]) for table in tables]
    assert all(a != b for a, b in pairwise(orders))


@pytest.mark.parametrize("modality", MODALITIES)
def test_variances_and_ceilings_hold(responses, truth, activations, modality):
    told = truth["subjects"]["01"][modality]
    values, active = responses[0][modality], np.array(told["active"])
    noise, signal, ceiling = (np.array(told[k]) for k in ("noise_variance", "signal_variance", "ceiling_r2"))
    found = values.var(axis=0, ddof=1).mean(axis=0)
    assert found.mean() == pytest.approx(noise.mean(), rel=0.04)
    np.testing.assert_allclose(found, noise, rtol=0.35)
    # The true map on the average over repeats explains what the ceiling says; elsewhere there is only noise.
    predicted = activations[TRUE_LAYER] @ np.array(told["weights"])
    predicted -= predicted.mean(axis=0)
    np.testing.assert_allclose(predicted.var(axis=0), signal[active], rtol=1e-4)
    measured = values.mean(axis=0) - values.mean(axis=(0, 1))
    r2 = 1 - ((measured[:, active] - predicted) ** 2).sum(axis=0) / (measured[:, active] ** 2).sum(axis=0)
    assert r2.mean() == pytest.approx(ceiling[active].mean(), abs=0.02)
    np.testing.assert_allclose(r2, ceiling[active], atol=0.13)
    silent = measured[:, ~active].var(axis=0)
    assert silent.mean() == pytest.approx(noise.mean() / truth["n_repeats"], rel=0.1)
    assert (ceiling[~active] == 0).all()
    assert ceiling[active].min() > 0.4


@pytest.mark.parametrize("modality", list(SENSORS))
def test_latency_is_found(responses, truth, modality):
    told = truth["subjects"]["01"][modality]
    average = responses[1][modality].mean(axis=0)[:, np.array(told["active"])]
    sfreq = SENSORS[modality].sfreq
    peak = average.var(axis=0).mean(axis=0).argmax() / sfreq - 0.1
    assert peak == pytest.approx(truth["modalities"][modality]["latency"], abs=1.01 / sfreq)


def test_average_reference_does_not_reach_silent_electrodes(truth):
    weights = np.array(truth["subjects"]["01"]["eeg"]["weights"])
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-6 * np.abs(weights).max())


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_the_true_layer_reaches_the_ceiling(responses, truth, activations, modality):
    told = truth["subjects"]["01"][modality]
    y = responses[0][modality].mean(axis=0)[:, told["active"]][:, :: 8 if modality == "fmri" else 1]
    ceiling = np.array(told["ceiling_r2"])[told["active"]][:: 8 if modality == "fmri" else 1]
    model = RidgeCV(np.logspace(-3, 5, 9), alpha_per_target=True)
    folds = KFold(6, shuffle=True, random_state=0)
    scores = {}
    for name, features in activations.items():
        # Principal axes leave ridge as it is and make it quick for layers with many units.
        u, size, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        predicted = cross_val_predict(model, u * size, y, cv=folds)
        scores[name] = 1 - ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    best = scores.pop(TRUE_LAYER)
    assert best.mean() == pytest.approx(ceiling.mean(), abs=0.05)
    for name, other in scores.items():
        assert other.mean() < 0.25, name
        assert (other < best - 0.2).all(), name


def tree_bytes(root):
    skip = {"manifest.json"}
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name not in skip}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    a = tree_bytes(simulate(tmp_path / "a", **SMALL))
    b = tree_bytes(simulate(tmp_path / "b", **SMALL, random_state=np.int64(0)))
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []
    only = tree_bytes(simulate(tmp_path / "c", **SMALL, modalities=["ieeg"]))
    assert all(a[name] == only[name] for name in only if name.startswith("sub-"))
    other = tree_bytes(simulate(tmp_path / "d", **SMALL, modalities=["ieeg"], random_state=1))
    assert all(a[name] != other[name] for name in other if name.endswith((".eeg", ".png")))


def test_subjects_differ(tmp_path):
    told = read_truth(simulate(tmp_path / "a", n_subjects=2, n_images=16, n_repeats=1, modalities=["eeg"]))["subjects"]
    assert not np.allclose(told["01"]["eeg"]["weights"], told["02"]["eeg"]["weights"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_subjects": 0},
        {"n_images": 3},
        {"n_repeats": 1.5},
        {"modalities": ["eeg", "nirs"]},
        {"modalities": "eeg"},
        {"modalities": []},
    ],
)
def test_impossible_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError):
        simulate(tmp_path / "out", **wrong)
    assert not any(tmp_path.iterdir())


def test_folders_with_other_files_are_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="not empty"):
            simulate(tmp_path, **SMALL, modalities=["eeg"], overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_earlier_simulation_is_replaced_on_demand(tmp_path):
    root = simulate(tmp_path / "out", **SMALL, modalities=["eeg"])
    with pytest.raises(ConfigError, match="overwrite=True"):
        simulate(root, **SMALL, modalities=["eeg"])
    simulate(root, **SMALL, modalities=["ieeg"], overwrite=True, random_state=5)
    assert read_truth(root)["random_state"] == 5
    assert not (root / "sub-01" / "eeg").exists()


def test_a_failure_midway_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_simulate, "record_bold", fail)
    with pytest.raises(IntegrityError, match="full"):
        simulate(tmp_path / "out", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_truth_of_another_folder_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="not a simulated"):
        read_truth(tmp_path)
