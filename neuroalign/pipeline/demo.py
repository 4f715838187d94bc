"""The demonstration: simulated recordings with a known truth, analysed the public way, and the truth found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from neuroalign import rsa
from neuroalign.activations import ActivationExtractor
from neuroalign.align import epochs, join
from neuroalign.compute import available_cpus, get_executor, map_chunks
from neuroalign.datasets import simulate
from neuroalign.datasets.simulate import MODALITIES as SIMULATED
from neuroalign.datasets.simulate import read_truth, simulate_network
from neuroalign.encoding import RidgeEncoder
from neuroalign.evaluation import Result, cross_validate, noise_ceiling
from neuroalign.loaders import load, read_bids
from neuroalign.preprocess import SingleTrialBetas
from neuroalign.schema import MODALITIES

LAYERS = ("block1", "block2", "block3", "block4", "head")
#: Scores (R2) must reach the analytic ceiling within this.
TOLERANCE = 0.05
#: Latencies must be found within this many seconds.
LATENCY_TOLERANCE = 0.02
#: A test fits the model this often again; more would show no more here.
N_PERMUTATIONS = 199
WINDOW = (-0.1, 0.5)


@dataclass
class Found:
    """What the analysis of one subject and modality found.

    Parameters
    ----------
    subject, modality : str
        Who and what.
    profile : DataArray
        Mean score of every layer at the most reliable time.
    result : Result
        Scores and ceilings of the winning layer, over time where there is time.
    tested : Result
        The same at the most reliable time, with a test.
    patterns : DataArray
        Responses (trial, site) at the most reliable time.
    truth : dict
        The truth about this recording.
    latency : float or None
        Time at which the winning layer explains most, in s.
    """

    subject: str
    modality: str
    profile: xr.DataArray
    result: Result
    tested: Result
    patterns: xr.DataArray
    truth: dict[str, Any]
    latency: float | None = None

    @property
    def active(self) -> np.ndarray:
        """Whether each site responds, by the truth."""
        return self.known("active").astype(bool)

    def known(self, name: str) -> np.ndarray:
        """What the truth says of each site, matched by channel name or voxel index."""
        score = self.result.score
        if "voxel" in score.dims:
            sites = list(zip(*(score[axis].values.tolist() for axis in "ijk"), strict=True))
        else:
            sites = score["channel"].values.tolist()
        keys = [tuple(site) if isinstance(site, list) else site for site in self.truth["site"]]
        table = dict(zip(keys, self.truth[name], strict=True))
        return np.array([table[site] for site in sites])

    @property
    def winner(self) -> str:
        """Name of the layer with the best score."""
        return str(self.profile["layer"].values[int(np.argmax(self.profile.values))])

    def at_latency(self, name: str) -> np.ndarray:
        """Values of a variable of the result at each site, at the true latency."""
        values = self.result.data[name]
        if "time" in values.dims:
            values = values.sel(time=self.truth["latency"], method="nearest")
        return values.values


def responses(root: Path, subject: str, modality: str) -> xr.DataArray:
    """Read one subject's runs and give one response a trial: epochs, or betas of fMRI."""
    runs = read_bids(root, subject=subject, modality=modality)
    if modality == "fmri":
        return SingleTrialBetas().fit_transform(runs)
    return epochs(runs, tmin=WINDOW[0], tmax=WINDOW[1], baseline=(None, 0))[MODALITIES[modality]]


def analyse(
    y: xr.DataArray, activations: dict[str, xr.DataArray], truth: dict[str, Any], subject: str, modality: str, seed: int
) -> Found:
    """Find the layer, its scores against the ceiling, and the latency, without using the truth."""
    moment = y
    if "time" in y.dims:  # where responses repeat best, whatever drives them
        reliability = noise_ceiling(y, method="explainable_variance").mean("channel")
        moment = y.isel(time=int(np.argmax(reliability.values)))
    scores = [
        cross_validate(RidgeEncoder(), *join(activations[layer], moment), random_state=seed).score.mean()
        for layer in LAYERS
    ]
    profile = xr.DataArray([float(s) for s in scores], dims="layer", coords={"layer": list(LAYERS)}, name="R2")
    best = LAYERS[int(np.argmax(profile.values))]
    tested = cross_validate(
        RidgeEncoder(),
        *join(activations[best], moment),
        ceiling="split_half_sb",
        test="permutation",
        n_permutations=N_PERMUTATIONS,
        random_state=seed,
    )
    if "time" not in y.dims:
        return Found(subject, modality, profile, tested, tested, moment, truth)
    result = cross_validate(RidgeEncoder(), *join(activations[best], y), ceiling="split_half_sb", random_state=seed)
    course = result.score.isel(channel=tested.significant.values).mean("channel")
    latency = float(course["time"].values[int(np.argmax(course.values))])
    return Found(subject, modality, profile, result, tested, moment, truth, latency)


