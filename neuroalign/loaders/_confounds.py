"""Confounds of fMRIPrep: which columns a strategy takes, and which volumes it leaves out."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroalign.align._lags import true_stretches
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.loaders._text import read_json
from neuroalign.loaders.events import read_tsv

__all__ = ["STRATEGIES", "Confounds", "Strategy", "parse_strategy", "read_confounds"]

_MOTION = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
_TISSUE = ("csf", "white_matter")
_STEPS = ("", "_derivative1", "_power2", "_derivative1_power2")


def _expand(names: Sequence[str], steps: Sequence[str] = _STEPS) -> tuple[str, ...]:
    return tuple(f"{name}{step}" for name in names for step in steps)


#: Strategy -> its columns.
COLUMNS: dict[str, tuple[str, ...]] = {
    "6p": _MOTION,
    "12p": _expand(_MOTION, _STEPS[:2]),
    "24p": _expand(_MOTION),
    "wm_csf": _TISSUE,
    "wm_csf_full": _expand(_TISSUE),
    "global": ("global_signal",),
    "global_full": _expand(("global_signal",)),
    "9p": (*_MOTION, *_TISSUE, "global_signal"),
    "36p": _expand((*_MOTION, *_TISSUE, "global_signal")),
}

#: How fMRIPrep up to 1.1 named its columns -> the names since then.
_OLD = {
    "X": "trans_x", "Y": "trans_y", "Z": "trans_z", "RotX": "rot_x", "RotY": "rot_y", "RotZ": "rot_z",
    "CSF": "csf", "WhiteMatter": "white_matter", "GlobalSignal": "global_signal",
    "FramewiseDisplacement": "framewise_displacement", "stdDVARS": "std_dvars", "non-stdDVARS": "dvars",
    "vx-wisestdDVARS": "vx_wise_std_dvars",
}  # fmt: skip
_OLD_NUMBERED = {
    "aCompCor": "a_comp_cor_", "tCompCor": "t_comp_cor_", "Cosine": "cosine", "AROMAAggrComp": "aroma_motion_",
    "NonSteadyStateOutlier": "non_steady_state_outlier",
}  # fmt: skip


@dataclass(frozen=True)
class Strategy:
    """What to take from a table of confounds.

    Attributes
    ----------
    words : tuple of str
        Strategies, columns or wildcards.
    n_compcor : int or None
        Components a CompCor mask; None for all that were kept.
    fd : float
        ``scrub`` leaves out volumes with a framewise displacement above this, in mm.
    dvars : float
        ``scrub`` leaves out volumes with standardised DVARS above this.
    min_segment : int
        ``scrub`` leaves out what remains in pieces shorter than this many volumes.
    """

    words: tuple[str, ...]
    n_compcor: int | None = None
    fd: float = 0.5
    dvars: float = 1.5
    min_segment: int = 5


@dataclass(frozen=True)
class Confounds:
    """Regressors and the volumes to keep.

    Attributes
    ----------
    table : DataFrame, shape (n_times, n_confounds)
        Finite numbers.
    sample_mask : ndarray of bool, shape (n_times,)
        False where a volume is to be left out.
    notes : list of str
        What is unusual.
    """

    table: pd.DataFrame
    sample_mask: NDArray[np.bool_]
    notes: list[str]


def parse_strategy(confounds: str | Sequence[str] | Mapping[str, Any]) -> Strategy:
    """Turn ``"24p+acompcor"``, a list of names, or a mapping with options into a strategy.

    Raises
    ------
    ConfigError
        If nothing is asked for, or an option is unknown or impossible.

    Examples
    --------
    >>> parse_strategy("24p+scrub").words
    ('24p', 'scrub')
    >>> parse_strategy({"strategy": "acompcor", "n_compcor": 5}).n_compcor
    5
    """
    options: dict[str, Any] = {}
    if isinstance(confounds, Mapping):
        options = dict(confounds)
        confounds = options.pop("strategy", ())
    known = [f.name for f in fields(Strategy)][1:]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError("Unknown option for confounds.", expected=", ".join(("strategy", *known)), got=unknown)
    listed = [confounds] if isinstance(confounds, str) else list(confounds)
    words = tuple(dict.fromkeys(w.strip() for entry in listed for w in str(entry).split("+")))
    if not words or "" in words:
        raise ConfigError("Not a strategy for confounds.", expected=_choices(), got=confounds)
    strategy = Strategy(words, **options)
    for name, least in (("n_compcor", 1), ("fd", 0), ("dvars", 0), ("min_segment", 0)):
        value = getattr(strategy, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        whole = name in ("fd", "dvars") or isinstance(value, int)
        if (value is not None or name != "n_compcor") and not (number and whole and value >= least):
            raise ConfigError("Impossible option for confounds.", expected=f"{name} >= {least}", got=value)
    return strategy


def _choices() -> str:
    return f"{', '.join(STRATEGIES)}, joined by +; or columns and wildcards such as cosine*"


def read_confounds(path: Path, strategy: Strategy) -> Confounds:
    """Read the table of confounds of a run, and take from it what a strategy asks for.

    Columns of fMRIPrep up to 1.1 (``X``, ``aCompCor00``) get the names that they have had since
    (``trans_x``, ``a_comp_cor_00``). Where the first volume has no value, as in derivatives, it gets that of the
    second.

    Parameters
    ----------
    path : Path
        ``desc-confounds_timeseries.tsv`` or ``_regressors.tsv``; the JSON beside it tells the masks of CompCor and
        which components were kept.
    strategy : Strategy
        What to take.

    Returns
    -------
    Confounds
        The columns, each once, and the mask of volumes.

    Raises
    ------
    SchemaError
        If a column is missing (with what there is), or holds something else than numbers.
    ConfigError
        If a word is neither a strategy nor a column.
    """
    table = read_tsv(path).rename(columns=_new_name)
    side = path.with_suffix(".json")
    meta = {_new_name(k): v for k, v in read_json(side).items()} if side.is_file() else {}
    notes: list[str] = []
    names: list[str] = []
    for word in strategy.words:
        names += _select(path, table, meta, word, strategy, notes)
    chosen = list(dict.fromkeys(names))
    return Confounds(
        pd.DataFrame({name: _filled(path, name, table[name]) for name in chosen}, index=table.index),
        _sample_mask(path, table, strategy),
        notes,
    )


def _new_name(name: str) -> str:
    match = re.fullmatch(r"([A-Za-z]+?)(\d+)", name)
    if match and match[1] in _OLD_NUMBERED:
        return _OLD_NUMBERED[match[1]] + match[2]
    return _OLD.get(name, name)


def _select(
    path: Path, table: pd.DataFrame, meta: Mapping[str, Any], word: str, strategy: Strategy, notes: list[str]
) -> list[str]:
    if word in STRATEGIES:
        return STRATEGIES[word](path, table, meta, strategy, notes)
    there = list(table.columns)
    found = [n for n in there if n in (word, _new_name(word)) or fnmatch.fnmatchcase(n, word)]
    if not found:
        raise ConfigError(
            f"Neither a strategy nor a column: {word!r}.",
            expected=_choices(),
            got=f"columns {', '.join(there)}",
            where=path,
        )
    return found


def _require(path: Path, table: pd.DataFrame, word: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    if missing := [name for name in names if name not in table]:
        raise SchemaError(
            f"The table of confounds lacks columns for {word!r}.",
            expected=missing,
            got=f"columns {', '.join(table.columns)}",
            where=path,
            fix="choose a strategy of columns that are there, or run a newer fMRIPrep",
        )
    return names


def _numbered(table: pd.DataFrame, prefix: str) -> list[str]:
    return sorted(name for name in table.columns if re.fullmatch(rf"{prefix}\d+", name))


def _fixed(word: str) -> Callable[..., list[str]]:
    def take(path: Path, table: pd.DataFrame, meta: Any, strategy: Strategy, notes: list[str]) -> list[str]:
        return _require(path, table, word, COLUMNS[word])

    return take


def _high_pass(path: Path, table: pd.DataFrame, *_: Any) -> list[str]:
    return _numbered(table, "cosine_?")  # none in runs that are shorter than the filter's period


def _compcor(word: str, *masks: tuple[str, str]) -> Callable[..., list[str]]:
    """Components of some masks, and the cosines that were taken out before they were computed."""

    def take(path: Path, table: pd.DataFrame, meta: Any, strategy: Strategy, notes: list[str]) -> list[str]:
        names: list[str] = []
        for prefix, mask in masks:
            there = [n for n in _numbered(table, prefix) if _kept(meta.get(n), mask)]
            if not there:
                wanted = f"{prefix}00" + (f" ({mask})" if mask else "")
                _require(path, table.drop(columns=_numbered(table, prefix)), word, [wanted])
            if strategy.n_compcor is not None and len(there) < strategy.n_compcor:
                notes.append(f"{path.name}: {len(there)} components {prefix}*, not {strategy.n_compcor}; took all")
            names += there[: strategy.n_compcor]
        return names + _high_pass(path, table)

    return take


def _kept(entry: Any, mask: str) -> bool:
    if not isinstance(entry, Mapping):
        return True  # without a JSON file all are taken
    return entry.get("Retained", True) is True and (not mask or entry.get("Mask", mask) == mask)


def _separate(path: Path, table: pd.DataFrame, meta: Any, strategy: Strategy, notes: list[str]) -> list[str]:
    newer = bool(_numbered(table, "w_comp_cor_"))
    if not newer and not any(isinstance(v, Mapping) and v.get("Mask") == "WM" for v in meta.values()):
        _require(path, table, "acompcor_separate", ["w_comp_cor_00", "c_comp_cor_00"])
    prefixes = ("w_comp_cor_", "c_comp_cor_") if newer else ("a_comp_cor_", "a_comp_cor_")
    masks = zip(prefixes, ("WM", "CSF"), strict=True)
    return _compcor("acompcor_separate", *masks)(path, table, meta, strategy, notes)


def _aroma(path: Path, table: pd.DataFrame, *_: Any) -> list[str]:
    return _numbered(table, "aroma_motion_") or _require(path, table, "aroma", ["aroma_motion_01"])


def _no_column(*_: Any) -> list[str]:
    return []


#: Strategy -> function that names its columns.
STRATEGIES: dict[str, Callable[..., list[str]]] = {
    **{word: _fixed(word) for word in COLUMNS},
    "high_pass": _high_pass,
    "acompcor": _compcor("acompcor", ("a_comp_cor_", "combined")),
    "acompcor_separate": _separate,
    "tcompcor": _compcor("tcompcor", ("t_comp_cor_", "")),
    "aroma": _aroma,
    "scrub": _no_column,
    "non_steady_state": _no_column,
}


def _numbers(path: Path, name: str, column: pd.Series) -> NDArray[np.float64]:
    if column.dtype == object and column.notna().any():
        first = next(i for i, v in enumerate(column) if v is not None)
        raise SchemaError(
            "A confound is not a number.",
            expected="numbers, or n/a in the first row",
            got=column[first],
            where=f"{path}, line {first + 2}, column {name!r}",
        )
    return column.to_numpy(dtype=np.float64)


def _filled(path: Path, name: str, column: pd.Series) -> NDArray[np.float64]:
    values = _numbers(path, name, column)
    if len(values) > 1 and np.isnan(values[0]):
        values = values.copy()
        values[0] = values[1]
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise SchemaError(
            "A confound has no value.",
            expected="numbers; n/a in the first row alone",
            got=f"{bad.size} rows without",
            where=f"{path}, line {bad[0] + 2}, column {name!r}",
            fix="leave this column out",
        )
    return values


def _sample_mask(path: Path, table: pd.DataFrame, strategy: Strategy) -> NDArray[np.bool_]:
    keep = np.ones(len(table), dtype=bool)
    if "scrub" in strategy.words:
        _require(path, table, "scrub", ["framewise_displacement", "std_dvars"])
        for name, limit in (("framewise_displacement", strategy.fd), ("std_dvars", strategy.dvars)):
            keep &= ~(_numbers(path, name, table[name]) > limit)  # the first volume has none
        keep = drop_short(keep, strategy.min_segment)
    for name in _numbered(table, "non_steady_state_outlier_?"):
        keep &= _numbers(path, name, table[name]) == 0
    return keep


def drop_short(keep: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    """Leave out what is kept in pieces shorter than `shortest` samples.

    Examples
    --------
    >>> import numpy as np
    >>> drop_short(np.array([1, 0, 1, 1, 0], dtype=bool), 2).astype(int)
    array([0, 0, 1, 1, 0])
    """
    out = keep.copy()
    for start, end in true_stretches(keep):
        if end - start < shortest:
            out[start:end] = False
    return out
