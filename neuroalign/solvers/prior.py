"""Ridge with a prior of the weights that was learned from other targets: few samples, in closed form.

For one target, ``y = X w + b + e`` with ``e ~ N(0, s2 I)`` and ``w ~ N(m mu, s2 / alpha * S)``: the posterior mean is
generalised ridge, shrunk towards ``m mu`` in the metric of ``S``. Here ``S = rho Sigma + (1 - rho) I`` (both brought to
the same size), so that ``rho = m = 0`` is ordinary ridge and a large alpha is the prior mean alone. With a flat prior
of ``b`` and ``1 / s2`` of ``s2``, contrasts ``r`` of the n - 1 directions that sum to zero have the evidence
``|V|^-1/2 (r' V^-1 r)^-(n-1)/2``, with ``V = X S X' / alpha + I``. A mixture over a grid of ``(m, rho, alpha)`` is
fitted to the evidence of all targets by expectation maximisation, and weights are averaged over its posterior: what
many targets say about the prior is pooled, and a prior that does not help gets no weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import SchemaError
from neuroalign.metrics import r2_score
from neuroalign.solvers._arrays import matrix

__all__ = ["PriorRidgeResult", "WeightPrior", "prior_ridge", "weight_prior"]

Floats = NDArray[np.float64]

ALPHAS = np.r_[np.logspace(-3, 3, 13), 1e8]  # noise to signal; the last leaves the prior mean alone
TRUST = (0.0, 0.5, 0.9, 1.0)  # rho: how far the learned covariance replaces that of ordinary ridge
PULL = (0.0, 0.5, 1.0)  # m: how much of the learned mean is expected
_STEPS = 100
_DOUBT = 5.0  # the mixture before any target is seen counts as much as so many targets
_TILE = 1024


@dataclass(frozen=True)
class WeightPrior:
    """Mean and covariance of the weights of a target: ``basis diag(spectrum) basis' + diagonal I``.

    Attributes
    ----------
    mean : ndarray, shape (n_features,)
        Mean weights.
    basis : ndarray, shape (n_features, rank)
        Orthonormal directions.
    spectrum : ndarray, shape (rank,)
        Variance along them, above `diagonal`.
    diagonal : float
        Variance in every direction.
    """

    mean: Floats
    basis: Floats
    spectrum: Floats
    diagonal: float

    def times(self, values: Floats) -> Floats:
        """Covariance times (n_features, k)."""
        low: Floats = self.basis @ (self.spectrum[:, None] * (self.basis.T @ values))
        return low + self.diagonal * values


def weight_prior(coef: ArrayLike) -> WeightPrior:
    """Learn mean and covariance of weights from those of other targets.

    Parameters
    ----------
    coef : array-like, shape (n_features, n_targets)
        Weights of other targets, two or more, finite.

    Returns
    -------
    WeightPrior
        Mean over targets, and their covariance shrunk towards a multiple of the identity.

    Raises
    ------
    SchemaError
        If there are fewer than two targets or weights are not finite.

    References
    ----------
    Ledoit, O. and Wolf, M. (2004). A well-conditioned estimator for large-dimensional covariance matrices. J.
    Multivar. Anal. 88, 365-411.

    Examples
    --------
    >>> prior = weight_prior([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]])
    >>> prior.mean
    array([2., 0.])
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    table = np.asarray(matrix(coef, "coef", finite=True), dtype=np.float64)
    if table.shape[1] < 2:
        raise SchemaError(
            "One target says nothing about others.", expected=">= 2 targets", got=table.shape, where="coef"
        )
    mean = table.mean(axis=1)
    centred = table - mean[:, None]
    size = float(np.abs(centred).max()) or 1.0
    basis, singular, _ = np.linalg.svd(centred / size, full_matrices=False)
    values = np.square(singular) / table.shape[1]
    total = float(values.sum()) / len(table)
    share = float(ledoit_wolf_shrinkage(centred.T / size, assume_centered=True)) if total > 0 else 1.0
    keep = values > np.finfo(np.float64).eps * values[0] * len(table)
    spectrum = (1 - share) * values[keep] * size**2
    return WeightPrior(mean, basis[:, keep], spectrum, share * total * size**2)


