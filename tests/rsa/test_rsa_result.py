from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import neuroalign.rsa.result as module
from neuroalign.rsa import evaluate, rdm


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(10, 5))
    models = {"good": rdm(truth), "none": rdm(rng.normal(size=(10, 5)))}
    return evaluate(models, rdm(truth + rng.normal(size=(5, 10, 5))), n=30, random_state=0)


def test_repr_says_what_was_done(result):
    text = repr(result)
    assert "rho-a, 5 subjects, 10 conditions, bootstrap over both (30 samples, df 4)" in text
    assert f"good: {float(result.score[0]):.3f} [" in text


def test_table_has_a_row_for_each_model(result, tmp_path):
    table = result.to_frame()
    assert table["model"].tolist() == ["good", "none"]
    np.testing.assert_allclose(table["score"], result.score)
    np.testing.assert_allclose(table["ci_low"], result.ci[0])
    np.testing.assert_allclose(table["ceiling_upper"], float(result.ceiling[1]))
    result.to_tsv(tmp_path / "rsa.tsv")
    lines = (tmp_path / "rsa.tsv").read_text().splitlines()
    assert lines[0].startswith("model\tscore\tse\tt\tp\tp_fdr")
    assert len(lines) == 3


def test_time_courses_give_a_row_for_each_time(result):
    rng = np.random.default_rng(0)
    data = rdm(rng.normal(size=(4, 3, 10, 5)))
    rows, columns = np.triu_indices(10, 1)
    coords = {"condition_a": ("pair", rows), "condition_b": ("pair", columns), "time": [0.0, 0.1, 0.2]}
    labelled = xr.DataArray(data, coords, ("subject", "time", "pair"))
    model = labelled.isel(subject=0, time=0, drop=True)
    found = evaluate({"m": model}, labelled, n=10, random_state=0)
    table = found.to_frame()
    assert table[["model", "time"]].values.tolist() == [["m", 0.0], ["m", 0.1], ["m", 0.2]]
    assert "score: {'model': 1, 'time': 3}" in repr(found)


def test_saved_and_opened_again(result, tmp_path):
    from neuroalign import storage

    result.save(tmp_path / "rsa.zarr")
    again = storage.open(tmp_path / "rsa.zarr")
    np.testing.assert_allclose(again["score"], result.score)
    assert again["model"].values.tolist() == ["good", "none"]
    assert again.attrs["compare"] == "rho-a"


def test_plot_and_report_are_asked_for_by_name(result, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "view", lambda name: lambda *args, **options: seen.append((name, args, options)))
    result.plot(colour="k")
    result.to_html("x.html")
    assert [entry[0] for entry in seen] == ["rsa_bars", "rsa_report"]
    assert seen[0][1:] == ((result,), {"colour": "k"})
