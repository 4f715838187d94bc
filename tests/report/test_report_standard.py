"""The standard pages say what the result says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import squareform
from sklearn.linear_model import Ridge

from neuroalign.errors import SchemaError
from neuroalign.evaluation import Result, cross_validate
from neuroalign.report import Section, encoding_report, rsa_report, to_mne_report
from neuroalign.rsa import concat, evaluate, from_square


def words(path: Path) -> str:
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", text)


def headings(path: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", path.read_text(encoding="utf-8"))


@pytest.fixture
def data() -> xr.Dataset:
    rng = np.random.default_rng(0)
    score = xr.DataArray(
        rng.uniform(0, 0.2, 40),
        dims="roi",
        coords={"roi": np.array([f"region {k}" for k in range(40)], dtype=object)},
        attrs={"units": "1", "scorer": "r2"},
    )
    score[7] = 0.9
    score[8] = np.nan
    found = xr.Dataset({"score": score, "ceiling": (score + 0.05).assign_attrs(method="split_half_sb")})
    found["significant"] = score > 0.15
    found["normalised"] = score / found["ceiling"]
    found["q"] = xr.where(found["significant"], 0.01, 0.5)
    found["fold_score"] = xr.concat([score - 0.1, score, score + 0.1], "fold")
    return found.assign_attrs(estimator="RidgeEncoder", scorer="r2", n_folds=3, alpha=0.05, units="a.u.")


def test_headline_and_sites(data: xr.Dataset, tmp_path: Path) -> None:
    path = encoding_report(data, tmp_path / "page.html")
    text, n = words(path), int(data["significant"].sum())
    assert (
        headings(path)
        == ["Score map", "Score against the noise ceiling", "Significant sites", "Provenance"][: len(headings(path))]
    )
    assert "Held-out scores of RidgeEncoder" in text
    assert "best R² 0.9" in text
    assert f"{n} of 39" in text
    assert "without a score 1 of 40" in text
    assert "of roi region 7" in text
    row = re.search(r"region 7 0\.9 0\.1 0\.95 0\.947 0\.01", text)
    assert row


def test_sites_are_sorted_by_score(data: xr.Dataset, tmp_path: Path) -> None:
    text = words(encoding_report(data.drop_vars("significant"), tmp_path / "page.html"))
    table = text[text.index("The best 15 of 39") :]
    listed = [int(number) for number in re.findall(r"region (\d+)", table)]
    expected = np.argsort(-data["score"].fillna(-1).values)[:15]
    assert listed == expected.tolist()
    assert "No test was made" in text


def test_nothing_significant_is_said_plainly(data: xr.Dataset, tmp_path: Path) -> None:
    silent = data.assign(significant=xr.zeros_like(data["significant"]))
    assert "0 of 39 are significant" in words(encoding_report(silent, tmp_path / "page.html"))


def test_layers_rdms_and_more(data: xr.Dataset, tmp_path: Path) -> None:
    layers = xr.DataArray([[0.1], [0.4], [0.2]], dims=("layer", "target"), coords={"layer": ["conv1", "conv2", "fc"]})
    square = from_square(squareform(np.arange(1.0, 7)), list("abcd"))
    path = encoding_report(
        data,
        tmp_path / "page.html",
        title="Mine",
        layers=layers.rename("score"),
        rdm={"brain": square, "model": square},
        extra_sections=[Section("More", "My words.")],
    )
    assert headings(path)[3:] == ["Layers", "RDMs", "More"]
    text = words(path)
    assert "Best layer: conv2." in text
    assert "My words." in text
    path = encoding_report(data, tmp_path / "one.html", rdm=square)
    assert "RDMs" in headings(path)


def test_one_target_has_a_page_too(tmp_path: Path) -> None:
    path = encoding_report(xr.Dataset({"score": 0.3}), tmp_path / "page.html")
    assert "best score 0.3" in words(path)


def test_all_missing_has_a_page_too(data: xr.Dataset, tmp_path: Path) -> None:
    empty = data[["score"]] * np.nan
    assert "without a score 40 of 40" in words(encoding_report(empty.assign_attrs(data.attrs), tmp_path / "page.html"))


def test_time_series_of_sensors(tmp_path: Path) -> None:
    pytest.importorskip("mne")
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    times = np.arange(20) / 100
    score = xr.DataArray(
        rng.normal(0, 0.01, (16, 20)),
        dims=("channel", "time"),
        coords={
            "channel": [f"E{k}" for k in range(16)],
            "channel_type": ("channel", ["eeg"] * 16),
            "x": ("channel", 0.08 * np.cos(angle)),
            "y": ("channel", 0.08 * np.sin(angle)),
            "z": ("channel", np.full(16, 0.04)),
            "time": times,
        },
        attrs={"scorer": "r"},
    )
    score[3, 10] = 0.8
    path = encoding_report(xr.Dataset({"score": score, "significant": score > 0.5}), tmp_path / "page.html")
    text = words(path)
    assert headings(path)[:3] == ["Score map", "Time course", "Significant sites"]
    assert "of channel E3 at 100 ms" in text
    assert "lie between 100 ms and 100 ms" in text
    assert re.search(r"E3 100 31 74 40 0\.8", text)


def test_result_of_a_cross_validation_writes_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = xr.DataArray(
        rng.normal(size=(60, 3)), dims=("stimulus", "unit"), coords={"stimulus": np.arange(60).astype(str)}
    )
    weights = rng.normal(size=(3, 4))
    y = xr.DataArray(
        X.values @ weights + 0.1 * rng.normal(size=(60, 4)),
        dims=("stimulus", "roi"),
        coords={"stimulus": X["stimulus"].values, "roi": list("abcd")},
    )
    result = cross_validate(Ridge(), X, y, cv=3, test="permutation", n_permutations=50, random_state=3)
    path = result.to_html(tmp_path / "page.html")
    text = words(path)
    assert "Held-out scores of Ridge" in text
    assert "4 of 4 are significant" in text
    assert "Steps, in order" in text
    assert "cross_validate 3" in text
    assert isinstance(result, Result)


def test_rsa_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"c{k}" for k in range(15)]
    truth, other = (from_square(squareform(rng.random(105)), names) for _ in range(2))
    brains = concat({f"s{k}": truth + 0.2 * rng.random(105) for k in range(5)})
    found = evaluate({"truth": truth, "other": other}, brains, n=50, random_state=1)
    path = rsa_report(found, tmp_path / "page.html", rdm={"truth": truth, "other": other})
    text = words(path)
    assert headings(path) == ["Models", "Tests", "Differences between models", "RDMs", "Provenance"]
    assert f"The best is truth ({float(found.score[0]):.3g})" in text
    assert "best model truth" in text
    assert "rsa.evaluate 1" in text
    again = found.to_html(tmp_path / "again.html")
    assert headings(Path(again))[:2] == ["Models", "Tests"]


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="nothing to report"):
        encoding_report(xr.Dataset({"r": 1.0}), tmp_path / "page.html")
    with pytest.raises(SchemaError, match="RSA"):
        rsa_report(xr.Dataset({"score": 1.0}), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_sections_go_on_in_mne() -> None:
    pytest.importorskip("mne")
    from matplotlib.figure import Figure

    from neuroalign.report import Picture, Table

    drawn = Figure(figsize=(3, 2))
    drawn.subplots().plot([0, 1])
    part = Section("One <b>", "Words & more.", [Picture(drawn, "a line")], Table(["a"], [["<i>"]]))
    report = to_mne_report([part])
    html = "".join(report.html)
    assert "Words &amp; more." in html
    assert "&lt;i&gt;" in html