@dataclass(frozen=True)
class PriorRidgeResult:
    """Posterior mean weights under a learned prior.

    Attributes
    ----------
    coef : ndarray, shape (n_features, n_targets)
        Weights; zero for constant targets.
    intercept : ndarray, shape (n_targets,)
        Offsets.
    alphas : ndarray, shape (n_targets,)
        Geometric posterior mean of the noise-to-signal ratio; NaN for constant targets.
    trust, pull : ndarray, shape (n_targets,)
        Posterior mean of rho, how far the learned covariance is used (0: ordinary ridge), and of m, how much of the
        learned mean is; NaN for constant targets.
    loo_scores : ndarray, shape (n_targets,)
        Leave-one-out R2 under the posterior of the hyperparameters of all samples.
    """

    coef: Floats
    intercept: Floats
    alphas: Floats
    trust: Floats
    pull: Floats
    loo_scores: Floats


def prior_ridge(X: ArrayLike, Y: ArrayLike, *, prior: WeightPrior | None) -> PriorRidgeResult:
    """Ridge regression from few samples with a prior that was learned elsewhere.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        Features, finite, at least two samples.
    Y : array-like, shape (n_samples, n_targets)
        Targets, finite, in the units of the targets that the prior is from.
    prior : WeightPrior or None
        From `weight_prior`. None is ordinary ridge with a strength chosen by evidence.

    Returns
    -------
    PriorRidgeResult
        Posterior means.

    Raises
    ------
    SchemaError
        If shapes do not match or values are not finite.

    References
    ----------
    Bishop, C. M. (2006). Pattern Recognition and Machine Learning, sections 3.3 to 3.5. MacKay, D. J. C. (1992).
    Bayesian interpolation. Neural Comput. 4, 415-447.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pattern = rng.standard_normal((50, 1))
    >>> prior = weight_prior(pattern + 0.1 * rng.standard_normal((50, 100)))
    >>> X, new = rng.standard_normal((10, 50)), rng.standard_normal((200, 50))
    >>> result = prior_ridge(X, X @ pattern, prior=prior)
    >>> bool(np.corrcoef(new @ result.coef[:, 0], new @ pattern[:, 0])[0, 1] > 0.95)
    True
    """
    x = np.asarray(matrix(X, "X", finite=True), dtype=np.float64)
    y = np.asarray(matrix(Y, "Y", finite=True), dtype=np.float64)
    if len(x) != len(y) or len(x) < 2:
        raise SchemaError("X and Y need the same two or more samples.", expected=len(x), got=len(y), where="Y")
    if prior is not None and prior.mean.size != x.shape[1]:
        raise SchemaError("The prior is of other features.", expected=prior.mean.size, got=x.shape[1], where="X")
    model = _Model(x, prior)
    flat = (y == y[:1]).all(axis=0)
    unit = np.where(flat, 1.0, np.abs(y - y.mean(axis=0)).max(axis=0))
    scaled = (y - y.mean(axis=0)) / unit
    evidence = np.concatenate([model.evidence(scaled[:, part], unit[part]) for part in _parts(y.shape[1])], axis=1)
    posterior = _posterior(evidence[:, ~flat], (model.trust == 0) & (model.pull == 0))
    coef, loo = np.zeros((x.shape[1], y.shape[1])), np.full(y.shape[1], np.nan)
    for part in _parts(int((~flat).sum())):
        at = np.flatnonzero(~flat)[part]
        own, residual = model.average(scaled[:, at], unit[at], posterior[:, part])
        coef[:, at], loo[at] = own * unit[at], r2_score(scaled[:, at], scaled[:, at] - residual)
    alphas, trust, pull = (np.full(y.shape[1], np.nan) for _ in range(3))
    alphas[~flat] = np.exp(model.log_alpha @ posterior)
    trust[~flat], pull[~flat] = model.trust @ posterior, model.pull @ posterior
    return PriorRidgeResult(coef, y.mean(axis=0) - x.mean(axis=0) @ coef, alphas, trust, pull, loo)


