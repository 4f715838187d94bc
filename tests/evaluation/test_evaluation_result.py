import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

from neuroalign import schema
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.evaluation import Result, bootstrap_compare, cross_validate


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    n = 80
    X = rng.standard_normal((n, 4))
    y = X @ rng.standard_normal((4, 6)) * [1, 1, 1, 0, 0, 0] + rng.standard_normal((n, 6))
    y[:, 5] = 1.0
    y = xr.DataArray(
        y.reshape(n, 2, 3),
        dims=("stimulus", "channel", "time"),
        coords={
            "stimulus": [f"s{i}" for i in range(n)],
            "channel": ["Cz", "<b>"],
            "time": [0.0, 0.1, 0.2],
            "bad": ("channel", [False, True]),
        },
        attrs={"units": "V", "sfreq": 10.0},
    )
    X = xr.DataArray(X, dims=("stimulus", "unit"), coords={"stimulus": y.stimulus.values})
    return cross_validate(Ridge(), X, y, test="permutation", n_permutations=50, random_state=0)


def test_saved_and_opened(result, tmp_path):
    result.save(tmp_path / "result.zarr")
    assert Result.open(tmp_path / "result.zarr").data.identical(result.data)


def test_tsv(result, tmp_path):
    table = pd.read_csv(result.to_tsv(tmp_path / "result.tsv"), sep="\t", na_values="n/a")
    assert list(table.columns[:3]) == ["channel", "time", "score"]
    assert len(table) == 6
    np.testing.assert_allclose(table.score, result.score.values.ravel())
    assert "bad" in table
    assert "stimulus" not in table


def test_tsv_of_a_single_target(tmp_path):
    table = Result(xr.Dataset({"score": 0.5})).to_tsv(tmp_path / "one.tsv").read_text()
    assert table.splitlines() == ["target\tscore", "0\t0.5"]


def test_short_summary(result):
    text = repr(result)
    assert "2 channel x 3 time" in text
    assert "not scored (constant or not finite): 1 of 6" in text
    assert "significant: 4 of 5" in text
    assert result._repr_html_().startswith("<div>")


def test_what_was_not_asked_for_says_how_to_ask(result):
    with pytest.raises(ConfigError, match="ceiling='split_half_sb'"):
        _ = result.ceiling
    with pytest.raises(ConfigError, match="test='permutation'"):
        _ = Result(result.data[["score"]]).p


def test_geometry_travels_with_each_variable(result):
    assert result.score.attrs["sfreq"] == 10.0
    assert result.p.attrs["units"] == "1"


def test_compare(result):
    rng = np.random.default_rng(1)
    worse = result.data.assign(prediction=result.data.prediction + rng.standard_normal(result.data.prediction.shape))
    out = result.compare(Result(worse), random_state=0)
    by_hand = bootstrap_compare(
        result.data.observed, result.data.prediction, worse.prediction, folds="fold_id", random_state=0
    )
    xr.testing.assert_allclose(out, by_hand)
    np.testing.assert_allclose(out.score_a, result.score)
    with pytest.raises(SchemaError, match="same held-out responses"):
        result.compare(Result(result.data.assign(observed=result.data.observed + 1)))
    with pytest.raises(ConfigError, match="too large"):
        result.compare(Result(result.data.drop_vars("prediction")))


def test_views_are_found_by_name(result, monkeypatch):
    seen = []
    monkeypatch.setattr("neuroalign.evaluation.result.view", lambda name: lambda *a, **k: seen.append((name, a, k)))
    result.plot()
    result.plot.topomap(time=0.17, vlim=(0, 1))
    result.plot.timecourse(channel="Cz")
    result.to_html("out.html", title="t")
    assert [name for name, _, _ in seen] == ["auto", "topomap", "timecourse", "encoding_report"]
    assert seen[1][1][0].time == 0.2
    assert seen[1][2] == {"vlim": (0, 1)}
    assert seen[2][1][0].score.dims == ("time",)


def test_unknown_view(result):
    with pytest.raises(AttributeError, match="Unknown view"):
        _ = result.plot.hologram
    with pytest.raises(ConfigError):
        schema.view("hologram")


def test_evaluation_does_not_load_what_draws():
    heavy = ("matplotlib.pyplot", "torch", "mne", "nilearn")
    code = f"import sys, neuroalign.evaluation; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_not_a_result():
    for wrong in (xr.Dataset(), xr.DataArray([1.0])):
        with pytest.raises(SchemaError, match="Not a result"):
            Result(wrong)