@dataclass(frozen=True)
class Check:
    """One line of the truth table.

    Parameters
    ----------
    what : str
        What is checked.
    truth, found : str
        The truth, and what the analysis says.
    holds : bool
        Whether they agree within the stated tolerance.
    """

    what: str
    truth: str
    found: str
    holds: bool


def checks(findings: list[Found], layer: str) -> list[Check]:
    """Put the truth beside what was found, for one modality."""
    name = findings[0].modality
    winners = [f.winner for f in findings]
    right = sum(w == layer for w in winners)
    lines = [
        Check(
            f"{name}: layer",
            layer,
            f"{max(set(winners), key=winners.count)} in {right} of {len(winners)} subjects",
            right == len(winners),
        )
    ]
    analytic = np.concatenate([f.known("ceiling_r2")[f.active] for f in findings])
    score = np.concatenate([f.at_latency("score_pooled")[f.active] for f in findings])
    estimated = np.concatenate([f.at_latency("ceiling")[f.active] for f in findings])
    gap = abs(score.mean() - analytic.mean())
    lines.append(
        Check(
            f"{name}: R2 at active sites",
            f"ceiling {analytic.mean():.3f}",
            f"{score.mean():.3f} (within {TOLERANCE})",
            bool(gap <= TOLERANCE),
        )
    )
    gap = abs(estimated.mean() - analytic.mean())
    lines.append(
        Check(
            f"{name}: noise ceiling",
            f"{analytic.mean():.3f}",
            f"{estimated.mean():.3f} (within {TOLERANCE})",
            bool(gap <= TOLERANCE),
        )
    )
    lines.append(_false_positives(name, findings))
    if findings[0].latency is not None:
        true = float(findings[0].truth["latency"])
        latencies = [float(f.latency or 0) for f in findings]
        close = all(abs(t - true) <= LATENCY_TOLERANCE for t in latencies)
        lines.append(
            Check(
                f"{name}: latency",
                f"{true * 1000:.0f} ms",
                ", ".join(f"{t * 1000:.0f}" for t in latencies) + " ms",
                close,
            )
        )
    return lines


def _false_positives(name: str, findings: list[Found]) -> Check:
    """Share of silent sites with p <= .05, against the 99 % range of that share if the test holds its level."""
    hits = [f.tested.p.values[~f.active] <= 0.05 for f in findings]
    share, n = float(np.concatenate(hits).mean()), sum(h.size for h in hits)
    low, high = stats.binom.interval(0.99, n, 0.05)
    return Check(
        f"{name}: false positives",
        "0.050",
        f"{share:.3f} of {n} (99 %: {low / n:.3f} to {high / n:.3f})",
        bool(low <= share * n <= high),
    )


def compare_rdms(findings: list[Found], activations: dict[str, xr.DataArray], seed: int) -> rsa.RSAResult:
    """Compare the layers' dissimilarities with the subjects', cross-validated over runs."""
    models = {layer: rsa.rdm(activations[layer], method="euclidean") for layer in LAYERS}
    brains = {f.subject: rsa.rdm(f.patterns, method="crossnobis", noise="ledoit_wolf", folds="run") for f in findings}
    return rsa.evaluate(models, rsa.concat(brains), compare="spearman", bootstrap="subjects", n=500, random_state=seed)


