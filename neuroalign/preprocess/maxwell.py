"""Signal-space separation of MEG, done by MNE."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from neuroalign.align import first_difference
from neuroalign.convert import info_json, to_mne
from neuroalign.errors import AlignmentError, SchemaError, require
from neuroalign.protocol._save import Saveable
from neuroalign.schema import stamp

__all__ = ["MaxwellFilter"]

#: What MNE says -> what to do about it.
_REMEDIES = {
    "digitization": "pass the middle of the head in m: origin=(0.0, 0.0, 0.04)",
    "KIT reference": "pass ignore_ref=True",
    "compensated": "undo the compensation first: to_mne(ds).apply_gradient_compensation(0), and from_mne",
    "origin": "pass the middle of the head in m: origin=(0.0, 0.0, 0.04)",
}


class MaxwellFilter(Saveable, TransformerMixin, BaseEstimator):
    """Signal-space separation (SSS) of MEG recordings, with or without its temporal extension (tSSS).

    Magnetic fields are split into those of sources inside and outside the helmet; those from outside are taken out.
    Bad channels do not take part and are put together anew from the others, so that they are good afterwards.

    Parameters
    ----------
    origin : 'auto' or (float, float, float)
        Middle of the head in m, in the head frame; by default that of a sphere fitted to the digitised points.
    st_duration : float, optional
        Length in s of the windows of tSSS; by default plain SSS.
    calibration : path-like, optional
        Fine-calibration file of the site.
    cross_talk : path-like, optional
        Cross-talk file of the site.
    ignore_ref : bool
        Leave reference channels out, which KIT systems need.

    Attributes
    ----------
    channels_ : ndarray of str, shape (n_channels,)
        Names of the channels given to `fit`.

    Notes
    -----
    The filter is `mne.preprocessing.maxwell_filter`, on the measurement info in ``attrs["mne_info"]``. The recording
    is read whole, in double precision. Raw MaxShield files are read with ``read_meg(path, allow_maxshield=True)`` and
    must go through this filter before anything else. Each run has its own head position, so give one run at a time.

    References
    ----------
    .. [1] Taulu, S. & Kajola, M. (2005). Presentation of electromagnetic multichannel data: the signal space
       separation method. Journal of Applied Physics 97.
    .. [2] Taulu, S. & Simola, J. (2006). Spatiotemporal signal space separation method for rejecting nearby
       interference in MEG measurements. Physics in Medicine and Biology 51.

    Examples
    --------
    >>> from sklearn.base import clone
    >>> clone(MaxwellFilter(st_duration=10.0))
    MaxwellFilter(st_duration=10.0)
    """

    def __init__(
        self,
        origin: str | Sequence[float] = "auto",
        *,
        st_duration: float | None = None,
        calibration: str | Path | None = None,
        cross_talk: str | Path | None = None,
        ignore_ref: bool = False,
    ) -> None:
        self.origin = origin
        self.st_duration = st_duration
        self.calibration = calibration
        self.cross_talk = cross_talk
        self.ignore_ref = ignore_ref

    def fit(self, X: xr.Dataset, y: Any = None) -> Self:
        """Check that a recording can be filtered; nothing is learned from its values.

        Parameters
        ----------
        X : Dataset
            Continuous MEG recording, with ``mne_info`` in its attrs.
        y : None
            Not used; here for pipelines.

        Returns
        -------
        self
            The transformer.

        Raises
        ------
        SchemaError
            If it is no such recording, was through SSS before, or does not know where the head was.
        """
        _check(X)
        self.channels_ = X["channel"].values.astype(object)
        return self

    def transform(self, X: xr.Dataset) -> xr.Dataset:
        """Filter a recording.

        Parameters
        ----------
        X : Dataset
            Continuous MEG recording with the channels given to `fit`.

        Returns
        -------
        Dataset
            With all labels and events of X; ``mne_info`` says that SSS was applied.

        Raises
        ------
        AlignmentError
            If the channels are not those given to `fit`.
        SchemaError
            If it was through SSS before, or MNE refuses it; the message has MNE's words.
        """
        check_is_fitted(self)
        content = _check(X)
        if (difference := first_difference(self.channels_, X["channel"].values)) is not None:
            raise AlignmentError(
                "The channels of X are not those given to fit.", expected="the same in the same order", got=difference
            )
        raw = self._filter(to_mne(X))
        meg = X["meg"]
        values = raw.get_data().astype(meg.dtype)
        if "valid" in X.coords and X["valid"].dims == ("time",):
            values[:, ~X["valid"].values.astype(bool)] = np.nan
        kept = any(content.get(key) is not None for key in ("meas_date", "subject_info", "experimenter"))
        bad = np.isin(X["channel"].values, np.array(raw.info["bads"], dtype=object))
        out = X.assign(meg=meg.transpose("channel", "time").copy(data=values).transpose(*meg.dims))
        out = out.assign_coords(bad=("channel", bad)).assign_attrs(mne_info=info_json(raw.info, keep_phi=kept))
        return stamp(out, type(self).__name__, **self._described())

    def _filter(self, raw: Any) -> Any:
        mne = require("mne", "eeg")
        try:
            return mne.preprocessing.maxwell_filter(
                raw,
                origin=self.origin if isinstance(self.origin, str) else tuple(self.origin),
                st_duration=self.st_duration,
                calibration=self.calibration,
                cross_talk=self.cross_talk,
                ignore_ref=self.ignore_ref,
                # Without windows in time, samples stand alone and gaps need no care.
                skip_by_annotation=() if self.st_duration is None else ("edge", "bad_acq_skip"),
                verbose="ERROR",
            )
        except (RuntimeError, ValueError, NotImplementedError, OSError) as error:
            words = str(error)
            raise SchemaError(
                "MNE cannot apply SSS to this recording.",
                got=f"{type(error).__name__}: {words}",
                fix=next((remedy for word, remedy in _REMEDIES.items() if word in words), None),
            ) from error

    def _described(self) -> dict[str, Any]:
        """Parameters, with the names of files but not their folders."""
        params = self.get_params(deep=False)
        return {k: Path(v).name if k in ("calibration", "cross_talk") and v else v for k, v in params.items()}


def _check(X: Any) -> dict[str, Any]:
    """Give the measurement info of a recording that SSS can be applied to."""
    if not isinstance(X, xr.Dataset) or "meg" not in X.data_vars or set(X["meg"].dims) != {"channel", "time"}:
        raise SchemaError(
            "SSS needs a continuous MEG recording.",
            expected="a Dataset with a variable meg of dims (channel, time)",
            got=dict(X["meg"].sizes) if isinstance(X, xr.Dataset) and "meg" in X else type(X).__name__,
            fix="pass the Dataset itself, before it is cut into epochs",
        )
    if "mne_info" not in X.attrs:
        raise SchemaError(
            "The recording does not know its sensors.",
            expected="attrs['mne_info'] with coils, digitised points and head position",
            got="none",
            fix="read it with neuroalign.loaders.read_meg, or neuroalign.convert.from_mne",
        )
    content = json.loads(X.attrs["mne_info"])
    if any((entry.get("max_info") or {}).get("sss_info") for entry in content.get("proc_history") or []):
        raise SchemaError(
            "SSS was applied to this recording before.",
            expected="a recording without SSS in its history",
            got="sss_info in the history of processing",
            fix="leave MaxwellFilter out",
        )
    if content.get("dev_head_t") is None:
        raise SchemaError(
            "The recording does not know where the head was.",
            expected="a transform from device to head (dev_head_t)",
            got="none",
            fix="pass the marker file on reading, for example mrk= of KIT",
        )
    return content
