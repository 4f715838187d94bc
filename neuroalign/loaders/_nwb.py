"""NWB files: electrical series into recordings, through pynwb; values stay in the file until they are used."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign import convert, schema
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError, SchemaError, require
from neuroalign.loaders import _lazy
from neuroalign.loaders._integrity import damaged
from neuroalign.loaders._labels import Request, select
from neuroalign.loaders._montage import apply_montage

__all__ = ["NwbArray", "electrical_series", "open_nwb", "read"]

_BLOCK_BYTES = 2**24
#: Columns of the electrodes table that may name a channel, the first that is there and unique counts.
_NAMES = ("label", "channel_name", "electrode_name", "name", "electrode_label")
_OPTIONS = ("series", "intervals", "position_units")
_METRES = {"um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}


@contextmanager
def open_nwb(path: str | Path) -> Iterator[Any]:
    """Open an NWB file for reading, and close it.

    Parameters
    ----------
    path : path-like
        The file.

    Yields
    ------
    pynwb.NWBFile
        Its content; values are read from the open file.

    Raises
    ------
    IntegrityError
        If the file is missing, cut, damaged, or not NWB.
    MissingDependencyError
        If pynwb is not installed.
    """
    pynwb = require("pynwb", "nwb")
    path = Path(path)
    if not path.is_file():
        raise IntegrityError("There is no such file.", got=str(path), where=path.parent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of schema versions, and of columns that pynwb repairs
            io = pynwb.NWBHDF5IO(str(path), "r")
        with io:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = io.read()
            yield content
    except NeuroalignError:
        raise
    except Exception as error:  # h5py and hdmf raise anything over damaged bytes
        raise IntegrityError(
            "The NWB file cannot be read.",
            expected="a whole NWB file",
            got=f"{type(error).__name__}: {error}",
            where=path,
            fix="copy or download it again",
        ) from error


def electrical_series(nwb: Any) -> dict[str, Any]:
    """Electrical series of an open file by where they are, such as ``acquisition/ieeg``."""
    pynwb = require("pynwb", "nwb")
    found: dict[str, Any] = {}
    for name, item in nwb.acquisition.items():
        found |= _series_in(f"acquisition/{name}", item, pynwb)
    for module_name, module in nwb.processing.items():
        for name, item in module.data_interfaces.items():
            found |= _series_in(f"processing/{module_name}/{name}", item, pynwb)
    return found


def _series_in(place: str, item: Any, pynwb: Any) -> dict[str, Any]:
    if isinstance(item, pynwb.ecephys.ElectricalSeries) and not isinstance(item, pynwb.ecephys.SpikeEventSeries):
        return {place: item}
    inner = getattr(item, "electrical_series", None)  # LFP, FilteredEphys
    return {f"{place}/{name}": series for name, series in inner.items()} if isinstance(inner, Mapping) else {}


class NwbArray(BackendArray):
    """Lazy float32 array (channel, time) in V over a data set (time, channel) of an HDF5 file.

    Parameters
    ----------
    files : tuple of (path, bytes, mtime_ns)
        The file as it was on opening.
    dataset : str
        Path of the data set inside it.
    n_times : int
        Number of samples.
    picks : tuple of int
        Columns of the data set.
    scale, offset : tuple of float
        Of each channel: ``value * scale + offset`` is in V.
    """

    def __init__(
        self,
        files: _lazy.Stamp,
        dataset: str,
        n_times: int,
        picks: tuple[int, ...],
        scale: tuple[float, ...],
        offset: tuple[float, ...],
    ) -> None:
        self.files, self.dataset, self.picks, self.scale, self.offset = files, dataset, picks, scale, offset
        self.shape, self.dtype = (len(picks), n_times), np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        rows = np.arange(self.shape[0])[key[0]]
        times = np.arange(self.shape[1])[key[1]]
        values = self._values(np.atleast_1d(rows), np.atleast_1d(times))
        return values.reshape([part.size for part in (rows, times) if part.ndim])

    def _values(self, rows: NDArray[np.intp], times: NDArray[np.intp]) -> NDArray[np.float32]:
        out = np.empty((rows.size, times.size), dtype=np.float32)
        if not out.size:
            return out
        picks = np.asarray(self.picks)[rows]
        scale, offset = (np.asarray(part)[rows] for part in (self.scale, self.offset))
        first, span = int(picks.min()), int(picks.max()) + 1
        h5py = require("h5py", "nwb")
        _lazy.check_unchanged(_lazy.Source(self.files[0][0], "nwb", "", self.files))
        try:
            with h5py.File(self.files[0][0], "r") as file:
                data = file[self.dataset]
                data = data if data.ndim == 2 else _Column(data)
                step = max(1, _BLOCK_BYTES // (8 * (span - first)))
                for a in range(0, times.size, step):
                    part = times[a : a + step]
                    low = int(part.min())
                    block = data[low : int(part.max()) + 1, first:span]
                    chosen = block[np.ix_(part - low, picks - first)].astype(np.float64)
                    out[:, a : a + step] = (chosen * scale + offset).T
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise IntegrityError(
                "The NWB file cannot be read.", got=f"{type(error).__name__}: {error}", where=self.files[0][0]
            ) from error
        return out


class _Column:
    """A data set of one channel, which NWB allows to have one dimension."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        return self.data[key[0]][:, None]


