"""Backward temporal response functions: reconstruct a continuous stimulus from a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.align import lagged, segment_slices
from neuroalign.decoding.patterns import patterns_from_cross
from neuroalign.linear import TRFModel
from neuroalign.protocol import Samples, check_shape, segment_labels


class TRFDecoder(TRFModel):
    """Reconstruct stimulus features from the recording that follows them.

    Parameters
    ----------
    tmin, tmax : float
        Window in s after the stimulus, both ends included, in which the recording is read.
    sfreq, alphas, cv, scorer, nan, unlabelled
        As in `neuroalign.encoding.TRFEncoder`; `X` is the recording and `y` the stimulus.

    Attributes
    ----------
    coef_ : DataArray or ndarray
        Weights, (*response dims, lag, *feature dims). For where information is, see `patterns_`.
    patterns_ : DataArray or ndarray
        Forward patterns of the decoder, the same shape as `coef_`.
    lags_ : ndarray
        Lags in s by which the recording follows the stimulus.

    References
    ----------
    O'Sullivan, J. A. et al. (2015). Attentional selection in a cocktail party environment can be decoded from
    single-trial EEG. Cereb. Cortex 25, 1697-1706. Haufe, S. et al. (2014). NeuroImage 87, 96-110.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> envelope = rng.normal(size=(500, 1))
    >>> response = np.roll(envelope, 3, axis=0) * [[1.0, -1.0]]
    >>> reader = TRFDecoder(tmin=0.0, tmax=0.05, sfreq=100.0).fit(response, envelope)
    >>> float(reader.lags_[np.argmax(np.abs(reader.patterns_[0, :, 0]))])
    0.03
    """

    _direction = -1

    @property
    def patterns_(self) -> Any:
        """Forward patterns (Haufe et al., 2014), (*response dims, lag, *feature dims)."""
        return self._with_lags(self.solution_patterns_)

    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        super()._fit(X, Y, samples, groups)
        decoded = self._respond(X, samples)
        decoded -= decoded.mean(axis=0)
        pieces = segment_slices(segment_labels(samples), samples.n)
        cross = []  # (lag, input, output), without a delayed matrix in memory
        for lag in self.lag_samples_.tolist():
            shifted = np.concatenate([lagged(X[p], [lag]) for p in pieces])
            cross.append((shifted - shifted.mean(axis=0, dtype=np.float64)).T @ decoded)
        flat = np.concatenate(cross)  # (lag * input, output)
        patterns = patterns_from_cross(flat, self.solution_coef_.reshape(flat.shape))
        self.solution_patterns_ = patterns.reshape(self.solution_coef_.shape)

    _state_names = TRFModel._state_names | {"solution_patterns_"}

    def _check_state(self) -> None:
        super()._check_state()
        check_shape(self, "solution_patterns_", self.solution_coef_.shape, finite=self._learned())
