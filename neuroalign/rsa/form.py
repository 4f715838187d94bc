"""The form of an RDM: a labelled vector of condition pairs, and the helpers that turn, pick and join it.

An RDM is a DataArray whose last dimension is ``pair``: the upper triangle of the square matrix, row by row, with
the coordinates ``condition_a`` and ``condition_b``. Two RDMs meet by these labels, never by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import AlignmentError, SchemaError

__all__ = ["concat", "conditions", "from_square", "reorder", "select", "square"]


def n_conditions(n_pairs: int) -> int:
    """Give the number of conditions whose upper triangle has `n_pairs` entries."""
    n = (1 + int(np.sqrt(1 + 8 * n_pairs) + 0.5)) // 2
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise SchemaError(
            "This number of pairs is not the upper triangle of any square matrix.",
            expected="n (n - 1) / 2 pairs, for example 3, 6, 10, 15",
            got=n_pairs,
        )
    return n


def labelled(values: NDArray[Any], names: ArrayLike, dims: Iterable[str] = ()) -> xr.DataArray:
    """Wrap condensed values (..., pair) with their condition labels (n_conditions,)."""
    given = np.asarray(names)
    labels = given.astype(object) if given.dtype.kind in "US" else given
    rows, columns = np.triu_indices(len(labels), 1)
    coords = {"condition_a": ("pair", labels[rows]), "condition_b": ("pair", labels[columns])}
    return xr.DataArray(values, dims=(*dims, "pair"), coords=coords)


def conditions(rdm: xr.DataArray) -> NDArray[Any]:
    """Read the condition labels of an RDM, in the order of its rows.

    Parameters
    ----------
    rdm : DataArray, dims (..., pair)
        A labelled RDM.

    Returns
    -------
    ndarray, shape (n_conditions,)
        The labels.

    Raises
    ------
    SchemaError
        If the pairs are not the whole upper triangle, row by row, of distinct conditions.

    Examples
    --------
    >>> conditions(from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])).tolist()
    ['cat', 'dog', 'car']
    """
    _check_dims(rdm)
    first, second = rdm["condition_a"].values, rdm["condition_b"].values
    n = n_conditions(rdm.sizes["pair"])
    labels = np.concatenate([first[:1], second[: n - 1]])
    rows, columns = np.triu_indices(n, 1)
    if not (np.array_equal(labels[rows], first) and np.array_equal(labels[columns], second)):
        raise SchemaError(
            "The pairs of this RDM are not the upper triangle, row by row.",
            got="condition_a and condition_b in another order, or pairs missing",
            fix="pick conditions with neuroalign.rsa.select(rdm, conditions), not pairs",
        )
    if len(set(labels.tolist())) < n:
        raise SchemaError("Condition labels repeat.", expected=f"{n} distinct labels", got=labels.tolist())
    return labels


def _check_dims(rdm: xr.DataArray) -> None:
    if "pair" not in rdm.dims:
        raise SchemaError(
            "This is not an RDM.",
            expected="a dimension 'pair' with the coordinates condition_a and condition_b",
            got=f"dims {tuple(rdm.dims)}",
            fix="make one with neuroalign.rsa.rdm(...) or neuroalign.rsa.from_square(...)",
        )
    for name in ("condition_a", "condition_b"):
        if name not in rdm.coords or rdm[name].dims != ("pair",):
            raise SchemaError(
                f"The coordinate {name} is missing or does not lie along 'pair' alone.",
                got={str(k): v.dims for k, v in rdm.coords.items()},
                fix="RDMs whose conditions come in different orders are joined with neuroalign.rsa.concat",
            )


def from_square(values: xr.DataArray | ArrayLike, conditions: ArrayLike | None = None) -> xr.DataArray:
    """Make an RDM from square matrices.

    Parameters
    ----------
    values : DataArray or array_like, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities with a zero diagonal. NaN is allowed, at mirrored places and on the diagonal.
        A DataArray gives its leading dimensions, and its labels if its last two dimensions have coordinates.
    conditions : array_like of shape (n_conditions,), optional
        Condition labels; needed unless `values` carries them.

    Returns
    -------
    DataArray, dims (..., pair)
        The upper triangle with its labels.

    Raises
    ------
    SchemaError
        If the matrices are not square, not symmetric, have something on the diagonal, or have no labels.

    Examples
    --------
    >>> from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"]).values
    array([1., 2., 3.])
    """
    source = values if isinstance(values, xr.DataArray) else None
    array = np.asarray(values)
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] < 2:
        raise SchemaError("RDMs must be square.", expected="(..., n_conditions, n_conditions)", got=array.shape)
    names = _square_labels(source, conditions, array.shape[-1])
    _check_symmetric(array)
    rows, columns = np.triu_indices(len(names), 1)
    if source is None:
        return labelled(array[..., rows, columns], names, [f"dim_{i}" for i in range(array.ndim - 2)])
    lead = source.dims[:-2]
    result = labelled(array[..., rows, columns], names, [str(d) for d in lead])
    return result.assign_coords({k: c for k, c in source.coords.items() if set(c.dims) <= set(lead)}).assign_attrs(
        source.attrs
    )


def _square_labels(source: xr.DataArray | None, given: ArrayLike | None, n: int) -> NDArray[Any]:
    if given is not None:
        names = np.asarray(given)
    elif source is not None and source.dims[-2] in source.coords:
        names = source[source.dims[-2]].values
        second = source[source.dims[-1]] if source.dims[-1] in source.coords else None
        if second is not None and not np.array_equal(names, second.values):
            raise SchemaError("Rows and columns of the RDM have different labels.", got=(names[:5], second.values[:5]))
    else:
        raise SchemaError("An RDM needs condition labels.", fix="pass conditions=[...], one label for each row")
    if names.shape != (n,) or len(set(names.tolist())) < n:
        raise SchemaError(
            "Wrong condition labels.", expected=f"{n} distinct labels", got=f"shape {names.shape}: {names.tolist()}"
        )
    return names


def _check_symmetric(array: NDArray[Any]) -> None:
    size = np.nanmax(np.abs(array), initial=0.0, where=np.isfinite(array))
    near = {"rtol": 0.0, "atol": 1e-5 * size}  # float32 files are symmetric to about 1e-7
    if not np.allclose(array, np.swapaxes(array, -1, -2), equal_nan=True, **near):
        raise SchemaError(
            "An RDM must be symmetric.",
            got="values that differ across the diagonal",
            fix="average them first if they come from two halves: (x + x.T) / 2",
        )
    diagonal = np.diagonal(array, axis1=-2, axis2=-1)
    if not np.allclose(np.nan_to_num(diagonal), 0, **near):
        raise SchemaError(
            "An RDM must have a zero diagonal.",
            got=f"diagonal values up to {np.nanmax(np.abs(diagonal)):.3g}",
            fix="if these are similarities, take 1 - x first",
        )


def square(rdm: xr.DataArray) -> xr.DataArray:
    """Turn an RDM into square matrices.

    Parameters
    ----------
    rdm : DataArray, dims (..., pair)
        A labelled RDM.

    Returns
    -------
    DataArray, dims (..., condition, condition_2)
        Symmetric, with a zero diagonal.

    Examples
    --------
    >>> rdm = from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])
    >>> float(square(rdm).sel(condition="car", condition_2="dog"))
    3.0
    """
    labels = conditions(rdm)
    moved = rdm.transpose(..., "pair")
    rows, columns = np.triu_indices(len(labels), 1)
    out = np.zeros((*moved.shape[:-1], len(labels), len(labels)), moved.dtype)
    out[..., rows, columns] = out[..., columns, rows] = moved.values
    coords: dict[Any, Any] = {k: c for k, c in rdm.coords.items() if "pair" not in c.dims}
    coords |= {"condition": labels, "condition_2": labels}
    return xr.DataArray(out, coords, (*moved.dims[:-1], "condition", "condition_2"), rdm.name, rdm.attrs)


def select(rdm: xr.DataArray, labels: ArrayLike) -> xr.DataArray:
    """Pick conditions of an RDM by label, in the order given.

    Parameters
    ----------
    rdm : DataArray, dims (..., pair)
        A labelled RDM.
    labels : array_like of shape (n_kept,)
        The conditions to keep; at least two.

    Returns
    -------
    DataArray, dims (..., pair)
        The RDM of these conditions.

    Raises
    ------
    AlignmentError
        If a label is not in the RDM.

    Examples
    --------
    >>> rdm = from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])
    >>> select(rdm, ["car", "cat"]).values
    array([2.])
    """
    have, want = conditions(rdm), np.asarray(labels)
    place = {label: i for i, label in enumerate(have.tolist())}
    missing = [label for label in want.tolist() if label not in place]
    if missing:
        raise AlignmentError(
            f"{len(missing)} of {len(want)} conditions are not in this RDM.",
            expected=f"conditions among {have.tolist()}",
            got=f"first missing: {missing[:5]}",
        )
    if len(set(want.tolist())) < len(want) or len(want) < 2:
        raise SchemaError("Conditions to select must be distinct, and at least two.", got=want.tolist())
    index = np.array([place[label] for label in want.tolist()])
    if np.array_equal(index, np.arange(len(have))):
        return rdm
    taken = rdm.isel(pair=pair_positions(index, len(have)))
    first, second = np.triu_indices(len(index), 1)
    return taken.assign_coords(condition_a=("pair", have[index][first]), condition_b=("pair", have[index][second]))


def pair_positions(index: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Find where the pairs of the conditions `index` lie in the condensed form of `n` conditions."""
    rows, columns = np.triu_indices(len(index), 1)
    low, high = np.minimum(index[rows], index[columns]), np.maximum(index[rows], index[columns])
    return low * (2 * n - low - 1) // 2 + high - low - 1


