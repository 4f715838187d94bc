"""Does one labelled object go on where another ends? Labels, clocks, units and variables are compared."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.errors import AlignmentError
from neuroalign.schema import TRAVELLING

__all__ = ["Continuation", "check_sites", "merge_attrs"]

_COLLECTED = ("neuro_sources", "neuro_steps", "neuro_log")
_SFREQ_TOLERANCE = 1e-6


@dataclass
class Continuation:
    """What changes when an object goes on.

    Attributes
    ----------
    new : Dataset
        What is added, with its events on the clock of the store.
    grown : dict of str to str
        Variables that get longer, each with its dimension.
    changed : dict of str to Variable
        Variables that change but keep their length.
    """

    new: xr.Dataset
    grown: dict[str, str]
    changed: dict[str, xr.Variable]

    @classmethod
    def of(cls, old: xr.Dataset, new: xr.Dataset, dim: str) -> Continuation:
        """Compare what is stored with what is to follow.

        Parameters
        ----------
        old : Dataset
            The stored node.
        new : Dataset
            What is added.
        dim : str
            The dimension that grows.

        Raises
        ------
        AlignmentError
            If it does not go on.
        """
        for which, ds in (("the store", old), ("the addition", new)):
            if dim not in ds.dims:
                raise AlignmentError(
                    f"There is no dimension {dim} in {which}.", expected=dim, got=list(ds.dims), fix="pass dim="
                )
        growing = (dim, "event") if dim == "time" else (dim,)
        if dim == "time":
            new = _new_events(old, _shift_events(old, new))
        _check_names(old, new)
        grown, changed = {}, {}
        for name, variable in old.variables.items():
            along = next((d for d in growing if d in variable.dims), None)
            if name not in new.variables:  # a stretch without events
                continue
            other = new.variables[name]
            _check_dims(str(name), variable, other, along)
            if along is not None:
                grown[str(name)] = along
            elif name == "bad":
                both = np.asarray(variable.values, bool) | np.asarray(other.values, bool)
                changed["bad"] = xr.Variable(variable.dims, both, variable.attrs)
            else:
                _check_equal(str(name), variable, other)
        _check_order(old, new, dim)
        return cls(new, grown, changed)


def _shift_events(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """Onsets count from the first sample of a recording; the addition begins later."""
    if "onset" not in new.coords or new["onset"].dims != ("event",):
        return new
    later = int(new.attrs.get("first_sample", 0)) - int(old.attrs.get("first_sample", 0))
    return new.assign_coords(onset=new["onset"] + later / float(new.attrs["sfreq"])) if later else new


def _new_events(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """Leave out events that the store has: each slice of a recording carries the events of the whole."""
    names = [str(n) for n, c in new.coords.items() if c.dims == ("event",)]
    runs = "run" in new.coords and new["run"].dims == ("time",)  # each run has its own clock
    if runs or not names or any(name not in old.coords for name in names):
        return new
    there = set(_rows(old, names))
    fresh = [row not in there for row in _rows(new, names)]
    return new if all(fresh) else new.isel(event=fresh)


def _rows(ds: xr.Dataset, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Events as text; times to the microsecond, since shifting them to another clock rounds."""
    columns = [ds[name].values.tolist() for name in names]
    return [tuple(f"{v:.6f}" if isinstance(v, float) else str(v) for v in row) for row in zip(*columns, strict=True)]


def _check_names(old: xr.Dataset, new: xr.Dataset) -> None:
    lost = [n for n, v in old.variables.items() if n not in new.variables and "event" not in v.dims]
    extra = [n for n in new.variables if n not in old.variables]
    some = [n for n, v in old.variables.items() if n not in new.variables and "event" in v.dims]
    if some and "event" in new.dims:
        lost += some
    if lost or extra:
        raise AlignmentError(
            "Not the variables and coordinates of the store.",
            expected=[str(n) for n in old.variables],
            got=f"missing {lost}, not expected {extra}",
            fix=f"new.drop_vars({[str(n) for n in extra]})" if extra and not lost else "give it the same coordinates",
        )


