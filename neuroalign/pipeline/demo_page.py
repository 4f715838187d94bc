"""The page of the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuroalign import plots, rsa
from neuroalign.report import Picture, Section, Table, write_report
from neuroalign.report.figures import grid_picture, picture

if TYPE_CHECKING:
    from neuroalign.pipeline.demo import Check, Found

NAMES = {"eeg": "EEG", "ieeg": "iEEG", "meg": "MEG", "fmri": "fMRI"}


def write_page(
    path: Path,
    checks: list[Check],
    findings: dict[str, list[Found]],
    comparisons: dict[str, rsa.RSAResult],
    activations: dict[str, xr.DataArray],
    truth: dict[str, Any],
) -> Path:
    """Write the page of the demonstration.

    Parameters
    ----------
    path : Path
        The page.
    checks : list of Check
        The truth table.
    findings : dict
        What was found for every subject, by modality.
    comparisons : dict
        RSA by modality.
    activations : dict
        Activations by layer.
    truth : dict
        The truth of the simulation.

    Returns
    -------
    Path
        The page.
    """
    held = sum(check.holds for check in checks)
    rows = [[c.what, c.truth, c.found, "yes" if c.holds else "no"] for c in checks]
    layer = truth["network"]["layer"]
    intro = (
        f"Every simulated subject looked at {truth['n_images']} generated images, {truth['n_repeats']} times each. "
        f"About half of the sites respond to a linear map of {layer} of a small network, the others hold noise. "
        "The analysis read the files, and was not told the layer, the sites, the latency or the noise."
    )
    sections = [
        Section("Truth and findings", intro, (), Table(["what", "truth", "found", "agrees"], rows)),
        _layers(findings, layer),
        *(_modality(name, found) for name, found in findings.items()),
        _rsa(comparisons, findings, activations, layer),
    ]
    summary = {"lines of the truth table that hold": f"{held} of {len(checks)}", "true layer": layer}
    first = next(iter(findings.values()))[0].result.data
    return write_report(
        path, title="neuroalign demo: the truth, found again", sections=sections, summary=summary, provenance=first
    )


def _layers(findings: dict[str, list[Found]], layer: str) -> Section:
    profiles = {
        NAMES[name]: xr.concat([f.profile for f in found], dim="subject").assign_attrs(long_name="R²")
        for name, found in findings.items()
    }
    text = (
        "Mean held-out R² over all sites (silent ones too) of ridge models on each layer, at the time at which "
        f"responses repeat best. A star marks the best layer of each modality; the truth is {layer}."
    )
    alt = "Lines: mean score by layer for each modality; a star marks the best layer."
    return Section("Which layer?", text, [picture(plots.layer_profile, profiles, size=(7.0, 3.6), alt=alt)])


def _modality(name: str, found: list[Found]) -> Section:
    one = found[0]
    data = one.result.data
    title = NAMES[name]
    text = f"Subject {one.subject}: held-out R² of {one.winner} at each site, with the split-half noise ceiling."
    pictures: list[Picture] = []
    if "time" in data["score"].dims:
        at = float(one.latency or 0)
        moment = one.result.data.sel(time=at, method="nearest")
        alt = f"Score of {title} channels over time; the peak is at {at * 1000:.0f} ms."
        pictures.append(picture(plots.timecourse, data, size=(7.2, 3.3), alt=alt))
    else:
        moment = data
    scores = moment.assign_attrs(data.attrs) if "time" in data.dims else data
    tested = one.tested.data
    where = plots.topomap if name in ("eeg", "meg") else plots.brain
    size = (4.6, 4.0) if name in ("eeg", "meg") else (7.4, 3.2)
    alt = f"Map of {title} scores; {int(tested['significant'].sum())} of {tested['score'].size} sites are significant."
    pictures.append(
        picture(where, tested, size=size, alt=alt, caption="At the most reliable time." if "time" in data.dims else "")
    )
    alt = f"Score of {title} sites against their noise ceiling."
    pictures.append(picture(plots.score_vs_ceiling, scores, size=(4.4, 4.0), alt=alt))
    marked = np.asarray(tested["significant"].values, bool)
    right = int((marked & one.active).sum())
    text += (
        f" Significant: {int(marked.sum())} of {marked.size} sites, among them {right} of the {int(one.active.sum())} "
        "that truly respond."
    )
    return Section(title, text, pictures)


def _rsa(
    comparisons: dict[str, rsa.RSAResult],
    findings: dict[str, list[Found]],
    activations: dict[str, xr.DataArray],
    layer: str,
) -> Section:
    pictures = [
        picture(
            plots.rsa_bars,
            result.data,
            size=(5.2, 3.4),
            alt=f"Agreement of each layer's RDM with that of {NAMES[name]}, with the noise ceiling.",
            caption=NAMES[name],
        )
        for name, result in comparisons.items()
    ]
    shown = {layer: rsa.rdm(activations[layer], method="euclidean")}
    shown |= {
        f"{NAMES[name]}, sub-{found[0].subject}": rsa.rdm(
            found[0].patterns, method="crossnobis", noise="ledoit_wolf", folds="run"
        )
        for name, found in findings.items()
    }
    alt = "RDMs of the true layer and of one subject of each modality."
    pictures.append(grid_picture(plots.rdm_grid, shown, size=(9.5, 2.8), alt=alt))
    text = (
        "Dissimilarities of all pairs of images: Euclidean distances between activations, cross-validated "
        "Mahalanobis distances (crossnobis, over runs) between responses, compared by Spearman correlation. "
        "Error bars come from a bootstrap over subjects."
    )
    return Section("Representational similarity", text, pictures)
