"""Ridge decoding models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.decoding.patterns import activation_patterns, decoded_power, decoded_root, patterns_from_power
from neuroalign.errors import ConfigError
from neuroalign.linear import RidgeModel
from neuroalign.linear._chunked import RidgeChunks
from neuroalign.protocol import Labels, Samples, check_shape
from neuroalign.solvers import RidgePlan, ridge_loo, ridge_plan, ridge_refit


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
    _block_state = RidgeModel._block_state | {"solution_patterns_"}

    def _stored(self) -> dict[str, tuple[str, Labels]]:
        return super()._stored() | {"patterns": ("solution_patterns_", self.feature_labels_)}

    def _check_state(self) -> None:
        super()._check_state()
        check_shape(self, "solution_patterns_", self.solution_coef_.shape, finite=self._learned())

    def _solve(self, X: NDArray[Any], Y: NDArray[Any], folds: Any) -> None:
        super()._solve(X, Y, folds)
        if self.renormalise and self._learned().any():
            self._stretch(Y, self._held_out(X, folds, str(np.result_type(X, Y))))
        centred = (X - X.mean(axis=0, dtype=np.float64)).astype(X.dtype, copy=False)
        self.solution_patterns_ = activation_patterns(centred, self.solution_coef_)

    def _plan_chunks(self, X: NDArray[Any], samples: Samples, groups: ArrayLike | None, dtype: str) -> DecoderChunks:
        shared = self._ridge_chunks(X, samples, groups, dtype)
        held_out = self._held_out(X, self._folds(X, samples, groups), dtype) if self.renormalise else []
        root = decoded_root(np.asarray(X, np.float64) - X.mean(axis=0, dtype=np.float64))
        return DecoderChunks(shared.plan, shared.shared, held_out=held_out, root=root)

    def _held_out(self, X: NDArray[Any], folds: Any, dtype: str) -> list[HeldOut | EachLeftOut]:
        """What predictions of held-out samples need of the responses, for each fold or a closed form."""
        if isinstance(folds, str):  # a closed form, which leaves out every sample in turn
            if self.standardize:
                raise ConfigError(
                    "Samples that are left out in turn have no closed form when each fold is standardized.",
                    expected="folds",
                    got=folds,
                    where="cv",
                    fix="cv=5, or renormalise=False",
                )
            return [EachLeftOut(X)]
        options: dict[str, Any] = {"folds": None, "standardize": self.standardize, "dtype": dtype}
        return [HeldOut(ridge_plan(X[train], alphas=[1.0], **options), train, X[test]) for train, test in folds]

    def _stretch(self, Y: NDArray[Any], held_out: list[HeldOut | EachLeftOut]) -> None:
        """Bring held-out predictions to the moments of the training targets, by weights and intercepts."""
        known = self._learned()
        predicted = np.concatenate([fold.predict(Y[:, known], self.solution_alphas_[known]) for fold in held_out])
        predicted = predicted.astype(np.float64)
        mean, spread = Y.mean(axis=0, dtype=np.float64)[known], Y.std(axis=0, dtype=np.float64)[known]
        shrunk = predicted.std(axis=0)
        gain = np.where(shrunk > 0, spread / np.where(shrunk > 0, shrunk, 1.0), 1.0)
        self.solution_coef_[:, known] *= gain
        self.solution_intercept_[known] = (self.solution_intercept_[known] - predicted.mean(axis=0)) * gain + mean


@dataclass(frozen=True)
class HeldOut:
    """One fold: the eigenbasis of its training rows, these rows, and the responses of its test rows."""

    plan: RidgePlan
    train: NDArray[np.intp]
    x: NDArray[Any]

    def predict(self, Y: NDArray[Any], alphas: NDArray[np.float64]) -> NDArray[Any]:
        """Predictions of the test rows, (n_test, t)."""
        coef, intercept = ridge_refit(self.plan, Y[self.train], alphas)
        return np.asarray(self.x @ coef + intercept)


@dataclass(frozen=True)
class EachLeftOut:
    """Every sample in turn, in closed form."""

    x: NDArray[Any]

    def predict(self, Y: NDArray[Any], alphas: NDArray[np.float64]) -> NDArray[Any]:
        """Predictions of all rows, (n, t)."""
        return np.asarray(ridge_loo(self.x, Y, alpha=alphas))


@dataclass(frozen=True)
class DecoderChunks(RidgeChunks):
    """The plan of a decoder: what it decodes is stretched block by block, patterns follow when all weights are known.

    Attributes
    ----------
    held_out : list of HeldOut or EachLeftOut
        Folds of the stretch; empty without.
    root : ndarray
        From `decoded_root`.
    power : ndarray, optional
        From `decoded_power`, of all outputs.
    """

    held_out: list[HeldOut | EachLeftOut] = field(default_factory=list)
    root: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    power: NDArray[np.float64] | None = None
    later: ClassVar[tuple[str, ...]] = ("patterns",)

    def _kept(self, model: Any, Y: NDArray[Any], result: Any) -> Any:
        fitted = super()._kept(model, Y, result)
        if self.held_out and fitted._learned().any():
            fitted._stretch(Y, self.held_out)
        fitted.solution_patterns_ = np.full_like(fitted.solution_coef_, np.nan)  # not known yet
        return fitted

    def gather(self, coefs: Iterable[NDArray[Any]]) -> DecoderChunks:
        """Give the plan with what patterns need of the weights of all outputs."""
        power = np.zeros((len(self.root), len(self.root)))
        for coef in coefs:
            power += decoded_power(self.root, coef.reshape(self.root.shape[1], -1))
        return replace(self, power=power)

    def finish(self, coef: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Patterns of a block."""
        if self.power is None:
            raise RuntimeError("finish comes after gather")
        flat = coef.reshape(self.root.shape[1], -1)
        return {"patterns": patterns_from_power(self.root, self.power, flat).astype(coef.dtype)}
