"""Confounds of fMRIPrep, compared with nilearn."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from numpy.testing import assert_allclose, assert_array_equal

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._confounds import COLUMNS, STRATEGIES, drop_short, parse_strategy, read_confounds

STEM = "sub-01_task-x"


def write(folder, columns, meta=None, name="desc-confounds_timeseries"):
    path = folder / f"{STEM}_{name}.tsv"
    pd.DataFrame(columns).to_csv(path, sep="\t", na_rep="n/a", index=False)
    path.with_suffix(".json").write_text(json.dumps(meta or {}))
    return path


def columns(n=60, seed=0):
    """All columns of a table of fMRIPrep, with the JSON that tells the masks of its components."""
    rng = np.random.default_rng(seed)
    table = {name: rng.normal(size=n) for name in COLUMNS["36p"]}
    table |= {"framewise_displacement": rng.exponential(0.2, n), "std_dvars": rng.normal(1, 0.25, n)}
    for name in table:
        if "derivative" in name or name in ("framewise_displacement", "std_dvars"):
            table[name][0] = np.nan
    table |= {f"cosine{i:02}": rng.normal(size=n) for i in range(3)}
    meta = {}
    masks = {"a_comp_cor_": ["combined"] * 6 + ["CSF"] * 3 + ["WM"] * 4, "t_comp_cor_": [None] * 3}
    for prefix, kinds in masks.items():
        for i, kind in enumerate(kinds):
            meta[f"{prefix}{i:02}"] = {"Method": "aCompCor" if kind else "tCompCor", "Retained": True}
            meta[f"{prefix}{i:02}"] |= {"Mask": kind} if kind else {}
            table[f"{prefix}{i:02}"] = rng.normal(size=n)
    meta["dropped_0"] = {"Method": "aCompCor", "Mask": "combined", "Retained": False}
    for i in range(int(rng.integers(0, 3))):
        table[f"non_steady_state_outlier{i:02}"] = np.eye(n)[i]
    return table, meta


def nilearn(folder, strategy, **options):
    image = folder / f"{STEM}_space-T1w_desc-preproc_bold.nii.gz"
    image.write_bytes(b"")
    table, kept = load_confounds(str(image), strategy=strategy, demean=False, **options)
    mask = np.full(len(table), kept is None)
    if kept is not None:
        mask[kept] = True
    return table, mask


PAIRS = [
    ("6p", ("motion",), {"motion": "basic"}),
    ("12p", ("motion",), {"motion": "derivatives"}),
    ("24p", ("motion",), {"motion": "full"}),
    ("wm_csf", ("wm_csf",), {"wm_csf": "basic"}),
    ("wm_csf_full+high_pass", ("wm_csf", "high_pass"), {"wm_csf": "full"}),
    ("global", ("global_signal",), {"global_signal": "basic"}),
    ("9p", ("motion", "wm_csf", "global_signal"), {"motion": "basic", "wm_csf": "basic", "global_signal": "basic"}),
    ("36p", ("motion", "wm_csf", "global_signal"), {"motion": "full", "wm_csf": "full", "global_signal": "full"}),
    ("acompcor", ("high_pass", "compcor"), {"compcor": "anat_combined", "n_compcor": "all"}),
    ({"strategy": "acompcor", "n_compcor": 4}, ("high_pass", "compcor"), {"compcor": "anat_combined", "n_compcor": 4}),
    ("acompcor_separate", ("high_pass", "compcor"), {"compcor": "anat_separated", "n_compcor": "all"}),
    ("tcompcor", ("high_pass", "compcor"), {"compcor": "temporal", "n_compcor": "all"}),
    ("24p+scrub", ("motion", "scrub"), {"motion": "full"}),
    (
        {"strategy": "6p+scrub", "fd": 0.3, "dvars": 1.2, "min_segment": 3},
        ("motion", "scrub"),
        {"motion": "basic", "fd_threshold": 0.3, "std_dvars_threshold": 1.2, "scrub": 3},
    ),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS, ids=[str(p[0]) for p in PAIRS])
def test_columns_and_volumes_are_those_of_nilearn(tmp_path, ours, theirs, options, seed):
    table, meta = columns(n=60 + 17 * seed, seed=seed)
    found = read_confounds(write(tmp_path, table, meta), parse_strategy(ours))
    expected, mask = nilearn(tmp_path, theirs, **options)
    assert set(found.table.columns) == set(expected.columns)
    assert_allclose(found.table[expected.columns].to_numpy(), expected.to_numpy())
    assert_array_equal(found.sample_mask, mask)
    assert not found.notes


def test_real_table_in_old_and_new_names(real_data, tmp_path):
    old = real_data("fmriprep-visualcontrol") / "sub-01_task-visualcontrol_desc-confounds_regressors.tsv"
    everything = read_confounds(old, parse_strategy(["*"])).table
    assert everything.shape == (250, 28)
    given = pd.read_csv(old, sep="\t", na_values="n/a")
    assert_array_equal(everything["rot_y"], given["RotY"])
    assert_array_equal(everything["t_comp_cor_05"], given["tCompCor05"])
    meta = {f"a_comp_cor_0{i}": {"Method": "aCompCor", "Mask": "combined", "Retained": True} for i in range(6)}
    meta |= {f"t_comp_cor_0{i}": {"Method": "tCompCor", "Retained": True} for i in range(6)}
    write(tmp_path, everything, meta)
    for ours, theirs, options in (
        ("6p", ("motion",), {"motion": "basic"}),
        ("wm_csf", ("wm_csf",), {}),
        ("global", ("global_signal",), {}),
        ("acompcor", ("high_pass", "compcor"), {"compcor": "anat_combined", "n_compcor": "all"}),
        ("tcompcor", ("high_pass", "compcor"), {"compcor": "temporal", "n_compcor": "all"}),
        ("6p+scrub", ("motion", "scrub"), {"motion": "basic"}),
    ):
        expected, mask = nilearn(tmp_path, theirs, **options)
        found = read_confounds(old, parse_strategy(ours))
        assert_allclose(found.table[expected.columns].to_numpy(), expected.to_numpy())
        assert found.table.shape == expected.shape
        assert_array_equal(found.sample_mask, mask)
    assert not found.sample_mask[0]  # NonSteadyStateOutlier00
    with pytest.raises(SchemaError, match=r"trans_x_derivative1(.|\n)*trans_x"):
        read_confounds(old, parse_strategy("24p"))


def test_masks_in_names_of_columns(tmp_path):
    table = {f"{kind}_comp_cor_0{i}": np.arange(5.0) + i for kind in "acw" for i in range(2)}
    path = write(tmp_path, table | {"cosine00": np.ones(5)})
    assert list(read_confounds(path, parse_strategy("acompcor")).table) == [
        "a_comp_cor_00",
        "a_comp_cor_01",
        "cosine00",
    ]
    separate = read_confounds(path, parse_strategy({"strategy": "acompcor_separate", "n_compcor": 1})).table
    assert list(separate) == ["w_comp_cor_00", "c_comp_cor_00", "cosine00"]
    few = read_confounds(path, parse_strategy({"strategy": "acompcor", "n_compcor": 5}))
    assert few.table.shape[1] == 3
    assert "2 components" in few.notes[0]


def test_columns_and_wildcards(tmp_path):
    table, meta = columns()
    path = write(tmp_path, table, meta)
    assert list(read_confounds(path, parse_strategy(["csf", "trans_?", "csf"])).table) == [
        "csf", "trans_x", "trans_y", "trans_z",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="acompcor"):
        read_confounds(path, parse_strategy("acompcorr"))
    assert read_confounds(path, parse_strategy("non_steady_state")).table.shape == (60, 0)


def test_first_row_is_filled_and_no_other(tmp_path):
    path = write(tmp_path, {"a": [np.nan, 2.0, 3.0], "b": [1.0, np.nan, 3.0], "c": [np.nan, np.nan, 1.0]})
    assert read_confounds(path, parse_strategy("a")).table["a"].tolist() == [2, 2, 3]
    for name, line in (("b", 3), ("c", 2)):
        with pytest.raises(SchemaError, match=f"line {line}, column '{name}'"):
            read_confounds(path, parse_strategy(name))
    with pytest.raises(SchemaError, match="not a number"):
        read_confounds(write(tmp_path, {"a": ["x", "1"]}), parse_strategy("a"))


@pytest.mark.parametrize("word", [w for w in STRATEGIES if w not in ("high_pass", "non_steady_state")])
def test_missing_columns_are_named(tmp_path, word):
    path = write(tmp_path, {"framewise_displacement": [0.0, 0.1], "x1": [0, 1]})
    with pytest.raises(SchemaError, match=r"lacks columns(.|\n)*x1"):
        read_confounds(path, parse_strategy(word))


@pytest.mark.parametrize(
    "value", ["", "6p+", [], {"n_compcor": 3}, {"strategy": "6p", "fdd": 1}, {"strategy": "6p", "fd": -1},
              {"strategy": "6p", "n_compcor": 0}, {"strategy": "6p", "n_compcor": 2.5}, {"strategy": "6p", "fd": None},
              {"strategy": "6p", "dvars": "1"}, {"strategy": "6p", "min_segment": float("nan")}]
)  # fmt: skip
def test_impossible_strategies(value):
    with pytest.raises(ConfigError):
        parse_strategy(value)


def test_short_pieces():
    keep = np.array([1, 1, 0, 1, 0, 1, 1, 1], dtype=bool)
    assert_array_equal(drop_short(keep, 0), keep)
    assert_array_equal(drop_short(keep, 2), [1, 1, 0, 0, 0, 1, 1, 1])
    assert_array_equal(drop_short(keep, 4), np.zeros(8))
