"""Draw the pictures of the README from the results of its commands.

Run ``python docs/pictures.py RESULTS TABLES DEMO``: the folder with the results of the README's commands, the folder
that holds ``rdm92`` as written by ``neuroalign fetch``, and the folder of ``neuroalign demo``. Pictures go to
``docs/_static``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from neuroalign import plots, storage
from neuroalign.activations import ActivationExtractor
from neuroalign.datasets import read_truth
from neuroalign.datasets.simulate import simulate_network
from neuroalign.evaluation import Result
from neuroalign.loaders import load
from neuroalign.pipeline import demo
from neuroalign.pipeline.pages import draw_attention, draw_comparison, draw_differences

OUT = Path(__file__).parent / "_static"


def save(figure: Figure, name: str) -> None:
    figure.savefig(OUT / f"{name}.png", dpi=110, metadata={"Software": None})
    print(OUT / f"{name}.png")


def objects81(results: Path) -> None:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    table = pd.read_csv(results / "objects81" / "comparison.tsv", sep="\t")
    draw_comparison(table, left, scorer="r")
    draw_differences(table, right)
    save(figure, "objects81")


def cocktail(results: Path) -> None:
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    one, two, three = figure.subplots(1, 3, width_ratios=(1, 1.7, 1.3))
    result = Result.open(results / "trf" / "result.zarr")
    plots.topomap(result.data, ax=one)
    one.set_title("held-out r of the TRF", fontsize=10)
    plots.response_function(storage.open(results / "trf" / "response.zarr").squeeze("unit", drop=True), ax=two)
    table = pd.read_csv(results / "attention" / "attention.tsv", sep="\t")
    draw_attention(table, ("attended", "unattended"), three)
    save(figure, "cocktail")


def narratives(results: Path) -> None:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    result = load(results / "narratives" / "result.zarr")
    plots.brain(result, ax=figure.subplots())
    save(figure, "narratives")


def rdm92(results: Path, tables: Path) -> None:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    human, models = (storage.open(tables / f"{name}.zarr") for name in ("human_it", "models"))
    shown = {"human IT": human.mean(["subject", "session"], keep_attrs=True)}
    shown |= {name: models.sel(model=name, drop=True) for name in ("animacy", "monkeyIT", "V1")}
    plots.rdm_grid(shown, figure=parts[0])
    plots.rsa_bars(storage.open(results / "rdm92" / "result.zarr"), ax=parts[1].subplots())
    save(figure, "rdm92")


def demonstration(root: Path) -> None:
    truth = read_truth(root / "data")
    network = simulate_network(truth["network"]["random_state"])
    acts = ActivationExtractor(network, layers=list(demo.LAYERS))(load(root / "data" / "stimuli"))
    found = [
        demo.analyse_job((root / "data", "01", name, truth["subjects"]["01"][name], None, 0, acts))
        for name in ("eeg", "fmri")
    ]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    profiles = {name: f.profile.assign_attrs(long_name="R²") for name, f in zip(("EEG", "fMRI"), found, strict=True)}
    plots.layer_profile(profiles, ax=axes[0])
    plots.topomap(found[0].tested.data, ax=axes[1])
    plots.score_vs_ceiling(found[1].tested.data, ax=axes[2])
    for ax, title in zip(axes, ("score by layer", "EEG: score of block3", "fMRI voxels"), strict=True):
        ax.set_title(title, fontsize=10)
    save(figure, "demo")


if __name__ == "__main__":
    results, tables, root = map(Path, sys.argv[1:4])
    OUT.mkdir(exist_ok=True)
    objects81(results)
    cocktail(results)
    narratives(results)
    rdm92(results, tables / "rdm92")
    demonstration(root)
