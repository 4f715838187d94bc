"""Put runs or trials of one recording site after one another, by name and by clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neuroalign.errors import AlignmentError, ConfigError
from neuroalign.schema import clock, sample_dim

#: Sampling rates that differ by less than this fraction count as equal.
SFREQ_TOLERANCE = 1e-6
_SITES = ("channel", "voxel", "vertex", "grayordinate", "roi", "neuron", "unit")


def check_same_sfreq(rates: Sequence[float]) -> float:
    """Refuse sampling rates that differ by more than one in a million."""
    first = rates[0]
    for position, rate in enumerate(rates):
        if abs(rate - first) > SFREQ_TOLERANCE * first:
            raise AlignmentError(
                "Sampling rates differ.",
                expected=f"{first:.10g} Hz, as in the first object",
                got=f"{rate:.10g} Hz in object {position}",
                fix="resample one of them explicitly before joining",
            )
    return first


def _same_sites(obj: xr.Dataset, first: xr.Dataset, dim: str, missing: str, position: int) -> xr.Dataset:
    wanted, got = first.indexes[dim], obj.indexes[dim]
    for index, which in ((wanted, 0), (got, position)):
        if not index.is_unique:
            names = index[index.duplicated()][:5].tolist()
            raise AlignmentError(
                f"Names along {dim} repeat.", expected="unique names", got=names, where=f"object {which}"
            )
    lost, extra = wanted.difference(got, sort=False), got.difference(wanted, sort=False)
    if extra.size or (lost.size and missing == "raise"):
        raise AlignmentError(
            f"Not the same names along {dim}.",
            expected=f"the {len(wanted)} names of the first object",
            got=f"missing {lost[:5].tolist()}, not expected {extra[:5].tolist()}",
            where=f"object {position}",
            fix=f"select the common ones first, or pass missing='nan' for those that lack a {dim}",
        )
    out = obj.reindex({dim: wanted})
    if lost.size:
        bad = obj["bad"].values.astype(bool) if "bad" in obj.coords else np.zeros(len(got), bool)
        flags = xr.DataArray(bad, dims=dim, coords={dim: got}).reindex({dim: wanted}, fill_value=True)
        sites = {n: c for n, c in first.coords.items() if c.dims == (dim,) and n not in (dim, "bad")}
        out = out.assign_coords(sites).assign_coords(bad=(dim, flags.values))
    return out


def concat(objs: Sequence[xr.Dataset], *, missing: str = "raise") -> xr.Dataset:
    """Concatenate runs along time, or epochs along trial.

    Sites (channels, voxels, regions) are matched by name; sampling rates must agree to one part in a million.
    Each continuous run keeps its own clock and gets a ``run`` coordinate along time where it has none, and ``subject``
    and ``session`` where they differ. Events of continuous runs, whose onsets are times of one run, stay behind: cut
    epochs first, or give the tree of runs to `epochs` or `place`.

    Parameters
    ----------
    objs : sequence of Dataset
        Recordings of the same sites, all continuous or all epoched.
    missing : {'raise', 'nan'}
        What to do where an object lacks a site of the first one: refuse, or fill with NaN and mark it ``bad``.

    Returns
    -------
    Dataset
        With the attrs of the first object. A site is ``bad`` if it is bad in any object.

    Raises
    ------
    AlignmentError
        If sites, sampling rates or epochs do not match.
    """
    if not objs:
        raise ConfigError("Nothing to concatenate.", expected="at least one Dataset", got="none")
    if missing not in ("raise", "nan"):
        raise ConfigError("Unknown policy for missing sites.", expected="raise or nan", got=missing)
    first = objs[0]
    if "spike" in first.dims:
        raise AlignmentError(
            "Runs of single spikes cannot be put after one another.",
            expected="counts on a regular clock",
            got=dict(first.sizes),
            fix="count them first: neuroalign.align.bin_spikes(ds, sfreq=100)",
        )
    dim = sample_dim(first)
    rates = [ds.attrs["sfreq"] for ds in objs if "sfreq" in ds.attrs]
    sfreq = check_same_sfreq(rates) if rates else None
    site = next((d for d in _SITES if d in first.dims), None)
    differing = [name for name in ("subject", "session") if len({str(ds.attrs.get(name, "")) for ds in objs}) > 1]
    pieces: list[xr.Dataset] = []
    for position, ds in enumerate(objs):
        piece = ds if site is None else _same_sites(ds, first, site, missing, position)
        if dim == "time" and sfreq is not None:
            samples, _ = clock(ds)
            piece = piece.assign_coords(time=samples / sfreq)
            labels = {"run": str(ds.attrs.get("run", position + 1))}
            labels |= {name: str(ds.attrs.get(name, "")) for name in differing}
            for name, label in labels.items():
                piece = _marked(piece, name, label)
        elif dim == "trial" and "time" in piece.dims and not np.array_equal(clock(piece)[0], clock(first)[0]):
            raise AlignmentError(
                "Epochs have different times.", expected="equal tmin and tmax", got=f"object {position} differs"
            )
        pieces.append(piece.drop_vars([n for n, c in piece.coords.items() if "event" in c.dims]))
    return _merge(pieces, dim, site, first)


def _marked(piece: xr.Dataset, name: str, label: str) -> xr.Dataset:
    """Label all times of a piece, unless it says itself which of its times belong where."""
    if name in piece.coords and piece[name].dims == ("time",):
        return piece
    values = np.array([label] * piece.sizes["time"], dtype=object)
    return piece.drop_vars(name, errors="ignore").assign_coords({name: ("time", values)})


def _merge(pieces: list[xr.Dataset], dim: str, site: str | None, first: xr.Dataset) -> xr.Dataset:
    bad = None
    if site is not None and "bad" in first.coords:
        bad = np.any([p["bad"].values.astype(bool) for p in pieces if "bad" in p.coords], axis=0)
        pieces = [p.drop_vars("bad", errors="ignore") for p in pieces]
    names = set.intersection(*({str(n) for n, c in p.coords.items() if dim in c.dims} for p in pieces))
    pieces = [p.drop_vars([n for n, c in p.coords.items() if dim in c.dims and n not in names]) for p in pieces]
    if site is not None:  # positions and the like come from the first object
        keep = {str(n): c for n, c in pieces[0].coords.items() if c.dims == (site,)}
        pieces = [pieces[0], *(p.drop_vars([n for n in keep if n in p.coords and n != site]) for p in pieces[1:])]
        pieces = [p.assign_coords({n: c for n, c in keep.items() if n != site}) for p in pieces]
    variables = [v for v in pieces[0].data_vars if dim in pieces[0][v].dims]
    out = xr.concat(
        pieces,
        dim=dim,
        data_vars=variables,
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    if dim == "trial":
        out = out.assign_coords(trial=np.arange(out.sizes["trial"]))
    return out if bad is None else out.assign_coords(bad=(site, bad))
