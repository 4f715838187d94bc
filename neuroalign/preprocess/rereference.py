"""Re-referencing of EEG and intracranial recordings, as sparse matrices over channels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse
import xarray as xr
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from neuroalign.errors import SchemaError
from neuroalign.preprocess._channel_map import ChannelMap, map_channels
from neuroalign.preprocess._references import Contacts, Options, plan
from neuroalign.preprocess._timewise import recording_variable
from neuroalign.preprocess._trees import first_run, transform_runs
from neuroalign.protocol import LabelledTransformer, Labels, Samples
from neuroalign.schema import SENSOR_MODALITIES, history, log, stamp

__all__ = ["Rereferencer", "reference_matrix"]

_AVERAGE_REFERENCE = 10  # kind of a projection of MNE
_WHITE = ("white", "white matter", "white_matter", "white-matter", "wm")


class Rereferencer(LabelledTransformer):
    """Change the reference of EEG, sEEG, ECoG and DBS channels.

    Parameters
    ----------
    method : str
        ``"average"``: minus the mean of the good channels of the same type, or of `reference`.
        ``"bipolar"``: differences of neighbours on a shaft, named ``LA1-LA2``, placed half-way.
        ``"shaft_average"``: minus the mean of the good contacts of the shaft.
        ``"laplacian"``: minus the mean of the nearest contact on either side of the shaft.
        ``"white_matter"``: minus the mean of the contacts in white matter, or of `reference`.
    reference : sequence of str, optional
        Names of the channels whose mean is taken off, for ``average`` and ``white_matter``. They stay in the output.
    max_gap : int
        Contacts that may be missing or bad between two neighbours, for ``bipolar`` and ``laplacian``.
    keep_bad : bool
        Form ``bipolar`` pairs with a bad contact too, marked as bad; by default they are left out.
    ends : {'one', 'drop'}
        For ``laplacian``: a contact with one neighbour (the ends of a shaft) is referred to that one, or left out.
    tissue : str
        Channel coordinate that says ``"white"`` of contacts in white matter.

    Attributes
    ----------
    matrix_ : csr_array, shape (n_channels_out, n_channels_in)
        Weights.
    channel_map_ : str
        The same with the names of channels, as JSON: an average is kept by its parts, so that it stays small.
    left_out_ : list of str
        Contacts and pairs that are not in the output, and why. They are named in the log of the result.

    Notes
    -----
    Bad channels never go into the reference of another. They are referred like the others and stay marked, but for
    ``bipolar``. Channels of other types (ECG, triggers, ...) pass through. Shafts and contacts are the coordinates
    ``shaft`` and ``contact``. Grids (type ``ecog``) have neighbours in two directions, so that ``bipolar`` and
    ``laplacian`` ask for the rows as ``shaft``; strips of up to 8 contacts are taken as shafts. So do more than 24
    contacts of other types under one name.

    The matrix is kept in the provenance of the result and comes back with `reference_matrix`. Lazy recordings stay
    lazy; values are computed in blocks.

    References
    ----------
    .. [1] Li, G., et al. (2018). Optimal referencing for stereo-electroencephalographic (SEEG) recordings. NeuroImage
       183.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import sensors
    >>> coords = {"shaft": ["A", "A", "A"], "contact": [1, 2, 3]}
    >>> ds = sensors([[1.0, 2], [3, 5], [6, 6]], modality="ieeg", sfreq=10, channel=["A1", "A2", "A3"], units="V",
    ...              coords=coords)
    >>> pairs = Rereferencer("bipolar").fit_transform(ds)
    >>> pairs["channel"].values.tolist(), pairs["ieeg"].values.tolist()
    (['A1-A2', 'A2-A3'], [[-2.0, -3.0], [-3.0, -1.0]])
    """

    def __init__(
        self,
        method: str = "average",
        *,
        reference: Sequence[str] | None = None,
        max_gap: int = 0,
        keep_bad: bool = False,
        ends: str = "one",
        tissue: str = "tissue",
    ) -> None:
        self.method = method
        self.reference = reference
        self.max_gap = max_gap
        self.keep_bad = keep_bad
        self.ends = ends
        self.tissue = tissue

    def fit(self, X: Any, y: Any = None) -> Self:
        """Work out the matrix from the names, types and marks of the channels.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_channels)
            Recording; its values are not looked at. Arrays know no shafts. Of a tree, the first run.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.

        Raises
        ------
        ConfigError
            If the method or an option is unknown, or means nothing together.
        SchemaError
            If shafts, types or tissue are not known, or no good channel is left.
        """
        X = first_run(X, SENSOR_MODALITIES)
        if isinstance(X, xr.Dataset | xr.DataArray):
            contacts = _contacts(X, self.tissue)
            self.feature_labels_ = _channel_labels(contacts.names)
            self.n_features_in_ = len(contacts.names)
        else:
            values, _, self.feature_labels_ = self._open(X, fitting=True)
            contacts = _unknown(values.shape[1])
        options = Options(self.reference, self.max_gap, self.keep_bad, self.ends)
        scheme = plan(contacts, self.method, options)
        self.channel_map_ = scheme.channel_map(contacts.names).to_json()
        self.anode_, self.cathode_ = np.array(scheme.anode), np.array(scheme.cathode)
        self.reference_ = list(scheme.label)
        self.bad_ = contacts.bad
        self.left_out_ = scheme.left_out
        return self

    @property
    def matrix_(self) -> scipy.sparse.csr_array:
        """Weights, shape (n_channels_out, n_channels_in)."""
        check_is_fitted(self)
        return self._map().matrix

    def transform(self, X: Any) -> Any:
        """Refer the channels of a recording to the new reference.

        Parameters
        ----------
        X : Dataset, DataTree, DataArray or array, shape (n_times, n_channels)
            Recording with the channels given to `fit`; epochs too. The runs of a tree have references of their own.

        Returns
        -------
        Dataset, DataTree, DataArray or array
            Labelled as X, with the coordinate ``reference``, and ``anode`` and ``cathode`` of pairs.

        Raises
        ------
        AlignmentError
            If the channels are not those given to `fit`.
        SchemaError
            If a channel of the reference has become bad, or holds NaN.
        """
        if isinstance(X, xr.DataTree):
            check_is_fitted(self)
            return transform_runs(self, X, SENSOR_MODALITIES)
        if not isinstance(X, xr.Dataset | xr.DataArray):
            return super().transform(X)
        check_is_fitted(self)
        variable = X[recording_variable(X)] if isinstance(X, xr.Dataset) else X
        contacts = _contacts(X, self.tissue)
        self.feature_labels_.check_same(_channel_labels(contacts.names), "The channels of X")
        channel_map = self._map()
        self._check_bad(contacts, channel_map)
        checked = channel_map.donors[~contacts.bad[channel_map.donors]]
        valid = X["valid"].variable if "valid" in X.coords and "channel" not in X["valid"].dims else None
        coords: dict[Any, Any] = self._coords(X, channel_map.outputs)
        coords |= {n: c.variable for n, c in variable.coords.items() if "channel" not in c.dims}
        values = map_channels(variable.variable, channel_map, checked, valid)
        out: Any = xr.DataArray(values, coords=coords, dims=values.dims, name=variable.name)
        if isinstance(X, xr.Dataset):
            out = X.drop_dims("channel").assign({str(variable.name): out})
        else:
            out.attrs = dict(X.attrs)
        if "mne_info" in X.attrs:
            out = out.assign_attrs(mne_info=_custom_reference(X.attrs["mne_info"]))
        if self.left_out_:
            out = log(out, f"Rereferencer({self.method!r}) leaves out {', '.join(self.left_out_)}")
        return stamp(out, type(self).__name__, **self.get_params(deep=False), matrix=channel_map.to_dict())

    def _map(self) -> ChannelMap:
        return ChannelMap.from_dict(json.loads(self.channel_map_))

    def _check_bad(self, contacts: Contacts, channel_map: ChannelMap) -> None:
        new = [contacts.names[n] for n in channel_map.donors if contacts.bad[n] and not self.bad_[n]]
        if new:
            raise SchemaError(
                "Channels of the reference are bad in this recording, and were not at fit.",
                expected="the bad channels known at fit",
                got=new,
                fix="fit again on this recording, or mark them as bad in the recording given to fit",
            )

    def _coords(self, X: xr.Dataset | xr.DataArray, names: list[str]) -> dict[str, Any]:
        paired = self.cathode_ >= 0
        second = np.where(paired, self.cathode_, self.anode_)
        coords: dict[str, Any] = {}
        for name, coord in X.coords.items():
            if coord.dims == ("channel",):
                coords[str(name)] = ("channel", _merge(str(name), coord.values[self.anode_], coord.values[second]))
        coords["channel"] = ("channel", np.array(names, dtype=object))
        before = coords["reference"][1] if "reference" in coords else [""] * len(names)
        after = [old if new is None else new for old, new in zip(before, self.reference_, strict=True)]
        coords["reference"] = ("channel", np.array(after, dtype=object))
        if paired.any():
            ends = {"anode": self.anode_, "cathode": self.cathode_}
            for name, rows in ends.items():
                labels = np.where(paired, X["channel"].values[rows], "")
                coords[name] = ("channel", labels.astype(object))
        return coords

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        return np.ascontiguousarray(self._map().apply(X.T).T)

    def _check_state(self) -> None:
        channel_map = self._map()
        n = len(channel_map.outputs)
        if not (len(self.anode_) == len(self.cathode_) == len(self.reference_) == n):
            raise ValueError(f"{n} outputs, but {len(self.anode_)} anodes")
        m = len(channel_map.inputs)
        if len(self.bad_) != m or self.feature_labels_.shape != (m,):
            raise ValueError(f"{m} inputs, but {len(self.bad_)} marks")
        ends = np.concatenate([self.anode_, self.cathode_])
        if not (self.anode_ >= 0).all() or not ((ends >= -1) & (ends < m)).all():
            raise ValueError("anodes or cathodes that are not among the inputs")


def reference_matrix(obj: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Give the weights by which a recording was re-referenced, from its provenance.

    Parameters
    ----------
    obj : Dataset or DataArray
        What `Rereferencer` gave, or anything made from it, also after saving and opening.

    Returns
    -------
    DataArray
        Dims (channel, channel_in), of the last time that it was re-referenced.

    Raises
    ------
    SchemaError
        If it never was.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroalign.schema import sensors
    >>> ds = sensors(np.ones((2, 9)), modality="eeg", sfreq=10, channel=["Cz", "Pz"], units="V")
    >>> reference_matrix(Rereferencer().fit_transform(ds)).values
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    steps = [step for step in history(obj)["steps"] if step["step"] == Rereferencer.__name__]
    if not steps:
        raise SchemaError(
            "The recording was not re-referenced here.",
            expected="a step Rereferencer in its provenance",
            got=[step["step"] for step in history(obj)["steps"]],
        )
    channel_map = ChannelMap.from_dict(steps[-1]["matrix"])
    coords = {name: np.array(getattr(channel_map, f"{name}puts"), dtype=object) for name in ("out", "in")}
    return xr.DataArray(
        channel_map.matrix.toarray(),
        dims=("channel", "channel_in"),
        coords={"channel": coords["out"], "channel_in": coords["in"]},
        name="reference_matrix",
    )


def _contacts(X: xr.Dataset | xr.DataArray, tissue: str) -> Contacts:
    variable = X[recording_variable(X)] if isinstance(X, xr.Dataset) else X
    if not {"channel", "time"} <= set(variable.dims) or "channel" not in X.coords:
        raise SchemaError(
            "Not a recording of channels over time.",
            expected="dimensions channel (with names) and time",
            got=dict(variable.sizes),
        )
    n = X.sizes["channel"]

    def column(name: str, missing: Any) -> list[Any]:
        return X[name].values.tolist() if name in X.coords else [missing] * n

    white = None
    if tissue in X.coords:
        white = np.array([str(value).strip().lower() in _WHITE for value in X[tissue].values])
    return Contacts(
        names=[str(name) for name in X["channel"].values],
        kinds=column("channel_type", "eeg"),
        bad=np.array(column("bad", False), dtype=bool),
        shaft=[str(shaft) for shaft in column("shaft", "")],
        number=np.array(column("contact", np.nan), dtype=np.float64),
        white=white,
        units=column("units", "V"),
        bipolar=[bool(anode) for anode in column("anode", "")],
    )


def _custom_reference(text: str) -> str:
    """Tell MNE that the reference was changed; its own projection to an average is void then."""
    content = json.loads(text)
    mark = content.get("custom_ref_applied")
    if isinstance(mark, dict):
        content["custom_ref_applied"] = mark | {"value": 1, "name": "FIFFV_MNE_CUSTOM_REF_ON"}
    content["projs"] = [p for p in content.get("projs") or [] if p.get("kind") != _AVERAGE_REFERENCE]
    return json.dumps(content)


def _unknown(n: int) -> Contacts:
    names, bad = [f"x{k}" for k in range(n)], np.zeros(n, dtype=bool)
    return Contacts(names, ["eeg"] * n, bad, [""] * n, np.full(n, np.nan), None, ["V"] * n, [False] * n)


def _channel_labels(names: list[str]) -> Labels:
    return Labels(("channel",), (len(names),), {"channel": (("channel",), np.array(names, dtype=object))})


def _merge(name: str, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """One value of a coordinate for each pair: half-way, either, or what both say; else nothing."""
    if name in ("x", "y", "z"):
        return (first + second) / 2
    if first.dtype == bool:
        return first | second
    if name in ("channel", "contact"):  # the name is made anew; the number is that of the anode, as in files of pairs
        return first
    same = np.array([a == b or (a != a and b != b) for a, b in zip(first, second, strict=True)])
    if same.all():
        return first
    if first.dtype.kind in "iuf":
        return np.where(same, first, np.nan)
    return np.where(same, first, "").astype(object)