def reorder(rdm: xr.DataArray, labels: ArrayLike) -> xr.DataArray:
    """Bring the conditions of an RDM into another order.

    Parameters
    ----------
    rdm : DataArray, dims (..., pair)
        A labelled RDM.
    labels : array_like of shape (n_conditions,)
        All its conditions, in the order wanted.

    Returns
    -------
    DataArray, dims (..., pair)
        The same dissimilarities in the new order.

    Raises
    ------
    AlignmentError
        If the labels are not the same set as the conditions of the RDM; the first that differ are named.

    Examples
    --------
    >>> rdm = from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])
    >>> reorder(rdm, ["car", "dog", "cat"]).values
    array([3., 2., 1.])
    """
    have, want = conditions(rdm).tolist(), np.asarray(labels).tolist()
    extra, missing = [x for x in have if x not in set(want)], [x for x in want if x not in set(have)]
    if extra or missing:
        raise AlignmentError(
            "The two RDMs do not have the same conditions.",
            expected=f"{len(want)} conditions; not found here: {missing[:5]}",
            got=f"{len(have)} conditions; only here: {extra[:5]}",
            fix="keep the common ones with neuroalign.rsa.select(rdm, conditions)",
        )
    return select(rdm, labels)


def concat(rdms: Mapping[Any, xr.DataArray], dim: str = "subject") -> xr.DataArray:
    """Stack RDMs along a new dimension, matching conditions by label.

    Parameters
    ----------
    rdms : mapping of label to DataArray, dims (..., pair)
        For example ``{"sub-01": rdm, "sub-02": rdm}``. The first one gives the order of conditions.
    dim : str
        Name of the new dimension.

    Returns
    -------
    DataArray, dims (dim, ..., pair)
        All RDMs in one, with the keys as the coordinate `dim`.

    Raises
    ------
    AlignmentError
        If an RDM has other conditions than the first.

    Examples
    --------
    >>> rdm = from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])
    >>> concat({"sub-01": rdm, "sub-02": reorder(rdm, ["car", "dog", "cat"])}).values
    array([[1., 2., 3.],
           [1., 2., 3.]])
    """
    if not rdms:
        raise SchemaError("No RDMs to join.", expected="a mapping of label to RDM")
    order = conditions(next(iter(rdms.values())))
    parts = [reorder(part, order) for part in rdms.values()]
    names = np.empty(len(parts), dtype=object)
    names[:] = list(rdms)
    joined = xr.concat(
        parts,
        xr.Variable(dim, names),
        join="exact",
        combine_attrs="drop_conflicts",
        coords="minimal",
        compat="override",
    )
    return joined.transpose(dim, ..., "pair")