@dataclass(frozen=True)
class DemoOutcome:
    """What the demonstration found and wrote.

    Parameters
    ----------
    checks : list of Check
        The truth table.
    report : Path
        The page.
    """

    checks: list[Check]
    report: Path

    @property
    def holds(self) -> bool:
        """Whether every line of the truth table holds."""
        return all(check.holds for check in self.checks)


def run_demo(
    out: str | Path,
    *,
    n_subjects: int = 3,
    n_images: int = 144,
    modalities: tuple[str, ...] = SIMULATED,
    random_state: int = 0,
    n_workers: int | None = None,
    say: Callable[[str], None] | None = None,
) -> DemoOutcome:
    """Simulate recordings with a known truth, analyse them the public way, and put the findings beside the truth.

    Parameters
    ----------
    out : path
        Folder for the data set (``data``) and the page (``report.html``).
    n_subjects, n_images : int
        Size of the simulation.
    modalities : tuple of str
        Of eeg, ieeg, meg and fmri.
    random_state : int
        Seed of everything.
    n_workers : int, optional
        Processes; by default as many as there are cores, up to four. The findings do not depend on it.
    say : callable, optional
        Called with a line of text at every stage.

    Returns
    -------
    DemoOutcome
        The truth table and the page.
    """
    from neuroalign.pipeline.demo_page import write_page

    say = say or (lambda text: None)
    n_workers = min(4, available_cpus()) if n_workers is None else n_workers
    folder = Path(out)
    say(f"Simulating {n_subjects} subjects x {', '.join(modalities)}: {n_images} images, 4 repeats ...")
    root = simulate(
        folder / "data",
        n_subjects=n_subjects,
        n_images=n_images,
        modalities=modalities,
        random_state=random_state,
        overwrite=True,
    )
    truth = read_truth(root)
    say("Reading the images and the activations of all layers ...")
    network = simulate_network(truth["network"]["random_state"])
    activations = dict(ActivationExtractor(network, layers=list(LAYERS))(load(root / "stimuli")))
    layer = truth["network"]["layer"]
    say("Analysing all subjects and modalities ...")
    jobs = [
        (
            root,
            subject,
            modality,
            known[modality],
            truth["modalities"][modality].get("latency"),
            random_state,
            activations,
        )
        for modality in modalities
        for subject, known in truth["subjects"].items()
    ]
    names = [f"sub-{job[1]} {job[2]}" for job in jobs]
    with get_executor("processes", n_workers) if n_workers > 1 else get_executor("serial") as workers:
        found = map_chunks(analyse_job, jobs, executor=workers, progress="analysing", names=names)
    findings = {name: [f for f in found if f.modality == name] for name in modalities}
    comparisons: dict[str, rsa.RSAResult] = {}
    lines: list[Check] = []
    for name, ones in findings.items():
        comparisons[name] = compare_rdms(ones, activations, random_state)
        lines += [*checks(ones, layer), _rsa_check(name, comparisons[name], layer)]
    report = write_page(folder / "report.html", lines, findings, comparisons, activations, truth)
    return DemoOutcome(lines, report)


def analyse_job(job: tuple[Any, ...]) -> Found:
    """Read and analyse one subject and modality; runs in a worker process."""
    root, subject, modality, truth, latency, seed, activations = job
    y = responses(root, subject, modality)
    return analyse(y, activations, truth | {"latency": latency}, subject, modality, seed)


def _rsa_check(modality: str, found: rsa.RSAResult, layer: str) -> Check:
    score = found.score
    best = str(score["model"].values[int(np.argmax(score.values))])
    lower = float(found.ceiling.sel(bound="lower"))
    text = f"{best} (rho {float(score.sel(model=best)):.3f}, ceiling {lower:.3f})"
    return Check(f"{modality}: RSA layer", layer, text, best == layer)


def truth_table(lines: list[Check]) -> str:
    """Write the truth beside what was found, as text.

    Parameters
    ----------
    lines : list of Check
        The checks.

    Returns
    -------
    str
        A table with one line a check.
    """
    rows = [("", "truth", "found", "agrees"), *((c.what, c.truth, c.found, "yes" if c.holds else "NO") for c in lines)]
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    text = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    text.insert(1, "-" * len(text[0]))
    return "\n".join(text)