def _check_dims(name: str, old: xr.Variable, new: xr.Variable, along: str | None) -> None:
    expected = [n for d, n in zip(old.dims, old.shape, strict=True) if d != along]
    if old.dims != new.dims or expected != [n for d, n in zip(new.dims, new.shape, strict=True) if d != along]:
        raise AlignmentError(
            "Not the dimensions of the store.", expected=dict(old.sizes), got=dict(new.sizes), where=name
        )


def _check_equal(name: str, old: xr.Variable, new: xr.Variable) -> None:
    if old.equals(new):
        return
    a, b = np.asarray(old.values), np.asarray(new.values)
    numbers = a.dtype.kind in "fiu" and b.dtype.kind in "fiu"
    if numbers and np.allclose(a, b, rtol=1e-5, atol=1e-9, equal_nan=True):
        return
    where = np.argwhere(~(a == b))[:1].tolist()
    first = tuple(where[0]) if where else ()
    raise AlignmentError(
        f"{name} is not the same as in the store.",
        expected=str(a[first]),
        got=str(b[first]),
        where=f"first at position {first}" if first else name,
        fix="sites are matched by name and order: reindex the addition, or keep another store for it",
    )


def _check_order(old: xr.Dataset, new: xr.Dataset, dim: str) -> None:
    if dim not in old.indexes or dim not in new.indexes or not old.sizes[dim] or not new.sizes[dim]:
        return
    runs = [ds["run"].values for ds in (old, new) if "run" in ds.coords and ds["run"].dims == (dim,)]
    if dim == "time" and old[dim].dtype.kind in "fiu" and new[dim].dtype.kind in "fiu":
        same_run = len(runs) < 2 or bool(set(map(str, runs[0])) & set(map(str, runs[1])))
        last, first = float(old[dim].values[-1]), float(new[dim].values[0])
        if same_run and not last < first:
            raise AlignmentError(
                "Time does not go on from the end of the store.",
                expected=f"times after {last:g} s",
                got=f"{first:g} s",
                fix="shift its clock (first_sample and time), or keep runs in an xarray.DataTree and pass run=",
            )
        return
    repeated = old.indexes[dim].intersection(new.indexes[dim])
    if len(repeated):
        n = old.sizes[dim]
        raise AlignmentError(
            f"Labels along {dim} are in the store already.",
            expected="other labels",
            got=repeated[:5].tolist(),
            fix=f"is it there already? If not: new.assign_coords({dim}=np.arange(new.sizes[{dim!r}]) + {n})",
        )


def check_sites(parent: xr.Dataset, child: xr.Dataset, where: str) -> None:
    """Refuse a run whose labels contradict those that it would inherit from a node above it.

    Parameters
    ----------
    parent, child : Dataset
        The two nodes.
    where : str
        Path of the upper one, for the error.

    Raises
    ------
    AlignmentError
        If xarray could not open the tree.
    """
    try:
        xr.DataTree.from_dict({"/": parent, "/child": child})
    except ValueError as error:
        raise AlignmentError("The run does not fit below this node.", got=str(error), where=where) from error


def merge_attrs(old: Mapping[Hashable, Any], new: Mapping[Hashable, Any], where: str) -> dict[Hashable, Any]:
    """Attributes of the whole: those of the store, with the sources, steps and notes of both.

    Parameters
    ----------
    old, new : mapping
        Attributes of the store and of the addition.
    where : str
        Whose they are, for errors.

    Returns
    -------
    dict
        Of the whole.

    Raises
    ------
    AlignmentError
        If units, rates or spaces differ.
    """
    for name in TRAVELLING:
        if name in old and name in new and not _same(name, old[name], new[name]):
            raise AlignmentError(f"Another {name} than in the store.", expected=old[name], got=new[name], where=where)
    merged = dict(old)
    for name in _COLLECTED:
        if entries := [*old.get(name, []), *new.get(name, [])]:
            merged[name] = list(dict.fromkeys(entries))
    return merged


def _same(name: str, a: Any, b: Any) -> bool:
    if name == "sfreq":
        return abs(float(a) - float(b)) <= _SFREQ_TOLERANCE * abs(float(a))
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b))