class _Model:
    """All hypotheses (m, rho, alpha) about some samples; each rho costs one eigendecomposition of n - 1 contrasts."""

    def __init__(self, x: Floats, prior: WeightPrior | None) -> None:
        size = float(np.abs(x - x.mean(axis=0)).max()) or 1.0
        self._x, self._prior, self._size = (x - x.mean(axis=0)) / size, prior, size
        self._contrasts = scipy.linalg.helmert(len(x)).T  # (n, n - 1), orthonormal, each sums to zero
        turned = self._contrasts.T @ self._x
        self._mean = np.zeros(len(x)) if prior is None else self._x @ prior.mean * size
        plain = turned @ turned.T
        learned = plain if prior is None else turned @ prior.times(turned.T)
        self._units = _mean_diagonal(plain), _mean_diagonal(learned)
        self._trusts = TRUST if prior is not None and self._units[1] > 0 else TRUST[:1]
        self._pulls = PULL if prior is not None and self._mean.any() else PULL[:1]
        self._bases = []
        for rho in self._trusts:
            gram = (1 - rho) * plain / (self._units[0] or 1.0) + rho * learned / (self._units[1] or 1.0)
            values, vectors = np.linalg.eigh(gram)
            self._bases.append((np.maximum(values, 0.0), self._contrasts @ vectors))
        grid = [(rho, m, a) for rho in self._trusts for m in self._pulls for a in ALPHAS]
        self.trust, self.pull = np.array([g[0] for g in grid]), np.array([g[1] for g in grid])
        self.log_alpha = np.log([g[2] for g in grid])

    def evidence(self, y: Floats, unit: Floats) -> Floats:
        """Log evidence of every hypothesis, (n_hypotheses, t), up to a constant of the target."""
        out = []
        for values, vectors in self._bases:
            inverse = ALPHAS[:, None] / (values + ALPHAS[:, None])  # (alpha, n - 1), eigenvalues of V^-1
            for m in self._pulls:
                rotated = vectors.T @ (y - m * self._mean[:, None] / unit)
                square = inverse @ np.square(rotated)
                square = np.maximum(square, np.finfo(np.float64).tiny)
                out.append(0.5 * np.log(inverse).sum(axis=1)[:, None] - 0.5 * len(values) * np.log(square))
        return np.concatenate(out)

    def average(self, y: Floats, unit: Floats, posterior: Floats) -> tuple[Floats, Floats]:
        """Posterior mean weights (p, t), and leave-one-out residuals (n, t), of scaled targets."""
        shape = (len(self._trusts), len(self._pulls), ALPHAS.size, y.shape[1])
        shares = posterior.reshape(shape)
        coef, left_out = np.zeros((self._x.shape[1], y.shape[1])), np.zeros_like(y)
        for i, (rho, (values, vectors)) in enumerate(zip(self._trusts, self._bases, strict=True)):
            inverse = ALPHAS[:, None] / (values + ALPHAS[:, None])
            diagonal = inverse @ np.square(vectors).T  # (alpha, n), of V^-1 in the space of contrasts
            dual = np.zeros_like(y)
            for k, m in enumerate(self._pulls):
                rotated = vectors.T @ (y - m * self._mean[:, None] / unit)
                dual += vectors @ ((inverse / ALPHAS[:, None]).T @ shares[i, k] * rotated)
                for a in range(ALPHAS.size):
                    left_out += shares[i, k, a] * (vectors @ (inverse[a][:, None] * rotated)) / diagonal[a][:, None]
            back = self._x.T @ dual
            coef += (1 - rho) / (self._units[0] or 1.0) * back
            if self._prior is not None and rho > 0:
                coef += rho / self._units[1] * self._prior.times(back)
        coef /= self._size
        if self._prior is not None:
            pulled = np.einsum("rmat,m->t", shares, np.array(self._pulls))
            coef += self._prior.mean[:, None] * (pulled / unit)
        return coef, left_out


def _posterior(evidence: Floats, plain: NDArray[np.bool_]) -> Floats:
    """Posterior of the hypotheses for every target (n_hypotheses, t), under a mixture fitted to all targets.

    Before any target is seen, ordinary ridge (`plain`) has half of the mixture.
    """
    start = np.where(plain, 0.5 / max(1, plain.sum()), 0.5 / max(1, (~plain).sum()))
    start /= start.sum()
    weights, posterior = start, np.broadcast_to(start[:, None], evidence.shape)
    for _ in range(_STEPS):
        posterior = scipy.special.softmax(evidence + np.log(weights)[:, None], axis=0)
        after = (posterior.sum(axis=1) + _DOUBT * start) / (evidence.shape[1] + _DOUBT)
        done = np.abs(after - weights).max() < 1e-6
        weights = after
        if done:
            break
    return posterior


def _mean_diagonal(gram: Floats) -> float:
    return float(np.trace(gram) / len(gram))


def _parts(t: int) -> list[slice]:
    return [slice(lo, lo + _TILE) for lo in range(0, t, _TILE)]
