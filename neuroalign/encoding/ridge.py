"""Ridge encoding models."""

from __future__ import annotations

from neuroalign.linear import RidgeModel


class RidgeEncoder(RidgeModel):
    """Predict brain responses from stimulus features by ridge regression.

    The penalty of every target is chosen by inner folds; features and targets are centred within each training set.

    Parameters
    ----------
    alphas : array_like, optional
        Grid of penalties on ``X'X`` of the centred features, as in scikit-learn. By default a wide grid scaled by the
        mean eigenvalue of ``X'X``.
    cv : int, str, splitter or list of (train, test), optional
        Inner folds. A name is a coordinate of `X` whose values are left out one by one, such as ``"run"``; ``"loo"``
        and ``"gcv"`` are leave-one-out and generalised cross-validation in closed form, for independent samples. By
        default stimuli stay together where they repeat, else runs, else contiguous blocks.
    scorer : {'r2', 'r', 'ev'} or callable
        Chooses the penalty and is what `score` reports.
    alpha_per_target : bool or 'pooled'
        Choose a penalty for every target, or one for all; ``"pooled"`` draws every target towards all of them, and
        keeps what repeats over the folds, which is safer with few samples.
    fit_intercept : bool
        Learn an intercept.
    standardize : bool
        Divide features by their standard deviations, those of the training samples within each inner fold, so that the
        penalty does not depend on their units. Weights are those of the features as given.
    nan : {'mask', 'raise'}
        Targets that are not finite get NaN scores and a warning, or are refused.
    unlabelled : {'refuse', 'allow'}
        What to do when only one of X and y carries labels.

    Attributes
    ----------
    coef_ : DataArray or ndarray
        Weights, (*feature dims, *target dims).
    intercept_, alphas_, cv_scores_ : DataArray or ndarray
        One value a target.
    alpha_edges_ : list of float
        Share of targets at the smallest and at the largest penalty of the grid.

    References
    ----------
    Hoerl, A. E. and Kennard, R. W. (1970). Ridge regression: biased estimation for nonorthogonal problems.
    Technometrics 12, 55-67.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"image-{n}" for n in range(60)]
    >>> X = xr.DataArray(rng.normal(size=(60, 5)), dims=("stimulus", "unit"), coords={"stimulus": ids})
    >>> noise = rng.normal(size=(60, 2))
    >>> y = xr.DataArray(X.values[:, :2] + 0.1 * noise, dims=("stimulus", "voxel"), coords={"stimulus": ids})
    >>> encoder = RidgeEncoder().fit(X[:40], y[:40])
    >>> encoder.score_map(X[40:], y[40:]).round(1).values
    array([1., 1.])
    """
