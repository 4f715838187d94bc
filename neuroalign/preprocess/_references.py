"""What each way of re-referencing makes of the channels: who goes in, with which weight, under which name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.preprocess._channel_map import ChannelMap

__all__ = ["REFERENCES", "Contacts", "Options", "Scheme", "plan"]

#: Types of channels that have a reference electrode; all others pass through.
REFERENCED = ("eeg", "seeg", "ecog", "dbs")
#: Contacts on the longest strips (ecog) and shafts that are made. More of them under one name are a grid.
_LONGEST = {"ecog": 8}
_LONGEST_SHAFT = 24
_NO_SHAFT = (
    "read the file with neuroalign.loaders.read_ieeg, or assign the coordinates: "
    "ds.assign_coords(shaft=('channel', [...]), contact=('channel', [...]))"
)


@dataclass(frozen=True)
class Contacts:
    """What is known about the channels of a recording, one entry a channel.

    Attributes
    ----------
    names : list of str
        Channel names.
    kinds : list of str
        Types.
    bad : ndarray of bool
        Whether a channel is bad.
    shaft : list of str
        Electrode; empty where unknown.
    number : ndarray of float
        Contact on the electrode; NaN where unknown.
    white : ndarray of bool or None
        Whether a contact lies in white matter; None where nothing says so.
    units : list of str
        Units.
    bipolar : list of bool
        Whether a channel is a difference of two contacts already.
    """

    names: list[str]
    kinds: list[str]
    bad: NDArray[np.bool_]
    shaft: list[str]
    number: NDArray[np.float64]
    white: NDArray[np.bool_] | None
    units: list[str]
    bipolar: list[bool]

    def referenced(self) -> NDArray[np.intp]:
        """Positions of the channels that have a reference."""
        return np.flatnonzero(np.isin(np.array(self.kinds, dtype=object), REFERENCED))


@dataclass(frozen=True)
class Options:
    """Parameters of a `Rereferencer`, see there."""

    reference: Sequence[str] | None = None
    max_gap: int = 0
    keep_bad: bool = False
    ends: str = "one"


@dataclass
class Scheme:
    """Outputs in the making.

    Attributes
    ----------
    anode : list of int
        The input whose name and place an output has.
    cathode : list of int
        The second contact of a bipolar output; -1 for all others.
    others : list of (int, ...)
        Inputs whose mean is taken off one output alone.
    label : list of str or None
        What the output is referred to; None where it passes through.
    means : list of (donors, outputs)
        Inputs whose mean is taken off several outputs.
    left_out : list of str
        Channels that are not in the output, and why.
    """

    anode: list[int] = field(default_factory=list)
    cathode: list[int] = field(default_factory=list)
    others: list[tuple[int, ...]] = field(default_factory=list)
    label: list[str | None] = field(default_factory=list)
    means: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, anode: int, *others: int, label: str | None = None, cathode: int = -1) -> None:
        """Add one output."""
        self.anode.append(anode)
        self.cathode.append(cathode)
        self.others.append(others)
        self.label.append(label)

    def channel_map(self, names: Sequence[str]) -> ChannelMap:
        """Turn the scheme into sparse matrices."""
        n, m = len(self.anode), len(names)
        rows = [np.arange(n), *(np.full(len(o), k) for k, o in enumerate(self.others))]
        columns = [np.asarray(self.anode), *(np.asarray(o, dtype=np.intp) for o in self.others)]
        weights = [np.ones(n), *(np.full(len(o), -1 / len(o)) for o in self.others if o)]
        spread = [(out, np.full(len(out), k), np.ones(len(out))) for k, (_, out) in enumerate(self.means)]
        mean = [(np.full(len(d), k), d, np.full(len(d), 1 / len(d))) for k, (d, _) in enumerate(self.means)]
        select = (np.concatenate(rows), np.concatenate(columns), np.concatenate(weights))
        outputs = [
            names[a] if c < 0 else f"{names[a]}-{names[c]}" for a, c in zip(self.anode, self.cathode, strict=True)
        ]
        parts = _sparse([select], (n, m)), _sparse(spread, (n, len(mean))), _sparse(mean, (len(mean), m))
        return ChannelMap(list(names), outputs, *parts)


def _sparse(triplets: Sequence[tuple[Any, Any, Any]], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    if not triplets:
        return scipy.sparse.csr_array(shape)
    rows, columns, weights = (np.concatenate(part) for part in zip(*triplets, strict=True))
    return scipy.sparse.csr_array(scipy.sparse.coo_array((weights, (rows, columns)), shape=shape))


def _means(contacts: Contacts, groups: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]], label: str) -> Scheme:
    """Take off means; receivers of no group that have a reference are left out."""
    scheme = Scheme()
    receivers = {int(n) for _, members in groups for n in members}
    referenced = set(contacts.referenced().tolist())
    place: dict[int, int] = {}
    for n, name in enumerate(contacts.names):
        if n in referenced and n not in receivers:
            scheme.left_out.append(f"{name} (fewer than two good contacts on its shaft)")
            continue
        place[n] = len(scheme.anode)
        scheme.add(n, label=label if n in receivers else None)
    scheme.means = [(donors, np.array([place[int(n)] for n in members])) for donors, members in groups]
    return scheme


def _average(contacts: Contacts, options: Options) -> Scheme:
    inside = contacts.referenced()
    if options.reference is not None:
        donors = _named(contacts, options.reference)
        return _means(contacts, [(donors, inside)], ",".join(contacts.names[n] for n in donors))
    kinds = np.array(contacts.kinds, dtype=object)[inside]
    groups = []
    for kind in sorted(set(kinds)):
        members = inside[kinds == kind]
        groups.append((_good(contacts, members, f"of type {kind}"), members))
    return _means(contacts, groups, "average")


def _white_matter(contacts: Contacts, options: Options) -> Scheme:
    inside = contacts.referenced()
    if options.reference is not None:
        return _means(contacts, [(_named(contacts, options.reference), inside)], "white_matter")
    if contacts.white is None:
        raise SchemaError(
            "Nothing says which contacts lie in white matter.",
            expected="a coordinate tissue along channel with values such as 'white' and 'gray', or reference=[...]",
            got="neither",
            fix="ds.assign_coords(tissue=('channel', [...])), or name the contacts: reference=['LA3', 'LA4']",
        )
    members = inside[contacts.white[inside]]
    return _means(contacts, [(_good(contacts, members, "in white matter"), inside)], "white_matter")


def _shaft_average(contacts: Contacts, options: Options) -> Scheme:
    shafts = _shafts(contacts, rows_matter=False).values()
    groups = [(members[~contacts.bad[members]], members) for members in shafts]
    return _means(contacts, [(donors, members) for donors, members in groups if len(donors) > 1], "shaft_average")


def _named(contacts: Contacts, names: Sequence[str]) -> NDArray[np.intp]:
    wanted = [names] if isinstance(names, str) else list(names)
    position = {name: n for n, name in enumerate(contacts.names)}
    if not wanted or (missing := [name for name in wanted if name not in position]):
        raise ConfigError(
            "Channels of the reference are not in the recording.",
            expected="names of channels",
            got=missing if wanted else wanted,
            fix=f"choose among {contacts.names[:10]}",
        )
    rows = np.array(sorted({position[name] for name in wanted}))
    if contacts.bad[rows].any():
        raise SchemaError(
            "A channel of the reference is marked as bad.",
            expected="good channels",
            got=[contacts.names[n] for n in rows if contacts.bad[n]],
            fix="leave it out of reference=",
        )
    return rows


def _good(contacts: Contacts, members: NDArray[np.intp], what: str) -> NDArray[np.intp]:
    donors = members[~contacts.bad[members]]
    if not len(donors):
        raise SchemaError(
            f"No good channel {what} is left for the reference.", expected="at least one", got=f"{len(members)} bad"
        )
    return donors


def _shafts(contacts: Contacts, *, rows_matter: bool) -> dict[tuple[str, str], NDArray[np.intp]]:
    """Contacts of each shaft, in the order of their numbers."""
    shafts: dict[tuple[str, str], list[int]] = {}
    for n in contacts.referenced():
        if contacts.shaft[n] and np.isfinite(contacts.number[n]):
            shafts.setdefault((contacts.kinds[n], contacts.shaft[n]), []).append(int(n))
    if not shafts:
        raise SchemaError(
            "No shaft is known.", expected="coordinates shaft and contact along channel", got="none", fix=_NO_SHAFT
        )
    out = {}
    for (kind, shaft), members in shafts.items():
        numbers = contacts.number[members]
        if len(np.unique(numbers)) < len(members):
            raise SchemaError("A contact comes twice.", expected="one channel a contact", got=f"on shaft {shaft}")
        if rows_matter:
            _check_grid(contacts, kind, shaft, members)
        out[kind, shaft] = np.array(members)[np.argsort(numbers)]
    return out


def _check_grid(contacts: Contacts, kind: str, shaft: str, members: Sequence[int]) -> None:
    longest = _LONGEST.get(kind, _LONGEST_SHAFT)
    from_name = all(shaft in contacts.names[n] for n in members)
    if from_name and len(members) > longest:
        raise SchemaError(
            "Contacts of a grid have neighbours in two directions, which their numbers do not tell.",
            expected=f"up to {longest} contacts of type {kind} under one name",
            got=f"{len(members)} contacts on {shaft}",
            fix="name the rows of the grid: ds.assign_coords(shaft=('channel', ['row 1', ...])); or use "
            "method='average' or 'shaft_average'; or channel_type='seeg' on reading, if it is a depth electrode",
        )


def _bipolar(contacts: Contacts, options: Options) -> Scheme:
    pairs: dict[int, int] = {}
    scheme = Scheme()
    for members in _shafts(contacts, rows_matter=True).values():
        usable = members if options.keep_bad else members[~contacts.bad[members]]
        for a, c in _steps(contacts, usable, 1 + options.max_gap):
            pairs[a] = c
        for a, c in _steps(contacts, members, 1):
            if pairs.get(a) != c:
                scheme.left_out.append(f"{contacts.names[a]}-{contacts.names[c]} (bad contact)")
    referenced = set(contacts.referenced().tolist())
    used = {*pairs, *pairs.values()}
    for n, name in enumerate(contacts.names):
        if n in pairs:
            scheme.add(n, pairs[n], label=contacts.names[pairs[n]], cathode=pairs[n])
        elif n not in referenced:
            scheme.add(n)
        elif n not in used and not contacts.bad[n]:
            scheme.left_out.append(f"{name} (no good neighbour on a known shaft)")
    return scheme


def _steps(contacts: Contacts, members: NDArray[np.intp], most: int) -> list[tuple[int, int]]:
    """Pairs of contacts that follow each other within a number of steps."""
    near = np.diff(contacts.number[members]) <= most
    return list(zip(members[:-1][near].tolist(), members[1:][near].tolist(), strict=True))


def _laplacian(contacts: Contacts, options: Options) -> Scheme:
    neighbours: dict[int, list[int]] = {}
    ends: set[int] = set()
    for members in _shafts(contacts, rows_matter=True).values():
        ends |= {int(members[0]), int(members[-1])}
        neighbours |= {int(n): _neighbours(contacts, members, int(n), options) for n in members}
    fewest = 2 if options.ends == "drop" else 1
    referenced = set(contacts.referenced().tolist())
    scheme = Scheme()
    for n, name in enumerate(contacts.names):
        if n not in referenced:
            scheme.add(n)
        elif len(neighbours.get(n, [])) >= fewest:
            scheme.add(n, *neighbours[n], label="laplacian")
        elif options.ends == "one" or n not in ends:
            scheme.left_out.append(f"{name} (too few good neighbours on a known shaft)")
    return scheme


def _neighbours(contacts: Contacts, members: NDArray[np.intp], n: int, options: Options) -> list[int]:
    """Nearest good contact on either side, no farther than the gap allows."""
    good = members[~contacts.bad[members]]
    steps = contacts.number[good] - contacts.number[n]
    found = []
    for side in (steps < 0, steps > 0):
        near = side & (np.abs(steps) <= 1 + options.max_gap)
        if near.any():
            found.append(int(good[near][np.argmin(np.abs(steps[near]))]))
    return found


#: Name -> function of (contacts, options).
REFERENCES: dict[str, Callable[[Contacts, Options], Scheme]] = {
    "average": _average,
    "bipolar": _bipolar,
    "laplacian": _laplacian,
    "shaft_average": _shaft_average,
    "white_matter": _white_matter,
}
#: Option -> methods that look at it.
_USED_BY = {
    "reference": ("average", "white_matter"),
    "max_gap": ("bipolar", "laplacian"),
    "keep_bad": ("bipolar",),
    "ends": ("laplacian",),
}


def plan(contacts: Contacts, method: str, options: Options) -> Scheme:
    """Work out the outputs of one way of re-referencing.

    Parameters
    ----------
    contacts : Contacts
        The channels.
    method : str
        A key of `REFERENCES`.
    options : Options
        Its options.

    Returns
    -------
    Scheme
        The outputs.

    Raises
    ------
    ConfigError
        If the method or an option is unknown, or the option means nothing to the method.
    SchemaError
        If what is known about the channels does not suffice.
    """
    _check_options(method, options)
    inside = contacts.referenced()
    if not len(inside):
        raise SchemaError(
            "There is no channel to re-reference.",
            expected=f"channels of type {', '.join(REFERENCED)}",
            got=sorted(set(contacts.kinds)),
            fix="set their type on reading: channel_type=, or ds.assign_coords(channel_type=('channel', [...]))",
        )
    if any(contacts.bipolar[n] for n in inside):
        raise SchemaError(
            "Channels are differences of two contacts, which have no reference to change.",
            expected="contacts against one reference",
            got=[contacts.names[n] for n in inside if contacts.bipolar[n]][:5],
            fix="re-reference the recording before the pairs are formed",
        )
    scheme = REFERENCES[method](contacts, options)
    if not any(label is not None for label in scheme.label):
        raise SchemaError("No channel is left.", expected="contacts with good neighbours", got=scheme.left_out[:10])
    _check_units(contacts, scheme)
    return scheme


def _check_options(method: str, options: Options) -> None:
    if method not in REFERENCES:
        raise ConfigError("Unknown reference.", expected=", ".join(REFERENCES), got=method)
    for name, methods in _USED_BY.items():
        if method not in methods and getattr(options, name) != getattr(Options(), name):
            raise ConfigError(
                f"{name}= means nothing to method={method!r}.",
                expected=f"{name}= with method={' or '.join(map(repr, methods))}",
                got=f"{name}={getattr(options, name)!r}",
                fix=f"leave {name}= out, or choose another method",
            )
    if options.max_gap < 0 or options.max_gap != int(options.max_gap):
        raise ConfigError("Not a number of contacts.", expected="max_gap= of 0 or more", got=options.max_gap)
    if options.ends not in ("one", "drop"):
        raise ConfigError("Unknown way with the ends of a shaft.", expected="one or drop", got=options.ends)


def _check_units(contacts: Contacts, scheme: Scheme) -> None:
    mixed = [(a, *others) for a, others in zip(scheme.anode, scheme.others, strict=True)]
    mixed += [(*donors.tolist(), *(scheme.anode[n] for n in outputs)) for donors, outputs in scheme.means]
    for group in mixed:
        units = {contacts.units[n] for n in group}
        if len(units) > 1:
            raise SchemaError("Channels of different units would be mixed.", expected="one unit", got=sorted(units))
