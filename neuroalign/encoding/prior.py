"""Few-shot ridge encoding: weights of other subjects as the prior."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from neuroalign.encoding.ridge import RidgeEncoder
from neuroalign.errors import AlignmentError, SchemaError, warns_once
from neuroalign.linear import RidgeModel
from neuroalign.protocol import Labels, Samples, check_shape
from neuroalign.solvers.prior import ALPHAS, WeightPrior, prior_ridge, weight_prior

_PRIOR = frozenset({"prior_labels_", "prior_mean_", "prior_basis_", "prior_spectrum_", "prior_diagonal_"})


class PriorRidgeEncoder(RidgeModel):
    """Predict brain responses from few samples, with weights of other subjects as the prior.

    `fit_prior` learns mean and covariance of the weights from the targets of other subjects; `fit` then gives the
    posterior mean of the weights of new targets. How far the prior is trusted, and the noise, come from the evidence
    of all targets together, and ordinary ridge is among the hypotheses: a prior that does not fit gets no weight.
    Without `fit_prior` the model is ordinary ridge of a strength chosen by evidence.

    Parameters
    ----------
    cv : int, str, splitter or list of (train, test), optional
        Inner folds of the ridge models of the other subjects, as in `RidgeEncoder`. `fit` needs no folds.
    scorer : {'r2', 'r', 'ev'} or callable
        Chooses the penalties of the other subjects, and is what `score` reports.
    nan : {'mask', 'raise'}
        Targets that are not finite get NaN scores and a warning, or are refused.
    unlabelled : {'refuse', 'allow'}
        What to do when only one of X and y carries labels.

    Attributes
    ----------
    coef_ : DataArray or ndarray
        Posterior mean weights, (*feature dims, *target dims).
    intercept_ : DataArray or ndarray
        One value a target.
    alphas_ : DataArray or ndarray
        Noise-to-signal ratio of every target: noise variance over the mean prior variance that the samples show.
    trust_, pull_ : DataArray or ndarray
        How far the covariance and the mean of the other subjects are used, 0 (not at all) to 1, for every target.
    cv_scores_ : DataArray or ndarray
        Leave-one-out R2 of every target, at hyperparameters that all samples chose.

    Notes
    -----
    ``w ~ N(m mu, s2 / alpha (rho Sigma + (1 - rho) I))``, with ``mu`` the mean and ``Sigma`` the Ledoit-Wolf
    covariance (low rank plus diagonal) of the other subjects' weights. The posterior mean given ``m``, ``rho`` and
    ``alpha`` is generalised ridge (Bishop, 2006, equation 3.53). The intercept has a flat prior and the noise variance
    the prior ``1 / s2``; both are integrated out. A mixture over a grid of ``(m, rho, alpha)`` is fitted to the
    evidence of all targets by expectation maximisation (empirical Bayes), and weights are averaged over its posterior.

    References
    ----------
    Bishop, C. M. (2006). Pattern Recognition and Machine Learning. Springer, chapter 3. Ledoit, O. and Wolf, M. (2004).
    A well-conditioned estimator for large-dimensional covariance matrices. J. Multivar. Anal. 88, 365-411.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> patterns = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 80))  # weights of 80 voxels of two kinds
    >>> X_others = rng.normal(size=(200, 30))
    >>> Y_others = X_others @ patterns[:, :70] + rng.normal(size=(200, 70))
    >>> encoder = PriorRidgeEncoder().fit_prior(X_others, Y_others)
    >>> X = rng.normal(size=(110, 30))
    >>> y = X @ patterns[:, 70:] + rng.normal(size=(110, 10))
    >>> encoder.fit(X[:10], y[:10]).score(X[10:], y[10:]) > 0.5
    True
    """

    alphas = None
    alpha_per_target = False  # the mixture is fitted to all targets together
    fit_intercept = True

    def __init__(self, *, cv: Any = None, scorer: Any = "r2", nan: str = "mask", unlabelled: str = "refuse") -> None:
        self.cv = cv
        self.scorer = scorer
        self.nan = nan
        self.unlabelled = unlabelled

    @warns_once
    def fit_prior(self, X: Any, y: Any, groups: ArrayLike | None = None) -> Self:
        """Learn the prior from other subjects.

        Parameters
        ----------
        X : DataArray or array, shape (n_samples, n_features)
            Features of the samples that the others saw; the same features as in `fit`.
        y : DataArray or array, shape (n_samples, n_targets)
            Responses of the others in the units of those in `fit`, the subjects side by side along the targets.
        groups : array_like, shape (n_samples,), optional
            Groups that the inner folds keep together.

        Returns
        -------
        self
            With a prior, which `sklearn.base.clone` keeps.

        Raises
        ------
        SchemaError
            If fewer than two targets can be learned.
        """
        model = RidgeEncoder(cv=self.cv, scorer=self.scorer, nan=self.nan, unlabelled=self.unlabelled)
        return self.use_prior(model.fit(X, y, groups))

    def use_prior(self, others: Any) -> Self:
        """Take the prior from weights that were fitted before.

        Parameters
        ----------
        others : fitted encoder or array, shape (n_features, n_targets)
            A `RidgeEncoder` or `BandedRidgeEncoder` of other subjects, or weights of their targets. Weights that are
            not finite are left out.

        Returns
        -------
        self
            With a prior, which `sklearn.base.clone` keeps.

        Raises
        ------
        SchemaError
            If fewer than two targets have finite weights, or a DataArray is given in place of an encoder.
        """
        if isinstance(others, xr.DataArray):
            raise SchemaError(
                "Labelled weights do not say which dimensions are features.",
                expected="a fitted encoder, or an array (n_features, n_targets)",
                got=f"DataArray with dims {others.dims}",
                fix="pass the encoder itself, or coef.values of two dimensions",
            )
        known = hasattr(others, "solution_coef_")
        coef = np.asarray(others.solution_coef_ if known else others, dtype=np.float64)
        if coef.ndim != 2:
            raise SchemaError("Weights must be a table.", expected="(n_features, n_targets)", got=coef.shape)
        prior = weight_prior(coef[:, np.isfinite(coef).all(axis=0)])
        self.prior_labels_ = others.feature_labels_ if known else Labels.plain((len(coef),), "unit")
        self.prior_mean_, self.prior_basis_ = prior.mean, prior.basis
        self.prior_spectrum_, self.prior_diagonal_ = prior.spectrum, float(prior.diagonal)
        return self

    @property
    def trust_(self) -> Any:
        """How far the covariance of the other subjects is used, 0 to 1, for every target."""
        return self._per_target(self.solution_trust_, units="1")

    @property
    def pull_(self) -> Any:
        """How far the mean of the other subjects is used, 0 to 1, for every target."""
        return self._per_target(self.solution_pull_, units="1")

    def __sklearn_clone__(self) -> PriorRidgeEncoder:
        """Give an unfitted copy that keeps the prior, so that it can be cross-validated."""
        copy = type(self)(**{k: clone(v, safe=False) for k, v in self.get_params(deep=False).items()})
        for name in _PRIOR & vars(self).keys():
            setattr(copy, name, getattr(self, name))
        return copy

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` was called; a prior alone is not a model."""
        return hasattr(self, "solution_coef_")

    _state_names = RidgeModel._state_names | {"solution_trust_", "solution_pull_"} | _PRIOR

    def _check_state(self) -> None:
        super()._check_state()
        for name in ("solution_trust_", "solution_pull_"):
            check_shape(self, name, self.solution_alphas_.shape)
        present = _PRIOR & vars(self).keys()
        if present and present != _PRIOR:
            raise ValueError(f"a prior without {sorted(_PRIOR - present)}")
        if present:
            p, rank = self.n_features_in_, np.size(self.prior_spectrum_)
            for name, shape in (("mean", (p,)), ("basis", (p, rank)), ("spectrum", (rank,))):
                check_shape(self, f"prior_{name}_", shape)
            if not isinstance(self.prior_labels_, Labels) or not self.prior_diagonal_ >= 0:
                raise ValueError("prior_labels_ or prior_diagonal_ is not valid")

    def _prior(self) -> WeightPrior | None:
        if not hasattr(self, "prior_mean_"):
            return None
        if self.labelled_ and self.prior_labels_.coords:
            self.prior_labels_.check_same(self.feature_labels_, "The features of X")
        if self.prior_mean_.size != self.n_features_in_:
            raise AlignmentError(
                "X has other features than those of the prior.",
                expected=f"{self.prior_mean_.size} features",
                got=f"{self.n_features_in_} features",
                fix="learn the prior from the same features, in the same order",
            )
        return WeightPrior(self.prior_mean_, self.prior_basis_, self.prior_spectrum_, self.prior_diagonal_)

    def _fit(self, X: NDArray[Any], Y: NDArray[Any], samples: Samples, groups: ArrayLike | None) -> None:
        result = prior_ridge(X, Y, prior=self._prior())
        self.solution_coef_ = result.coef.astype(np.result_type(X, Y))
        # Features may be far from zero: what rounding the weights moves, the intercept takes back.
        moved = X.mean(axis=0, dtype=np.float64) @ (result.coef - self.solution_coef_)
        self.solution_intercept_ = result.intercept + moved
        self.solution_alphas_, self.solution_scores_ = result.alphas, result.loo_scores
        self.solution_trust_, self.solution_pull_ = result.trust, result.pull
        known = result.alphas[np.isfinite(result.alphas)]
        edges = [(known <= ALPHAS[0]).mean(), (known >= ALPHAS[-2]).mean()] if known.size else [0.0, 0.0]
        self.alpha_edges_ = [float(edge) for edge in edges]
