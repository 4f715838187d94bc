"""Features over time -> the haemodynamic response that they predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from neuroalign.align import segment_slices
from neuroalign.preprocess.hrf import hrf_kernel
from neuroalign.protocol import LabelledTransformer, Samples, sampling_rate, segment_labels

__all__ = ["HRFConvolver"]

# Up to here adding shifted copies is as fast as a Fourier transform, and free of its rounding.
_MANY_TAPS = 128


class HRFConvolver(LabelledTransformer):
    """Convolve features with a haemodynamic response function, each run on its own.

    Parameters
    ----------
    model : {'spm', 'glover'} or callable
        The response; a callable takes seconds and gives the response in any scale.
    sfreq : float, optional
        Sampling rate in Hz (1 / TR), needed where the data have no time coordinate.
    length : float
        Seconds of the response.

    Attributes
    ----------
    kernel_ : ndarray, shape (n_taps,)
        The filter at the sampling rate of the data given to `fit`; its sum is 1.

    Notes
    -----
    A feature holds its value from its sample to the next one. Features are 0 before the run starts.

    References
    ----------
    .. [1] Friston, K. J., et al. (1998). Event-related fMRI: characterizing differential responses. NeuroImage 7.
    .. [2] Glover, G. H. (1999). Deconvolution of impulse response in event-related BOLD fMRI. NeuroImage 9.

    Examples
    --------
    >>> import numpy as np
    >>> HRFConvolver(sfreq=0.5).fit_transform(np.eye(5)[:, :1]).round(2).ravel()
    array([0.  , 0.02, 0.24, 0.41, 0.3 ])
    """

    def __init__(
        self,
        model: str | Callable[[NDArray[np.float64]], ArrayLike] = "spm",
        *,
        sfreq: float | None = None,
        length: float = 32.0,
    ) -> None:
        self.model = model
        self.sfreq = sfreq
        self.length = length

    def _fit(self, X: NDArray[Any], samples: Samples) -> None:
        segment_labels(samples)
        self.kernel_ = self._kernel(samples)

    def _transform(self, X: NDArray[Any], samples: Samples) -> NDArray[Any]:
        kernel = self._kernel(samples)
        out = np.empty_like(X)
        for piece in segment_slices(segment_labels(samples), len(X)):
            out[piece] = _filter(X[piece].astype(np.float64, copy=False), kernel)
        return out

    def _kernel(self, samples: Samples) -> NDArray[np.float64]:
        return hrf_kernel(self.model, sampling_rate(samples, self.sfreq, "A convolution"), self.length)


def _filter(x: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Causal convolution along the first axis, of the length of x."""
    if kernel.size > _MANY_TAPS:
        return signal.oaconvolve(x, kernel[:, None], axes=0)[: len(x)]
    out = kernel[0] * x
    for lag in range(1, min(kernel.size, len(x))):
        out[lag:] += kernel[lag] * x[:-lag]
    return out