def read(path: Path, request: Request) -> xr.Dataset:
    """Read an electrical series; see `neuroalign.loaders.read_ieeg`."""
    options = dict(request.mne_options)
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise ConfigError("Unknown option.", expected=", ".join(_OPTIONS), got=unknown, where=path)
    with open_nwb(path) as nwb:
        place, series = _choose(path, electrical_series(nwb), options.get("series"))
        n_times, n_channels = _shape(path, series)
        table = _electrodes(path, series, n_channels)
        sfreq, first_sample = _clock(path, series, n_times)
        names = _channel_names(path, table, n_channels)
        types = ["eeg"] * n_channels
        if request.retype is not None:
            types = [request.retype(names, types).get(name, kind) for name, kind in zip(names, types, strict=True)]
        keep = select(names, types, request)
        values = _lazy.wrap(_array(path, series, n_times, keep, names, request))
        start = first_sample / sfreq
        positions, coords = _places(table, keep, options.get("position_units", "um"))
        frame = "unknown"
        notes: list[str] = []
        if request.montage is not None:
            positions, frame, notes = _from_montage(path, [names[i] for i in keep], [types[i] for i in keep], request)
        ds = schema.sensors(
            values,
            modality=request.modality,
            sfreq=sfreq,
            first_sample=first_sample,
            channel=[names[i] for i in keep],
            channel_type=[types[i] for i in keep],
            units="V",
            positions=positions,
            coords=coords,
            events=_events(path, nwb, options.get("intervals", "trials"), start, request.events),
            attrs={"coord_frame": frame, "format": "nwb", "series": place},
        )
        if request.keep_phi:
            ds = ds.assign_attrs(nwb_session=_session(nwb))
    for note in notes:
        ds = schema.log(ds, f"{path.name}: {note}")
    ds = schema.validate(ds, request.modality, nan="keep")
    if not request.lazy:
        ds = ds.load()
    given = {k: v for k, v in {"channels": request.channels, "lazy": request.lazy, **options}.items() if v is not True}
    return schema.stamp(
        ds, f"read_{request.modality}", sources=[path], **{k: v for k, v in given.items() if v is not None}
    )


def _choose(path: Path, found: Mapping[str, Any], wanted: str | None) -> tuple[str, Any]:
    if not found:
        raise SchemaError("The NWB file holds no electrical series.", expected="an ElectricalSeries", where=path)
    if wanted is None:
        hits = list(found)
    else:
        hits = [place for place in found if wanted in (place, place.rsplit("/", 1)[-1])]
    if len(hits) != 1:
        listed = ", ".join(f"{place} {tuple(series.data.shape)}" for place, series in found.items())
        raise ConfigError(
            "The NWB file holds several electrical series." if wanted is None else "No single series of this name.",
            expected=f"series=, one of {listed}",
            got=wanted or f"{len(found)} series",
            where=path,
            fix=f"pass series={next(iter(found))!r}",
        )
    return hits[0], found[hits[0]]


def _shape(path: Path, series: Any) -> tuple[int, int]:
    shape = tuple(series.data.shape)
    if not hasattr(series.data, "name") or len(shape) not in (1, 2) or not min(shape):
        raise SchemaError(
            "The series cannot be read.", expected="values of one or more channels in time", got=shape, where=path
        )
    return shape[0], shape[1] if len(shape) == 2 else 1


def _electrodes(path: Path, series: Any, n_channels: int) -> pd.DataFrame:
    table = series.electrodes.to_dataframe()
    if len(table) != n_channels:
        raise damaged(path, "electrodes of the series", f"{n_channels} rows", f"{len(table)} rows")
    return table


def _clock(path: Path, series: Any, n_times: int) -> tuple[float, int]:
    """Sampling rate and number of the first sample, from a rate or from regular time stamps."""
    if series.rate is not None:
        sfreq, start = float(series.rate), float(series.starting_time or 0.0)
    else:
        stamps = np.asarray(series.timestamps[:], dtype=np.float64)
        if stamps.size != n_times or n_times < 2 or not np.isfinite(stamps).all():
            raise damaged(path, "timestamps", f"{n_times} finite numbers", f"{stamps.size}")
        step = (stamps[-1] - stamps[0]) / (n_times - 1)
        off = np.abs(stamps - stamps[0] - step * np.arange(n_times)).max() if step > 0 else np.inf
        if off > 0.5 * step:
            raise SchemaError(
                "The series is not sampled at regular times.",
                expected="time stamps on a grid",
                got=f"up to {off:g} s off the grid",
                where=path,
                fix="resample it, or cut it at its pauses, before writing it as NWB",
            )
        sfreq, start = float(round(1 / step, 6)), float(stamps[0])
    if not np.isfinite(sfreq) or sfreq <= 0 or not np.isfinite(start):
        raise damaged(path, "rate and starting time", "finite numbers", (sfreq, start))
    return sfreq, round(start * sfreq)


