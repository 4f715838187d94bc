"""Segments of a temporal response function: checks, gaps between folds, and lagged sums that no fold tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroalign.errors import ConfigError, SchemaError
from neuroalign.solvers._arrays import Array, cast, from_numpy, is_torch, matrix, namespace, sum64, to_numpy
from neuroalign.solvers._folds import Fold
from neuroalign.solvers._lagged import LagSums, lag_sums, weighted_sum

__all__ = ["Segments", "check_lags", "check_runs", "check_segments", "constant", "make_segments"]


def check_lags(lags: ArrayLike) -> NDArray[np.intp]:
    """Lags as consecutive rising integers."""
    values = np.atleast_1d(np.asarray(list(lags) if isinstance(lags, range) else lags))
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu" or (np.diff(values) != 1).any():
        raise ConfigError(
            "lags must be consecutive rising integers, in samples.",
            expected="for example range(-3, 10)",
            got=values,
            where="lags",
        )
    return values.astype(np.intp)


def check_segments(X: Sequence[ArrayLike | Array], Y: Sequence[ArrayLike | Array]) -> tuple[list[Array], list[Array]]:
    """Features and targets as float tables of one backend that fit together."""
    for segments, name in ((X, "X"), (Y, "Y")):
        if not isinstance(segments, list | tuple) or not segments:
            raise SchemaError(
                f"{name} must be a list of segments.",
                expected="one (n_samples, n_columns) array for each segment",
                got=type(segments).__name__,
                where=name,
                fix=f"pass [{name}] for a single segment",
            )
    if len(X) != len(Y):
        raise SchemaError("X and Y differ in their number of segments.", expected=len(X), got=len(Y), where="Y")
    like = next((segment for segment in (*X, *Y) if is_torch(segment)), X[0])
    xs = [matrix(x, f"X[{i}]", like=like, finite=True) for i, x in enumerate(X)]
    ys = [matrix(y, f"Y[{i}]", like=like) for i, y in enumerate(Y)]
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        expected = ((len(x), xs[0].shape[1]), (len(x), ys[0].shape[1]))
        if (tuple(x.shape), tuple(y.shape)) != expected:
            raise SchemaError(
                "Segments do not fit together.",
                expected=f"X {expected[0]} and Y {expected[1]}",
                got=f"X {tuple(x.shape)} and Y {tuple(y.shape)}",
                where=f"segment {i}",
            )
    return xs, ys


def check_runs(runs: ArrayLike | None, n: int) -> NDArray[Any]:
    """Run of every segment; each its own by default."""
    every = np.arange(n)
    if runs is None:
        return every
    values = np.asarray(runs)
    if values.shape != every.shape:
        raise SchemaError("Not one run a segment.", expected=every.shape, got=values.shape, where="runs")
    return values


def constant(ys: Sequence[Array]) -> NDArray[np.bool_]:
    """Columns that hold one value in all tables; only those that look so at a few places are read as a whole."""
    first = ys[0][:1]
    few = np.all([to_numpy((y[:: max(1, len(y) // 3)] == first).all(axis=0)) for y in ys], axis=0)
    for column in np.flatnonzero(few).tolist():
        few[column] = all(bool((y[:, column] == first[0, column]).all()) for y in ys)
    return few


@dataclass(frozen=True)
class Segments:
    """Checked segments, in the precision of the caller, and their float64 sums over groups that no fold tells apart.

    xs, ys : features and targets, not centred.
    x_mean, y_mean : (F,) and (C,) what is subtracted when sums are made; zero without an intercept.
    bad, flat : (C,) targets with NaN or infinity (read as zeros), and constant ones.
    folds : the folds, whose training sides may name trimmed segments behind the `n` segments of the caller.
    group_of : (n_segments,) place of a segment in `groups`.
    """

    n: int
    xs: list[Array]
    ys: list[Array]
    runs: NDArray[Any]
    x_mean: Array
    y_mean: Array
    bad: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    lags: NDArray[np.intp]
    intercept: bool
    folds: list[Fold]
    groups: list[LagSums]
    group_of: NDArray[np.intp]

    def sums(self, segments: NDArray[np.intp]) -> LagSums:
        """Sums over segments; a segment may count more than once."""
        first = [int(np.flatnonzero(self.group_of == g)[0]) for g in range(len(self.groups))]
        counts = np.bincount(segments, minlength=len(self.xs))
        return weighted_sum(self.groups, counts[first].tolist())

    def whole(self) -> LagSums:
        """Sums over everything, with the segments of a run joined."""
        if len(np.unique(self.runs)) == self.n:
            return self.sums(np.arange(self.n))
        join = namespace(self.xs[0]).concatenate
        pieces = [np.flatnonzero(self.runs == run) for run in dict.fromkeys(self.runs.tolist())]
        joined = ([join([part[i] for i in piece], axis=0) for part in (self.xs, self.ys)] for piece in pieces)
        return lag_sums((self._centred(x, y) for x, y in joined), self.lags, -self.x_mean)

    def grouped(self) -> Segments:
        """With the sums of every group of segments."""
        real = np.arange(len(self.xs)) < self.n
        sides = [side for fold in self.folds for side in (fold.train, fold.test)]
        pattern = np.array([real, *(np.bincount(side, minlength=len(self.xs)) for side in sides)])
        unique, group_of = np.unique(pattern, axis=1, return_inverse=True)  # equal columns are never told apart
        members = [np.flatnonzero(group_of.ravel() == g) for g in range(unique.shape[1])]
        groups = [
            lag_sums((self._centred(self.xs[i], self.ys[i]) for i in group), self.lags, -self.x_mean)
            for group in members
        ]
        return replace(self, groups=groups, group_of=group_of.ravel())

    def _centred(self, x: Array, y: Array) -> tuple[Array, Array]:
        return cast(x, "float64") - self.x_mean, self.targets(y)

    def targets(self, y: Array) -> Array:
        """Targets of a segment about their mean, in float64."""
        y = cast(y, "float64") - self.y_mean
        if self.bad.any():
            y[:, from_numpy(np.flatnonzero(self.bad), y)] = 0.0
        return y


def make_segments(
    xs: list[Array],
    ys: list[Array],
    lags: NDArray[np.intp],
    folds: list[Fold],
    *,
    intercept: bool,
    runs: NDArray[Any],
    gap: int,
) -> Segments:
    """Find means and targets that cannot be scored, trim what is too close to a test segment, and sum."""
    n = sum(len(y) for y in ys)
    x_mean = sum((sum64(x) for x in xs[1:]), start=sum64(xs[0])) / n
    y_mean = sum((sum64(y) for y in ys[1:]), start=sum64(ys[0])) / n
    bad = ~np.isfinite(to_numpy(y_mean))
    flat = constant(ys)
    xp = namespace(y_mean)
    y_mean = xp.where(
        from_numpy(bad, y_mean), 0.0, xp.where(from_numpy(flat, y_mean), cast(ys[0][0], "float64"), y_mean)
    )
    if not intercept:
        x_mean, y_mean = x_mean * 0.0, y_mean * 0.0
    more_x, more_y, folds = _trim(xs, ys, folds, runs, gap)
    return Segments(
        len(xs),
        xs + more_x,
        ys + more_y,
        runs,
        x_mean,
        y_mean,
        bad,
        flat,
        lags,
        intercept,
        folds,
        [],
        np.empty(0, np.intp),
    ).grouped()


def _trim(
    xs: list[Array], ys: list[Array], folds: list[Fold], runs: NDArray[Any], gap: int
) -> tuple[list[Array], list[Array], list[Fold]]:
    """Shorter copies (views) of training segments that lie next to a test segment of their run, and folds of them."""
    if isinstance(gap, bool) or not isinstance(gap, int | np.integer) or gap < 0:
        raise ConfigError("gap is a number of samples.", expected="an integer >= 0", got=gap, where="gap")
    if gap == 0:
        return [], [], folds
    more: list[tuple[int, slice]] = []
    purged = []
    for number, fold in enumerate(folds):
        distance = _distances([len(x) for x in xs], fold.test, runs)
        train = []
        for i in fold.train.tolist():
            before, after = (max(0, gap - d) for d in distance[i])
            if before + after == 0:
                train.append(i)
            elif before + after < len(xs[i]):
                more.append((i, slice(before, len(xs[i]) - after)))
                train.append(len(xs) + len(more) - 1)
        if not train:
            raise ConfigError(
                "The gap leaves nothing to train on.",
                expected="training segments longer than the gap beside a test segment",
                got=f"gap={gap}, longest segment {max(len(xs[i]) for i in fold.train)} samples",
                where=f"folds[{number}]",
                fix="use fewer or shorter lags, a smaller gap, or longer segments",
            )
        purged.append(replace(fold, train=np.array(train, dtype=np.intp)))
    return [xs[i][part] for i, part in more], [ys[i][part] for i, part in more], purged


def _distances(lengths: list[int], test: NDArray[np.intp], runs: NDArray[Any]) -> list[tuple[int, int]]:
    """Samples between each segment and the nearest test segment of its run, before and after it."""
    far = 2 * sum(lengths) + 1
    tested = np.isin(np.arange(len(lengths)), test)
    out = np.full((len(lengths), 2), far)
    for side, order in ((0, range(len(lengths))), (1, reversed(range(len(lengths))))):
        since: dict[Any, int] = {}
        for i in order:
            run = runs[i]
            out[i, side] = since.get(run, far)
            since[run] = 0 if tested[i] else min(far, since.get(run, far) + lengths[i])
    return [(int(before), int(after)) for before, after in out]
