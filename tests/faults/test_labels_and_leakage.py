"""Order, repeats and leakage of stimuli (rows 9, 14 and 15 of the faults)."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from neuroalign.align import join
from neuroalign.encoding import RidgeEncoder
from neuroalign.errors import AlignmentError, LabelsLostError, NeuroalignError, SchemaError
from neuroalign.evaluation import cross_validate
from neuroalign.evaluation.splits import GroupSplit, StimulusSplit


def table(ids: list[str], width: int, dim: str, seed: int = 0) -> xr.DataArray:
    """Values that depend on the id alone, whatever the order."""
    values = [np.random.default_rng([seed, *map(ord, name)]).normal(size=width) for name in ids]
    return xr.DataArray(np.array(values), dims=("stimulus", dim), coords={"stimulus": ids}, attrs={"units": "a.u."})


@settings(max_examples=40, deadline=None)
@given(order=st.permutations([f"image-{n}" for n in range(12)]))
def test_a_shuffled_order_is_refused_or_put_right(order: list[str]) -> None:
    ids = [f"image-{n}" for n in range(12)]
    x, y = table(ids, 3, "unit"), table(order, 2, "voxel", seed=1)
    expected = RidgeEncoder(cv=3).fit(table(order, 3, "unit"), y)
    for use in (lambda: join(x, y), lambda: RidgeEncoder(cv=3).fit(x, y), lambda: cross_validate(RidgeEncoder(), x, y)):
        if order == ids:
            use()
            continue
        first = next(n for n in range(12) if order[n] != ids[n])
        with pytest.raises(AlignmentError, match=f"position {first}") as caught:
            use()
        assert "reorder=True" in str(caught.value)
    sorted_x, same_y = join(x, y, reorder=True)
    assert sorted_x["stimulus"].values.tolist() == order
    np.testing.assert_array_equal(RidgeEncoder(cv=3).fit(sorted_x, same_y).coef_, expected.coef_)


def test_other_stimuli_are_named() -> None:
    x, y = table(["a", "b", "c"], 2, "unit"), table(["a", "b", "d"], 2, "voxel")
    with pytest.raises(AlignmentError, match=r"only in X: \['c'\][\s\S]*only in y: \['d'\]"):
        join(x, y)
    with pytest.raises(AlignmentError, match="'c' against 'd'"):
        RidgeEncoder().fit(x, y)
    with pytest.raises(AlignmentError, match="repeat"):
        join(table(["a", "a", "c"], 2, "unit"), y)


def repeated(n_stimuli: int = 15, n_repeats: int = 3) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    ids = np.repeat([f"image-{n}" for n in range(n_stimuli)], n_repeats)
    x, y = (
        xr.DataArray(np.repeat(rng.normal(size=(n_stimuli, 4)), n_repeats, axis=0), dims=("trial", d)) for d in "uv"
    )
    y = y + 0.1 * rng.normal(size=y.shape)
    return x.assign_coords(stimulus_id=("trial", ids)), y.assign_coords(stimulus_id=("trial", ids))


def test_a_stimulus_on_both_sides_is_refused() -> None:
    x, y = repeated()
    shuffled = KFold(3, shuffle=True, random_state=0)
    for cv in (shuffled, list(shuffled.split(x))):
        with pytest.raises(NeuroalignError, match=r"(?i)stimul|image-"):
            cross_validate(RidgeEncoder(), x, y, cv=cv)
    for cv in (None, 3, StimulusSplit(4), GroupSplit(5, by="stimulus_id")):
        result = cross_validate(RidgeEncoder(), x, y, cv=cv)
        assert (result.score < 0.3).all()  # nothing can be learned about new stimuli


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 9), min_size=24, max_size=60).filter(lambda v: len(set(v)) > 4), k=st.integers(2, 4))
def test_inner_folds_never_share_a_stimulus(ids: list[int], k: int) -> None:
    from neuroalign.evaluation.folds import resolve_cv

    x = xr.DataArray(np.zeros((len(ids), 1)), dims=("trial", "unit"), coords={"stimulus_id": ("trial", ids)})
    for cv in (None, k, StimulusSplit(k), "stimulus_id"):
        if cv == "stimulus_id" or len(set(ids)) < len(ids):
            for train, test in resolve_cv(cv, x):
                assert not {ids[i] for i in train} & {ids[i] for i in test}


def test_one_side_without_labels() -> None:
    x, y = repeated()
    for a, b, lost in ((x.values, y, "X"), (x, y.values, "y")):
        with pytest.raises(LabelsLostError, match=f"{lost} has lost its labels") as caught:
            RidgeEncoder().fit(a, b)
        assert "Labelled(StandardScaler())" in str(caught.value)


@settings(max_examples=25, deadline=None)
@given(
    bad=st.lists(st.sampled_from(["fine", "nan", "inf", "constant"]), min_size=2, max_size=6), seed=st.integers(0, 9)
)
@pytest.mark.filterwarnings("ignore:.*they get NaN scores")
def test_scores_target_by_target(bad: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, len(bad)))
    y[:, 0] += x[:, 0]
    for column, kind in enumerate(bad):
        if kind == "constant":
            y[:, column] = 0.1
        elif kind != "fine":
            y[seed, column] = float(kind)
    if not {"fine", "constant"} & {*bad}:
        with pytest.raises(SchemaError, match="No target is finite"):
            RidgeEncoder(cv=3).fit(x, y)
        return
    scores = RidgeEncoder(cv=3).fit(x, y).score_map(x, y)
    for column, kind in enumerate(bad):
        if kind == "fine":
            alone = RidgeEncoder(cv=3).fit(x, y[:, column]).score_map(x, y[:, column])
            np.testing.assert_allclose(scores[column], alone, rtol=1e-9, atol=1e-12)
        else:
            assert np.isnan(scores[column])
