"""Ridge decoding models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.decoding.patterns import activation_patterns
from neuroalign.errors import ConfigError
from neuroalign.linear import RidgeModel
from neuroalign.protocol import check_shape
from neuroalign.solvers import ridge, ridge_loo


class RidgeDecoder(RidgeModel):
    """Predict stimulus features from brain responses by ridge regression.

    All features share one decomposition of the responses a fold, so thousands of latents (of images or words) cost
    little more than one.

    Parameters
    ----------
    alphas, cv, scorer, alpha_per_target, standardize, nan, unlabelled
        As in `neuroalign.encoding.RidgeEncoder`; `X` are responses and `y` features. There is always an intercept.
    renormalise : bool
        Stretch each decoded feature so that its mean and standard deviation over held-out samples are those of the
        training features. Predictions shrink towards the mean, the more the noisier a feature is; networks that take
        decoded features, and searches among candidates by distance, expect their usual range. It costs R2, and one
        decomposition more a fold; `cv_scores_` are those before the stretch.

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

    Which of 200 new items was seen, from 30 decoded features:

    >>> from neuroalign.metrics import retrieval_ranks, top_k_accuracy
    >>> latents = rng.normal(size=(400, 30))
    >>> brain = latents @ rng.normal(size=(30, 60)) + 8 * rng.normal(size=(400, 60))
    >>> decoder = RidgeDecoder(renormalise=True).fit(brain[:200], latents[:200])
    >>> decoded = decoder.predict(brain[200:])
    >>> top_k_accuracy(retrieval_ranks(decoded, latents[200:], similarity="euclidean"), k=10) > 0.5
    True
    """

    fit_intercept = True

    def __init__(
        self,
        *,
        alphas: ArrayLike | None = None,
        cv: Any = None,
        scorer: Any = "r2",
        alpha_per_target: bool | str = True,
        standardize: bool = False,
        renormalise: bool = False,
        nan: str = "mask",
        unlabelled: str = "refuse",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scorer = scorer
        self.alpha_per_target = alpha_per_target
        self.standardize = standardize
        self.renormalise = renormalise
        self.nan = nan
        self.unlabelled = unlabelled

    @property
    def patterns_(self) -> Any:
        """Activation patterns (Haufe et al., 2014), (*response dims, *feature dims)."""
        return self._per_feature(self.solution_patterns_)

    _state_names = RidgeModel._state_names | {"solution_patterns_"}

    def _check_state(self) -> None:
        super()._check_state()
        check_shape(self, "solution_patterns_", self.solution_coef_.shape, finite=self._learned())

    def _solve(self, X: NDArray[Any], Y: NDArray[Any], folds: Any) -> None:
        super()._solve(X, Y, folds)
        if self.renormalise and self._learned().any():
            self._stretch(X, Y, folds)
        centred = (X - X.mean(axis=0, dtype=np.float64)).astype(X.dtype, copy=False)
        self.solution_patterns_ = activation_patterns(centred, self.solution_coef_)

    def _stretch(self, X: NDArray[Any], Y: NDArray[Any], folds: Any) -> None:
        """Bring held-out predictions to the moments of the training targets, by weights and intercepts."""
        known = self._learned()
        alpha, options = self.solution_alphas_[known], {"standardize": self.standardize}
        if isinstance(folds, str):  # a closed form, which leaves out every sample in turn
            if self.standardize:
                raise ConfigError(
                    "Samples that are left out in turn have no closed form when each fold is standardized.",
                    expected="folds",
                    got=folds,
                    where="cv",
                    fix="cv=5, or renormalise=False",
                )
            predicted = ridge_loo(X, Y[:, known], alpha=alpha)
        else:
            held_out = []
            for train, test in folds:
                coef, intercept = ridge(X[train], Y[train][:, known], alpha=alpha, **options)
                held_out.append(X[test] @ coef + intercept)
            predicted = np.concatenate(held_out).astype(np.float64)
        mean, spread = Y.mean(axis=0, dtype=np.float64)[known], Y.std(axis=0, dtype=np.float64)[known]
        shrunk = predicted.std(axis=0)
        gain = np.where(shrunk > 0, spread / np.where(shrunk > 0, shrunk, 1.0), 1.0)
        self.solution_coef_[:, known] *= gain
        self.solution_intercept_[known] = (self.solution_intercept_[known] - predicted.mean(axis=0)) * gain + mean
