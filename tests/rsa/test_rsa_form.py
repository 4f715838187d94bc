from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

from neuroalign.errors import AlignmentError, SchemaError
from neuroalign.rsa import concat, conditions, from_square, reorder, select, square


def random_square(n: int, seed: int = 0, lead: tuple[int, ...] = ()) -> np.ndarray:
    half = np.triu(np.random.default_rng(seed).random((*lead, n, n)), 1)
    return half + np.swapaxes(half, -1, -2)


NAMES = ["cat", "dog", "car", "cup", "hat"]


def test_pairs_are_the_upper_triangle_row_by_row():
    rdm = from_square(random_square(5), NAMES)
    assert np.array_equal(rdm.values, squareform(random_square(5)))
    assert rdm["condition_a"].values.tolist()[:5] == ["cat"] * 4 + ["dog"]
    assert rdm["condition_b"].values.tolist()[:5] == ["dog", "car", "cup", "hat", "car"]
    assert conditions(rdm).tolist() == NAMES


def test_square_and_back_with_leading_dimensions():
    values = random_square(5, lead=(2, 3))
    source = xr.DataArray(
        values,
        dims=("subject", "time", "condition", "condition_2"),
        coords={"condition": NAMES, "condition_2": NAMES, "time": [0.0, 0.1, 0.2]},
    )
    rdm = from_square(source)
    assert rdm.dims == ("subject", "time", "pair")
    assert rdm["time"].values.tolist() == [0.0, 0.1, 0.2]
    again = square(rdm)
    assert again.dims == source.dims
    np.testing.assert_array_equal(again.values, values)
    np.testing.assert_array_equal(square(rdm.transpose("pair", "time", "subject")).shape, (3, 2, 5, 5))


@settings(max_examples=30, deadline=None)
@given(st.permutations(list(range(6))))
def test_reorder_agrees_with_indexing_the_square(order):
    values = random_square(6)
    names = np.array(list("abcdef"))
    moved = reorder(from_square(values, names), names[order])
    np.testing.assert_array_equal(square(moved).values, values[np.ix_(order, order)])
    assert conditions(moved).tolist() == names[order].tolist()


def test_select_picks_by_label():
    rdm = from_square(random_square(5), NAMES)
    part = select(rdm, ["hat", "cat", "car"])
    full = square(rdm)
    for a, b, value in zip(part["condition_a"].values, part["condition_b"].values, part.values, strict=True):
        assert value == float(full.sel(condition=a, condition_2=b))
    with pytest.raises(AlignmentError, match="cow"):
        select(rdm, ["cat", "cow"])
    with pytest.raises(SchemaError, match="distinct"):
        select(rdm, ["cat", "cat"])


def test_reorder_names_what_differs():
    rdm = from_square(random_square(3), ["cat", "dog", "car"])
    with pytest.raises(AlignmentError, match=r"not found here: \['cup'\](.|\n)*only here: \['car'\]"):
        reorder(rdm, ["cat", "dog", "cup"])


def test_concat_matches_labels():
    rdm = from_square(random_square(5), NAMES)
    both = concat({"sub-01": rdm, "sub-02": reorder(rdm, NAMES[::-1])})
    assert both.dims == ("subject", "pair")
    np.testing.assert_array_equal(both[0], both[1])
    with pytest.raises(AlignmentError):
        concat({"sub-01": rdm, "sub-02": select(rdm, NAMES[:4])})
    with pytest.raises(SchemaError, match="No RDMs"):
        concat({})


def test_xarray_concat_of_other_orders_is_found_out():
    rdm = from_square(random_square(5), NAMES)
    mixed = xr.concat([rdm, reorder(rdm, NAMES[::-1])], "subject", coords="different", compat="equals")
    with pytest.raises(SchemaError, match=r"condition_a(.|\n)*concat"):
        conditions(mixed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:4], "square"),
        (lambda x: x + np.eye(5), "zero diagonal"),
        (lambda x: x + np.triu(np.ones((5, 5)), 1), "symmetric"),
        (lambda x: np.where(np.arange(25).reshape(5, 5) == 3, np.nan, x), "symmetric"),
    ],
)
def test_from_square_refuses(change, message):
    with pytest.raises(SchemaError, match=message):
        from_square(change(random_square(5)), NAMES)


def test_labels_are_needed_and_distinct():
    with pytest.raises(SchemaError, match="labels"):
        from_square(random_square(5))
    with pytest.raises(SchemaError, match="distinct"):
        from_square(random_square(3), ["a", "a", "b"])
    swapped = xr.DataArray(random_square(3), {"x": list("abc"), "y": list("acb")}, ("x", "y"))
    with pytest.raises(SchemaError, match="different labels"):
        from_square(swapped)


def test_nan_at_mirrored_places_is_kept():
    values = random_square(5)
    values[1, 3] = values[3, 1] = np.nan
    np.fill_diagonal(values, np.nan)
    assert np.isnan(from_square(values, NAMES)).sum() == 1


def test_picked_pairs_are_no_rdm():
    rdm = from_square(random_square(5), NAMES)
    with pytest.raises(SchemaError, match="upper triangle"):
        conditions(rdm.isel(pair=slice(None, None, -1)))
    with pytest.raises(SchemaError, match="upper triangle"):
        conditions(rdm.isel(pair=slice(4)))
    with pytest.raises(SchemaError, match="not an RDM"):
        square(rdm.rename(pair="x"))
