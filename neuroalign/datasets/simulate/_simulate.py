"""The data set as a whole: draw, write, and state the truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroalign.activations import ActivationExtractor, weights_sha256
from neuroalign.compute.progress import progress as bar
from neuroalign.datasets.simulate import _sidecars
from neuroalign.datasets.simulate._images import make_images
from neuroalign.datasets.simulate._network import TRUE_LAYER, simulate_network
from neuroalign.datasets.simulate._settings import MODALITIES
from neuroalign.datasets.simulate._subjects import Plan, describe, record_bold, record_sensors
from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.storage import publish, sha256_file, write_manifest

__all__ = ["read_truth", "simulate"]

MIN_IMAGES = 16  # fewer than this cannot identify a map of 12 units


def simulate(
    root: str | Path,
    *,
    n_subjects: int = 3,
    n_images: int = 144,
    n_repeats: int = 4,
    modalities: Sequence[str] = MODALITIES,
    random_state: int | np.random.Generator | None = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write a BIDS data set whose right answer is known.

    Subjects look at generated pictures. At known sites the response is a known linear map of one layer of a small
    seeded network (`simulate_network`), plus noise of known size; at the other sites there is only noise. Sensors
    respond along a kernel that peaks at a known latency, BOLD along the canonical haemodynamic response. The file
    ``truth.json`` says all of it; `read_truth` reads it.

    Parameters
    ----------
    root : path-like
        Folder to write. It appears whole or not at all.
    n_subjects : int
        Number of subjects, 1 to 99.
    n_images : int
        Number of pictures, at least 16. From about 100 on a ridge model reaches the ceiling within 0.05.
    n_repeats : int
        How often each picture is shown: once in each run.
    modalities : sequence of {"eeg", "ieeg", "meg", "fmri"}
        What to record.
    random_state : int, Generator or None
        Seed. The same seed gives the same values, and each recording has its own stream: leaving out a modality or a
        subject does not change the others.
    overwrite : bool
        Replace an earlier simulation. A folder that holds anything else is never replaced.
    progress : bool
        Show a bar.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        For numbers or modalities that are not possible, or a folder that is not empty.
    IntegrityError
        If the disk is full or not writable.

    Notes
    -----
    The ceiling is the R2 that the true map reaches on the average over repeats:
    ``signal_variance / (signal_variance + noise_variance / n_repeats)``, with the variance of the response over the
    pictures and the noise variance of one trial. Sensors: at the sample of the latency, after epochs from -0.1 s with
    the mean of (None, 0) taken off, without a filter. fMRI: `SingleTrialBetas` as it comes (every trial a regressor,
    cosines below 0.01 Hz and a constant a run), on the raw values in the mask.

    Examples
    --------
    >>> import tempfile
    >>> root = simulate(tempfile.mkdtemp(), n_subjects=1, n_images=16, n_repeats=2, modalities=["eeg"])
    >>> truth = read_truth(root)
    >>> truth["network"]["layer"], truth["modalities"]["eeg"]["latency"]
    ('block3', 0.17)
    """
    _check(n_subjects, n_images, n_repeats, modalities)
    n_subjects, n_images, n_repeats = int(n_subjects), int(n_images), int(n_repeats)
    target = Path(root)
    _check_target(target, overwrite)
    seed = random_state if isinstance(random_state, int) else _draw_seed(random_state)
    subjects = [f"{k + 1:02d}" for k in range(n_subjects)]
    chosen = [m for m in MODALITIES if m in modalities]
    with publish(target) as folder:
        folder.mkdir()
        plan, truth = _prepare(folder, seed, n_images, n_repeats)
        facts = {"n_subjects": n_subjects, "n_images": n_images, "n_repeats": n_repeats, "layer": TRUE_LAYER}
        _sidecars.write_description(folder, subjects=subjects, facts=facts | {"seed": seed})
        truth |= {"modalities": {m: describe(m) for m in chosen}, "subjects": {s: {} for s in subjects}}
        jobs = [(subject, modality) for subject in subjects for modality in chosen]
        with bar("Simulating", len(jobs), show=progress) as advance:
            for subject, modality in jobs:
                record = record_bold if modality == "fmri" else record_sensors
                truth["subjects"][subject][modality] = record(plan, subject, modality)
                advance(1)
        (folder / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
        write_manifest(folder, seed=seed)
    return target


def read_truth(root: str | Path) -> dict[str, Any]:
    """Read what is behind a simulated data set.

    Parameters
    ----------
    root : path-like
        A folder written by `simulate`.

    Returns
    -------
    dict
        ``network`` (layer, seed, hash of the weights), ``modalities`` (latency, noise and the stage at which variances
        are stated) and ``subjects``: for each modality the lists ``site`` (names; voxel indices for fMRI), ``active``,
        ``signal_variance``, ``noise_variance``, ``ceiling_r2`` (0 at silent sites), and ``weights`` (unit by active
        site, on the raw activations).

    Raises
    ------
    IntegrityError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> root = simulate(tempfile.mkdtemp(), n_subjects=1, n_images=16, n_repeats=2, modalities=["eeg"])
    >>> sum(read_truth(root)["subjects"]["01"]["eeg"]["active"])
    16
    """
    path = Path(root) / "truth.json"
    if not path.is_file():
        raise IntegrityError(
            "This is not a simulated data set.", expected="truth.json", where=path, fix="neuroalign simulate OUT"
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _check(n_subjects: int, n_images: int, n_repeats: int, modalities: Sequence[str]) -> None:
    limits = {
        "n_subjects": (n_subjects, 1, 99),
        "n_images": (n_images, MIN_IMAGES, 999),
        "n_repeats": (n_repeats, 1, 99),
    }
    for name, (value, low, high) in limits.items():
        if not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise ConfigError(f"{name} is not possible.", expected=f"an integer from {low} to {high}", got=value)
    unknown = [m for m in modalities if m not in MODALITIES]
    if unknown or not modalities or isinstance(modalities, str):
        raise ConfigError("Unknown modality.", expected=f"a list of {', '.join(MODALITIES)}", got=unknown or modalities)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    ours = (target / "truth.json").is_file() and (target / "manifest.json").is_file()
    if not (overwrite and ours):
        raise ConfigError(
            "The folder is not empty.",
            expected="a new or empty folder",
            got="an earlier simulation" if ours else "other files",
            where=target,
            fix="pass overwrite=True to replace it" if ours else "choose another folder",
        )


def _draw_seed(random_state: np.random.Generator | np.integer[Any] | None) -> int:
    if isinstance(random_state, np.integer):
        return int(random_state)
    return int(np.random.default_rng(random_state).integers(2**31))


def _prepare(folder: Path, seed: int, n_images: int, n_repeats: int) -> tuple[Plan, dict[str, Any]]:
    """Write the pictures and read the true layer on them."""
    images, families = make_images(n_images, random_state=seed)
    ids = [f"stim-{k + 1:03d}" for k in range(n_images)]
    table = pd.DataFrame({"stimulus_id": ids, "type": "image", "path": [f"{name}_image.png" for name in ids]})
    table["category"] = families
    _sidecars.write_stimuli(folder, images, table)
    table["sha256"] = [sha256_file(folder / "stimuli" / name) for name in table["path"]]
    _sidecars.write_table(folder / "stimuli" / "stimuli.tsv", table)
    net = simulate_network(seed)
    layer = ActivationExtractor(net, layers=TRUE_LAYER)(dict(zip(ids, images, strict=True)))[TRUE_LAYER]
    network = {"random_state": seed, "layer": TRUE_LAYER, "n_units": layer.sizes["unit"]}
    network["weights_sha256"] = weights_sha256(net)
    truth = {"version": 1, "random_state": seed, "n_images": n_images, "n_repeats": n_repeats, "network": network}
    return Plan(folder, seed, n_repeats, table, layer.to_numpy().astype(np.float64)), truth
