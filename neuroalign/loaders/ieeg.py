"""Intracranial EEG files: depth electrodes (sEEG) and grids (ECoG)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import schema
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._labels import IEEG_TYPES, PREFIX, Request, other_type
from neuroalign.loaders._sensors import read_sensors
from neuroalign.loaders.events import read_tsv

__all__ = ["parse_contact", "read_ieeg"]

_SUFFIX = re.compile(r"[ -]+(?:Ref\w*|AVG|G\d|LE|CPz)$", re.IGNORECASE)
_CONTACT = re.compile(r"([A-Za-z][A-Za-z0-9]*?(?:[ _][A-Za-z]+)*'?)[ _-]?0*(\d{1,3})")
#: No electrode lies farther from the origin of a head's coordinates, in m.
_FARTHEST = 0.5
#: Types in BIDS channels.tsv -> MNE's names.
BIDS_TYPES = {
    "SEEG": "seeg", "ECOG": "ecog", "DBS": "dbs", "EEG": "eeg", "EOG": "eog", "VEOG": "eog", "HEOG": "eog",
    "ECG": "ecg", "EMG": "emg", "TRIG": "stim", "MISC": "misc", "REF": "misc", "AUDIO": "misc", "ADC": "misc",
    "DAC": "misc", "PD": "misc", "PUPIL": "pupil", "RESP": "resp", "GSR": "gsr", "TEMP": "temperature",
    "SYSCLOCK": "syst", "EYEGAZE": "misc", "MEGMAG": "mag", "MEGGRADAXIAL": "mag", "MEGGRADPLANAR": "grad",
    "MEGREFMAG": "ref_meg", "MEGREFGRADAXIAL": "ref_meg", "MEGREFGRADPLANAR": "ref_meg", "MEGOTHER": "misc",
    "HLU": "chpi", "FITERR": "misc", "OTHER": "misc",
}  # fmt: skip


def parse_contact(name: str) -> tuple[str, int | None]:
    """Split the name of a contact into its shaft (or grid) and its number.

    Parameters
    ----------
    name : str
        Such as ``"LA1"``, ``"L'12"``, ``"LACN 3"``, ``"POL B02"`` or ``"EEG RH4-Ref"``.

    Returns
    -------
    shaft : str
        Empty where the name is not of this form.
    contact : int or None
        The number on the shaft.

    Examples
    --------
    >>> parse_contact("L'12"), parse_contact("EEG LACN 03-Ref"), parse_contact("EKG")
    (("L'", 12), ('LACN', 3), ('', None))
    """
    core = _SUFFIX.sub("", PREFIX.sub("", name.strip()))
    match = _CONTACT.fullmatch(core)
    return (match[1].strip(), int(match[2])) if match else ("", None)


def parse_pair(name: str) -> tuple[str, str]:
    """Give anode and cathode of a bipolar name such as ``"LA1-LA2"`` or ``"LA1-2"``; empty for others."""
    left, dash, right = name.rpartition("-")
    shaft, number = parse_contact(left)
    if not dash or number is None:
        return "", ""
    if right.isdigit():
        return left, f"{left[: len(left) - len(left.lstrip(shaft)) or len(shaft)]}{right}"
    return (left, right) if parse_contact(right)[1] is not None else ("", "")


def read_ieeg(
    path: str | Path,
    *,
    channels: str | Sequence[str] | None = None,
    channel_type: str | Mapping[str, str] | None = None,
    electrodes: str | Path | None = None,
    units: str | Mapping[str, str] | None = None,
    lazy: bool = True,
    keep_phi: bool = False,
    allow_truncated: bool = False,
    montage: str | Path | None = None,
    **options: Any,
) -> xr.Dataset:
    """Read an intracranial EEG file: the formats of `read_eeg`.

    EDF, BrainVision, EEGLAB, Nihon Kohden, Persyst and NWB files call every channel ``eeg``. Such channels become
    ``seeg``, ``ecog`` or ``dbs``; those named like ECG, EOG, EMG, trigger or DC inputs become what they are.

    Parameters
    ----------
    path : path-like
        The file.
    channels : str or sequence of str, optional
        Names or types of channels, in the order wanted; by default all.
    channel_type : {'seeg', 'ecog', 'dbs'} or dict, optional
        Type of the channels in the brain, for all or by name. Where neither this nor `electrodes` says, depth
        electrodes are assumed, with a warning.
    electrodes : path-like, optional
        A BIDS channels.tsv (types, status, reference) or electrodes.tsv (positions in m in ``x y z``).
    units, lazy, keep_phi, allow_truncated, montage
        As in `read_eeg`.
    **options
        ``events``, options of MNE's reader, and those of NWB (see `read_eeg`).

    Returns
    -------
    Dataset
        Variable ``ieeg`` with dims (channel, time) and, besides the coordinates of `read_eeg`, ``shaft`` and
        ``contact`` (NaN where the name does not tell), and ``anode`` and ``cathode`` for bipolar names. From NWB also
        ``roi``, the location of each electrode; ``shaft`` is then its group.

    Raises
    ------
    IntegrityError
        If the file is missing, cut or damaged, or changed between opening and reading.
    SchemaError
        If a unit is unknown, names repeat, there is nothing intracranial in the file, or the table of `electrodes` is
        of other channels, has no column that is read, or gives positions that are not in m.
    ConfigError
        If a type or an option is unknown.
    """
    table = None if electrodes is None else read_tsv(electrodes, required=("name",), text=("name",))
    kinds = _given_types(channel_type, table)
    assumed: list[str] = []

    def retype(names: list[str], types: list[str]) -> dict[str, str]:
        changes = _retype(names, types, kinds, channel_type if isinstance(channel_type, str) else None)
        if channel_type is None and not kinds:
            assumed.extend(name for name, kind in changes.items() if kind == "seeg")
        return changes

    request = Request(
        modality="ieeg",
        channels=channels,
        units=units,
        lazy=lazy,
        keep_phi=keep_phi,
        allow_truncated=allow_truncated,
        events=options.pop("events", "auto"),
        montage=montage,
        retype=retype,
        mne_options=options,
    )
    ds = read_sensors(path, request)
    ds = ds.assign_coords({k: v for k, v in contact_coords(ds).items() if k not in ds.coords})
    if table is not None:
        _check_table(ds, table, electrodes)
        ds = apply_table(ds, table)
    if assumed:
        ds = schema.log(
            ds, "The file does not say what its electrodes are; taken as seeg: pass channel_type='ecog' for grids"
        )
    return ds


def _check_table(ds: xr.Dataset, table: Any, path: Any) -> None:
    """Refuse a table that would change nothing, or whose positions are in mm."""
    wanted = ("x", "y", "z", "type", "status", "reference")
    if not set(wanted) & set(table.columns):
        raise SchemaError(
            "The table says nothing about the channels.",
            expected=f"columns of BIDS: {', '.join(wanted)}",
            got=", ".join(table.columns),
            where=path,
            fix="rename its columns; positions are in m",
        )
    names = ds["channel"].values.tolist()
    if not set(names) & set(table["name"]):
        raise SchemaError(
            "No channel of the file is in the table.", expected=names[:5], got=table["name"].tolist()[:5], where=path
        )
    if not {"x", "y", "z"} <= set(table.columns):
        return
    farthest = np.nanmax(np.abs(table[["x", "y", "z"]].to_numpy(dtype=np.float64)), initial=0.0)
    if farthest > _FARTHEST:
        raise SchemaError(
            "The positions are not in m.",
            expected=f"values up to {_FARTHEST} m",
            got=f"{farthest:g}" + (", which looks like mm" if farthest < 1000 * _FARTHEST else ""),
            where=path,
            fix="divide them by 1000, or read the data set with read_bids, which converts by coordsystem.json",
        )


def _given_types(channel_type: str | Mapping[str, str] | None, table: Any) -> dict[str, str]:
    if isinstance(channel_type, str) and channel_type not in IEEG_TYPES:
        raise ConfigError("Unknown type of electrode.", expected=", ".join(IEEG_TYPES), got=channel_type)
    kinds: dict[str, str] = {}
    if table is not None and "type" in table:
        known = {**BIDS_TYPES, **{kind.upper(): kind for kind in BIDS_TYPES.values()}}
        for name, kind in zip(table["name"], table["type"], strict=True):
            if str(kind).upper() in known:
                kinds[name] = known[str(kind).upper()]
    if isinstance(channel_type, Mapping):
        known_types = sorted({*BIDS_TYPES.values()})
        for name, kind in channel_type.items():
            if kind not in known_types:
                raise ConfigError("Unknown type of channel.", expected=", ".join(known_types), got=kind, where=name)
        kinds |= channel_type
    return kinds


def _retype(names: list[str], types: list[str], kinds: Mapping[str, str], rest: str | None) -> dict[str, str]:
    """New type of each channel: as given by name, else as the name tells, else `rest` (or sEEG)."""
    changes = {name: kinds[name] for name in names if name in kinds}
    if kinds and rest is None and not set(kinds) & set(names):
        raise SchemaError("No channel of the file is in the table.", expected=names[:5], got=sorted(kinds)[:5])
    for name, kind in zip(names, types, strict=True):
        if kind != "eeg" or name in changes:
            continue
        changes[name] = other_type(name) or rest or ("misc" if kinds else "seeg")
    return changes


def contact_coords(ds: xr.Dataset) -> dict[str, Any]:
    """Shaft and contact of each intracranial channel, from its name."""
    names, types = ds["channel"].values.tolist(), ds["channel_type"].values.tolist()
    inside = [kind in IEEG_TYPES for kind in types]
    pairs = [parse_pair(name) if i else ("", "") for name, i in zip(names, inside, strict=True)]
    parsed = [
        parse_contact(pair[0] or name) if i else ("", None) for name, pair, i in zip(names, pairs, inside, strict=True)
    ]
    coords: dict[str, Any] = {
        "shaft": ("channel", np.array([shaft for shaft, _ in parsed], dtype=object)),
        "contact": ("channel", np.array([np.nan if number is None else number for _, number in parsed])),
    }
    if any(anode for anode, _ in pairs):
        coords["anode"] = ("channel", np.array([anode for anode, _ in pairs], dtype=object))
        coords["cathode"] = ("channel", np.array([cathode for _, cathode in pairs], dtype=object))
    return coords


def apply_table(ds: xr.Dataset, table: Any, *, factor: float = 1.0, frame: str | None = None) -> xr.Dataset:
    """Take status, reference and positions from a BIDS channels or electrodes table.

    Parameters
    ----------
    ds : Dataset
        A sensor recording.
    table : DataFrame
        With a column ``name`` and any of ``status``, ``reference``, ``x y z``.
    factor : float
        From the unit of the positions to m.
    frame : str, optional
        Name of the coordinate frame of the positions.

    Returns
    -------
    Dataset
        With these coordinates. Channels that are not in the table keep their status and reference; where the table
        gives positions they have none, since theirs would be in another frame.

    Raises
    ------
    SchemaError
        If the table names a channel twice.
    """
    if table["name"].duplicated().any():
        twice = table["name"][table["name"].duplicated()].unique()[:5].tolist()
        raise SchemaError("A table of channels names one twice.", expected="one row a channel", got=twice)
    rows = table.set_index("name").reindex(ds["channel"].values)
    if "status" in rows:
        bad = ds["bad"].values.astype(bool)
        known = rows["status"].notna().to_numpy()
        ds = ds.assign_coords(bad=("channel", np.where(known, (rows["status"] == "bad").to_numpy(), bad)))
    if "reference" in rows and rows["reference"].notna().any():
        before = ds["reference"].values.tolist() if "reference" in ds.coords else [""] * len(rows)
        values = [old if v is None or v != v else str(v) for v, old in zip(rows["reference"], before, strict=True)]
        ds = ds.assign_coords(reference=("channel", np.array(values, dtype=object)))
    if {"x", "y", "z"} <= set(rows.columns):
        xyz = rows[["x", "y", "z"]].to_numpy(dtype=np.float64) * factor
        if np.isfinite(xyz).all(axis=1).any():
            ds = ds.assign_coords({axis: ("channel", xyz[:, i]) for i, axis in enumerate("xyz")})
            named = {"coord_frame": frame or "unknown"}
            ds = ds.drop_vars("frame", errors="ignore").assign_attrs(named)
            ds = ds.assign({n: a.assign_attrs(named) for n, a in ds.data_vars.items() if "coord_frame" in a.attrs})
    return ds
