"""Which channels of a sensor file are wanted, of what type they are, and in what unit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuroalign import schema
from neuroalign.convert import Channels, channel_units, recorded_gaps
from neuroalign.errors import SchemaError, require
from neuroalign.loaders import _mne
from neuroalign.loaders._integrity import Declared

__all__ = [
    "IEEG_TYPES",
    "MEG_TYPES",
    "PREFIX",
    "Request",
    "channel_types",
    "factor_of_mne",
    "label",
    "other_type",
    "select",
]

MEG_TYPES = ("mag", "grad", "ref_meg")
IEEG_TYPES = ("seeg", "ecog", "dbs")
#: Micro signs in use: Greek mu, micro sign, and mu in Shift-JIS as some amplifiers write it.
_EDF_FACTORS = {"uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3}
_BRAINVISION_SCALED = ("V", "mV", "µV", "uV", "nV", "µS", "uS", "S")
_BRAINVISION_MISC = {"°C": "C", "C": "C", "n/a": "a.u.", "ARU": "a.u.", "N": "a.u."}


PREFIX = re.compile(r"^(?:EEG|SEEG|ECOG|POL|DBS)[ _]+", re.IGNORECASE)
#: Names of channels that are not in the brain, whatever the file calls them.
_OTHER = (
    (re.compile(r"^(?:EKG|ECG)", re.IGNORECASE), "ecg"),
    (re.compile(r"^(?:[HV]?EOG|[LR]OC$)", re.IGNORECASE), "eog"),
    (re.compile(r"^EMG", re.IGNORECASE), "emg"),
    (re.compile(r"^(?:TRIG|STI|STATUS|DTRIG)", re.IGNORECASE), "stim"),
    (re.compile(r"^(?:DC\d+|MIC|SPO2|ETCO2|PULSE|PLETH|RESP|EVENT|MARK|OSAT|PR$)", re.IGNORECASE), "misc"),
)


def other_type(name: str) -> str | None:
    """Tell the type of a channel that is not in the brain from its name; None for all others."""
    plain = PREFIX.sub("", name)
    return next((kind for pattern, kind in _OTHER if pattern.match(plain)), None)


@dataclass(frozen=True)
class Request:
    """What a caller of a sensor reader asked for; most fields are the parameters of `read_eeg`.

    ``retype`` gives new channel types from names and types; ``stated_units`` are those of a channels.tsv, which count
    where the file itself does not say.
    """

    modality: str
    channels: str | Sequence[str] | None = None
    units: str | Mapping[str, str] | None = None
    lazy: bool = True
    keep_phi: bool = False
    allow_truncated: bool = False
    events: str = "auto"
    retype: Callable[[list[str], list[str]], dict[str, str]] | None = None
    stated_units: Mapping[str, str] = field(default_factory=dict)
    montage: str | Path | None = None
    mne_options: Mapping[str, Any] = field(default_factory=dict)


def channel_types(
    path: Path, first: Any, declared: Declared, reader: str, request: Request, notes: list[str]
) -> list[str]:
    with _mne.read_errors(path):
        names, types = list(first.ch_names), list(map(str, first.get_channel_types()))
    if reader == "brainvision":
        types = _brainvision_types(path, types, declared, request, notes)
    if request.retype is not None:
        changes = request.retype(names, types)
        types = [changes.get(name, kind) for name, kind in zip(names, types, strict=True)]
    return types


def _given_unit(name: str, request: Request, told: Mapping[str, str]) -> tuple[str, bool] | None:
    """Unit that the caller (or else channels.tsv) gives, and whether it was given for this channel by name."""
    if isinstance(request.units, Mapping) and name in request.units:
        return request.units[name], True
    if isinstance(request.units, str):
        return request.units, False
    return (told[name], True) if name in told else None


def _brainvision_types(
    path: Path, types: list[str], declared: Declared, request: Request, notes: list[str]
) -> list[str]:
    """Restore channels that MNE calls ``misc`` for a unit that it does not know."""
    types, unknown = list(types), {}
    for i, (name, unit) in enumerate(zip(declared.channels, declared.units, strict=True)):
        known = unit in schema.UNITS or unit in _BRAINVISION_MISC
        given = _given_unit(name, request, {} if known else request.stated_units)
        if types[i] == "misc" and given is not None and schema.to_si(given[0])[0] == "V":
            types[i] = "eeg"
        elif types[i] == "misc" and not known:
            unknown[name] = unit
    if len(unknown) > types.count("eeg"):
        raise _unknown_unit(path, *next(iter(unknown.items())))
    if unknown:
        listed = ", ".join(f"{name} ({unit})" for name, unit in list(unknown.items())[:5])
        notes.append(f"unknown units of {listed}; read as misc without a unit, or pass units={{name: 'uV'}}")
    return types


def _unknown_unit(path: Path, name: str, unit: str) -> SchemaError:
    return SchemaError(
        f"The unit of channel {name!r} is not known.",
        expected="V, mV, uV, nV or another unit of the data model",
        got=unit or "an empty field",
        where=path,
        fix=f"pass units='uV', or units={{{name!r}: 'uV'}}, or leave it out with channels=[...]",
    )


_OWN = {"eeg": ("eeg",), "ieeg": IEEG_TYPES, "meg": ("mag", "grad")}


def select(names: Sequence[str], types: Sequence[str], request: Request) -> list[int]:
    """Positions of the channels asked for, in the order asked for."""
    own = _OWN[request.modality]
    if not set(own) & set(types):
        found = ", ".join(sorted(set(types)))
        better = next((m for m, kinds in _OWN.items() if set(kinds) & set(types)), None)
        raise SchemaError(
            f"The file holds no {request.modality} channels.",
            expected=" or ".join(own),
            got=found,
            fix=f"read_{better} reads this file" if better else None,
        )
    if request.channels is None:
        foreign = MEG_TYPES if request.modality == "eeg" else ()
        return [i for i, kind in enumerate(types) if kind not in foreign]
    wanted = [request.channels] if isinstance(request.channels, str) else list(request.channels)
    groups = {kind: (kind,) for kind in types} | {"data": own, request.modality: own}
    where = {name: i for i, name in enumerate(names)}
    keep: dict[int, None] = {}
    for item in wanted:
        if item in where:
            keep[where[item]] = None
        elif item in groups:
            keep |= dict.fromkeys(i for i, kind in enumerate(types) if kind in groups[item])
        else:
            near = difflib.get_close_matches(item, [*names, *groups], n=3)
            raise SchemaError(
                "No such channel.",
                expected="names or types of channels" + (f", such as {near}" if near else ""),
                got=item,
            )
    if not keep:
        raise SchemaError("No channels chosen.", expected="at least one", got=wanted)
    return list(keep)


def label(
    path: Path,
    first: Any,
    types: list[str],
    keep: list[int],
    declared: Declared,
    reader: str,
    request: Request,
) -> Channels:
    mne = require("mne", "eeg")
    with _mne.read_errors(path):
        info = mne.pick_info(first.info, keep, verbose="ERROR")
        if reader == "cnt":  # places on a screen, which MNE puts on a sphere of 1 m
            info.set_montage(None, verbose="ERROR")
    names = [first.ch_names[i] for i in keep]
    kinds = [types[i] for i in keep]
    stated = dict(zip(declared.channels, declared.units, strict=True))
    known = {*schema.UNITS, *_EDF_FACTORS}
    # Where the file does not say, channels.tsv may; MNE took such numbers as they are.
    told = {n: request.stated_units[n] for n, u in stated.items() if u not in known and n in request.stated_units}
    units, scale = [], []
    for k, (name, unit) in enumerate(zip(names, channel_units(info), strict=True)):
        kinds[k], si, factor = _unit(
            path, name, kinds[k], unit, stated.get(name), reader, _given_unit(name, request, told), declared.taken
        )
        units.append(si)
        scale.append(factor)
    if isinstance(request.units, Mapping) and (unknown := sorted(set(request.units) - set(first.ch_names))):
        raise SchemaError("units= names channels that are not there.", expected=names[:10], got=unknown, where=path)
    changed = {n: t for n, t, old in zip(names, kinds, info.get_channel_types(), strict=True) if t != old}
    if changed:
        info.set_channel_types(changed, on_unit_change="ignore", verbose="ERROR")
    gaps = recorded_gaps(first) if reader == "fif" else ()
    return Channels(names, kinds, units, scale, info, gaps)


def _unit(
    path: Path,
    name: str,
    kind: str,
    unit: str,
    stated: str | None,
    reader: str,
    given: tuple[str, bool] | None,
    fixed: float | None,
) -> tuple[str, str, float]:
    """Channel type, SI unit, and the factor from MNE's values to that unit."""
    if kind == "stim":
        return kind, unit, 1.0
    taken = factor_of_mne(reader, stated) if fixed is None else fixed
    if given is not None:
        si, factor = schema.to_si(given[0])
        # One unit for all is meant for the channels that measure this quantity.
        if given[1] or si == unit or (reader == "brainvision" and kind == "eeg"):
            return kind, si, factor / taken
    if stated is None:
        return kind, unit, 1.0
    if stated not in schema.UNITS and stated not in _EDF_FACTORS:
        other = other_type(name) if kind == "eeg" else kind
        if other != "misc":
            raise _unknown_unit(path, name, stated)
        return other, _BRAINVISION_MISC.get(stated, "a.u."), 1.0
    si, factor = schema.to_si("uV" if stated not in schema.UNITS else stated)
    return (kind if si in ("V", unit) or kind == "misc" else "misc"), si, factor / taken


def factor_of_mne(reader: str, stated: str | None) -> float:
    """Factor that MNE has applied to the numbers in the file."""
    if reader.startswith("eeglab"):
        return 1e-6
    if reader in ("edf", "bdf"):
        return _EDF_FACTORS.get(stated or "", 1.0)
    if reader == "brainvision" and stated is not None:
        return schema.UNITS[stated][1] if stated in _BRAINVISION_SCALED else 1.0
    return 1.0