def _channel_names(path: Path, table: pd.DataFrame, n_channels: int) -> list[str]:
    for column in _NAMES:
        if column in table and table[column].astype(str).is_unique and (table[column].astype(str) != "").all():
            return [str(name) for name in table[column]]
    names = [f"electrode {number}" for number in table.index]
    if len(set(names)) < n_channels:
        raise SchemaError("The series names an electrode twice.", expected="one a channel", got=names[:5], where=path)
    return names


def _array(path: Path, series: Any, n_times: int, keep: list[int], names: list[str], request: Request) -> NwbArray:
    n = len(names)
    each = np.ones(n) if series.channel_conversion is None else np.asarray(series.channel_conversion[:], dtype=float)
    if each.shape != (n,):
        raise damaged(path, "channel_conversion", f"{n} numbers", each.shape)
    factor = np.array([_factor(name, request) for name in names])
    scale = factor * float(series.conversion) * each
    offset = factor * float(series.offset or 0.0)
    file = str(Path(series.data.file.filename).absolute())
    return NwbArray(
        _lazy.fingerprint([file]), series.data.name, n_times, tuple(keep), tuple(scale[keep]), tuple(offset[keep])
    )


def _factor(name: str, request: Request) -> float:
    """What `units=` says where ``conversion`` in the file does not lead to V."""
    given = request.units.get(name) if isinstance(request.units, Mapping) else request.units
    return 1.0 if given is None else schema.to_si(given)[1]


def _places(
    table: pd.DataFrame, keep: list[int], unit: str
) -> tuple[NDArray[np.float64] | None, dict[str, NDArray[Any]]]:
    """Positions in m (the standard states microns), and the region and group of each electrode."""
    if unit not in _METRES:
        raise ConfigError("Unknown unit of positions.", expected=", ".join(_METRES), got=unit)
    rows = table.iloc[keep]
    coords: dict[str, NDArray[Any]] = {}
    for column, name in (("location", "roi"), ("group_name", "shaft")):
        if column in rows:
            coords[name] = np.array([str(value) for value in rows[column]], dtype=object)
    if not {"x", "y", "z"} <= set(rows.columns):
        return None, coords
    xyz = rows[["x", "y", "z"]].to_numpy(dtype=np.float64) * _METRES[unit]
    return xyz, coords


def _from_montage(
    path: Path, names: list[str], types: list[str], request: Request
) -> tuple[NDArray[np.float64], str, list[str]]:
    info = require("mne", "eeg").create_info(names, 1.0, types, verbose="ERROR")
    channels = convert.Channels(names, types, ["V"] * len(names), [1.0] * len(names), info)
    notes = apply_montage(path, channels, request.montage)
    xyz, frames = convert.channel_positions(info)
    return xyz, convert.frame_of(frames), notes


def _events(path: Path, nwb: Any, name: str, start: float, source: str) -> pd.DataFrame | None:
    """A table of intervals as events: onsets after the first sample; columns of lists and references are left out."""
    tables = {key: table for key, table in (nwb.intervals or {}).items() if key != "invalid_times"}
    if source == "none" or (name == "trials" and name not in tables):
        return None
    if name not in tables:
        raise ConfigError("No such intervals.", expected=f"one of {sorted(tables)}", got=name, where=path)
    frame = tables[name].to_dataframe()
    events = pd.DataFrame({"onset": frame["start_time"].to_numpy(dtype=np.float64) - start})
    events["duration"] = (frame["stop_time"] - frame["start_time"]).to_numpy(dtype=np.float64)
    for column in frame.columns:
        plain = frame[column].map(lambda value: isinstance(value, str | bool | int | float | np.generic)).all()
        if column not in ("start_time", "stop_time") and plain:
            events[column] = frame[column].to_numpy()
    return events.sort_values("onset", kind="stable").reset_index(drop=True)


def _session(nwb: Any) -> str:
    subject = nwb.subject.fields if nwb.subject is not None else {}
    about = {
        "session_start_time": nwb.session_start_time,
        "session_description": nwb.session_description,
        "identifier": nwb.identifier,
        "experimenter": nwb.experimenter,
        "institution": nwb.institution,
        "subject": {key: str(value) for key, value in subject.items()},
    }
    return json.dumps({key: value for key, value in about.items() if value}, default=str)
