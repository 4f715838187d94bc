"""Ridge decoding models."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from neuroalign.decoding.patterns import activation_patterns
from neuroalign.linear import RidgeModel
from neuroalign.protocol import Samples, check_shape


class RidgeDecoder(RidgeModel):
    """Predict stimulus features from brain responses by ridge regression.

    Parameters
    ----------
    alphas, cv, scorer, alpha_per_target, fit_intercept, nan, unlabelled
        As in `neuroalign.encoding.RidgeEncoder`; `X` are responses and `y` features.

    Attributes
    ----------
    coef_ : DataArray or ndarray
        Weights, (*response dims, *feature dims). Weights of a decoder say nothing about where information is; see
        `patterns_`.
    patterns_ : DataArray or ndarray
        Activation patterns of the decoder, the same shape as `coef_`.
    intercept_, alphas_, cv_scores_ : DataArray or ndarray
        One value a decoded feature.

    References
    ----------
    Haufe, S. et al. (2014). On the interpretation of weight vectors of linear models in multivariate neuroimaging.
    NeuroImage 87, 96-110.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> brain = rng.normal(size=(80, 10))
    >>> decoder = RidgeDecoder().fit(brain, brain[:, 0])
    >>> int(np.argmax(np.abs(decoder.patterns_)))
    0
    """

    @property
    def patterns_(self) -> Any:
        """Activation patterns (Haufe et al., 2014), (*response dims, *feature dims)."""
        return self._per_feature(self.solution_patterns_)

    _state_names = RidgeModel._state_names | {"solution_patterns_"}

    def _check_state(self) -> None:
        super()._check_state()
        check_shape(self, "solution_patterns_", self.solution_coef_.shape, finite=self._learned())

    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        super()._fit(X, Y, samples, groups)
        self.solution_patterns_ = activation_patterns(X - X.mean(axis=0), self.solution_coef_)
