"""`compare`: how similar two sets of RDMs are."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroalign.errors import LabelsLostError, SchemaError, warn
from neuroalign.rsa import _compare
from neuroalign.rsa.form import conditions, n_conditions, reorder
from neuroalign.schema import stamp

__all__ = ["compare"]


@overload
def compare(a: xr.DataArray, b: xr.DataArray, *, method: str = ...) -> xr.DataArray: ...
@overload
def compare(a: NDArray[Any], b: NDArray[Any], *, method: str = ...) -> NDArray[np.floating]: ...
def compare(
    a: xr.DataArray | NDArray[Any], b: xr.DataArray | NDArray[Any], *, method: str = "pearson"
) -> xr.DataArray | NDArray[np.floating]:
    """Compare RDMs, each of `a` with each of `b`.

    Conditions are matched by label. Each two RDMs are compared on the pairs that both have, so an RDM with missing
    values changes no comparison but its own.

    Parameters
    ----------
    a, b : DataArray, dims (..., pair), or ndarray of shape (..., n_pairs)
        RDMs; both labelled or both not.
    method : {"pearson", "spearman", "kendall-tau-a", "kendall-tau-b", "rho-a", "cosine", "whitened-cosine"}
        The comparator. Spearman and tau-b favour models that predict ties; "rho-a" and "kendall-tau-a" do not, and
        are the choice for categorical models. "whitened-cosine" takes into account that distances which share a
        condition share noise, as if noise were independent across conditions.

    Returns
    -------
    DataArray or ndarray, dims (leading dims of a, leading dims of b)
        Similarities. A dimension that both have comes back as ``name`` and ``name_2``. NaN, with a warning, for
        constant RDMs.

    Raises
    ------
    AlignmentError
        If the two do not have the same conditions, or only one has labels.
    ConfigError
        If there is no such method.

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553. Diedrichsen et al. (2021), Neurons Behav Data Anal Theory 5:3.
    Schütt et al. (2023), eLife 12:e82566 (rho-a).

    Examples
    --------
    >>> from neuroalign.rsa import from_square
    >>> rdm = from_square([[0, 1, 2], [1, 0, 3], [2, 3, 0]], ["cat", "dog", "car"])
    >>> round(float(compare(rdm, rdm**2, method="pearson")), 3)
    0.99
    """
    _compare.check_method(method)
    if isinstance(a, xr.DataArray) != isinstance(b, xr.DataArray):
        raise LabelsLostError(
            "Only one of the two RDMs has labels.",
            expected="two DataArrays or two arrays",
            got=f"{type(a).__name__} and {type(b).__name__}",
            fix="label the other: neuroalign.rsa.from_square(x, conditions=[...])",
        )
    if not isinstance(a, xr.DataArray) or not isinstance(b, xr.DataArray):
        return _compare_arrays(np.asarray(a), np.asarray(b), method)
    order = conditions(a)
    first, second = a.transpose(..., "pair"), reorder(b, order).transpose(..., "pair")
    warn_if_biased(method, first, second)
    values = _compare_arrays(first.values, second.values, method)
    return _label(values, first, second, method)


def _compare_arrays(a: NDArray[Any], b: NDArray[Any], method: str) -> NDArray[np.floating]:
    if a.ndim < 1 or b.ndim < 1 or a.shape[-1] != b.shape[-1]:
        raise SchemaError("The RDMs have different numbers of pairs.", expected=a.shape, got=b.shape)
    pairs = np.triu_indices(n_conditions(a.shape[-1]), 1)
    x = a.reshape(-1, a.shape[-1]).astype(np.float64)
    y = b.reshape(-1, b.shape[-1]).astype(np.float64)
    bad = int(_compare.is_flat(x).sum() + _compare.is_flat(y).sum())
    if bad:
        warn(
            f"Constant RDM: {bad} of {len(x) + len(y)} RDMs have no variance; comparisons with them are NaN.",
            stacklevel=3,
        )
    return _compare.compare_rows(method, x, y, pairs).reshape(a.shape[:-1] + b.shape[:-1])


def warn_if_biased(method: str, *rdms: xr.DataArray) -> None:
    """Warn when the size of distances matters to the comparator and measurement noise has inflated them."""
    if method not in ("cosine", "whitened-cosine", "pearson"):
        return
    for rdm in rdms:
        noisy = rdm.attrs.get("n_trials", 0) > rdm.attrs.get("n_conditions", np.inf)
        if noisy and not rdm.attrs.get("cross_validated", 1):
            warn(
                f"Biased distances: {rdm.attrs.get('method')} distances of noisy patterns are too large, and "
                f"{method} takes their size at face value. Use rdm(..., method='crossnobis', folds='run') or a "
                "rank comparator such as 'rho-a'.",
                stacklevel=3,
            )
            return


def _label(values: NDArray[np.floating], a: xr.DataArray, b: xr.DataArray, method: str) -> xr.DataArray:
    renamed = {d: f"{d}_2" for d in b.dims if d in a.dims and d != "pair"}
    dims = [*a.dims[:-1], *(renamed.get(d, d) for d in b.dims[:-1])]
    coords: dict[Any, Any] = {}
    for source, names in ((a, {}), (b, renamed)):
        for key, coord in source.coords.items():
            if len(coord.dims) == 1 and coord.dims != ("pair",):
                target = names.get(coord.dims[0], coord.dims[0])
                label = f"{key}_2" if coord.dims[0] in names else key
                coords[label] = (target, coord.values)
    out = xr.DataArray(values, coords, dims, name="similarity", attrs={"method": method, "units": "1"})
    return stamp(out, "compare", method=method)
