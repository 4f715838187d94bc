"""Cluster-based permutation tests over time, over space, and over both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components

from neuroalign.compute import progress
from neuroalign.errors import ConfigError, SchemaError
from neuroalign.evaluation._targets import matched
from neuroalign.evaluation.adjacency import joint_adjacency
from neuroalign.schema import TRAVELLING, inherit, stamp

__all__ = ["cluster_test"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Statistics of permuted maps are computed together up to this size, bytes.
BATCH_BYTES = 2**26
TAILS = {"greater": 1, "less": -1, "both": 0}


def cluster_test(
    scores: Any,
    *,
    null: xr.DataArray | None = None,
    over: str = "subject",
    chance: float = 0.0,
    adjacency: Any = None,
    threshold: float | str | None = None,
    tail: str = "greater",
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Find clusters of neighbouring times and sites whose scores are together above chance.

    Either `scores` are maps of several subjects: the statistic is Student's t against chance, and the signs of whole
    maps are turned. Or it is one map with maps of permuted data (`null`): the statistic is the score less the mean of
    all maps, in standard deviations over all maps (the observed one included, which keeps the test exact).

    Parameters
    ----------
    scores : DataArray, Dataset or Result
        Maps of dims (subject, ...), or one map. Of a Dataset, ``score`` and ``null`` are taken.
    null : DataArray, optional
        Maps of permuted data, dims (permutation, ...), as ``cross_validate(..., keep_null=True)`` gives them.
    over : str, default "subject"
        The dimension of the subjects.
    chance : float, default 0
        What the scores of subjects are compared with.
    adjacency : sparse matrix, str or mapping of dimension to these, optional
        Neighbours along the dimensions of the map; a single one means the dimension that is not time. What is not
        given is found by `evaluation.adjacency`: order for time, a triangulation for channels, the grid for voxels.
    threshold : float or "tfce", optional
        The least statistic that starts a cluster; by default that of p = 0.05 at a single point. ``"tfce"``:
        threshold-free cluster enhancement (extent ** 0.5 * height ** 2, in steps of 0.2), one p a point.
    tail : {"greater", "less", "both"}, default "greater"
        On which side of chance to look; clusters never join both sides.
    n_permutations : int, default 1000
        Number of random turns; where the subjects allow no more different ones, each of them is taken once.
    random_state : int or numpy.random.Generator, optional
        Seeds the turns.

    Returns
    -------
    Dataset
        ``statistic``, ``cluster`` (the number of the cluster of each point, 0 outside, the heaviest is 1), ``p`` of the
        point's cluster (1 outside; NaN where there is no statistic), ``cluster_p``, ``cluster_mass`` and
        ``cluster_size`` (cluster), and ``null_max`` (permutation). With TFCE ``enhanced`` instead of clusters.

    Raises
    ------
    SchemaError
        If there are fewer than two subjects, or no maps to compare with.
    ConfigError
        If an argument is not known, or neighbours cannot be told.

    Notes
    -----
    p = (b + 1) / (m + 1), where b of m maps hold a cluster at least as heavy. It is a p of clusters: that a point lies
    in one that is significant does not make the point significant, nor say where the effect begins and ends.

    References
    ----------
    Maris, E. & Oostenveld, R. (2007). Nonparametric statistical testing of EEG- and MEG-data. J. Neurosci. Methods 164.
    Smith, S. & Nichols, T. (2009). Threshold-free cluster enhancement. NeuroImage 44, 83-98.
    Sassenhagen, J. & Draschkow, D. (2019). Cluster-based permutation tests of MEG/EEG data do not establish
    significance of effect latency or location. Psychophysiology 56, e13335.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> maps = rng.standard_normal((12, 50))
    >>> maps[:, 20:30] += 1.5
    >>> found = cluster_test(xr.DataArray(maps, dims=("subject", "time")), random_state=0)
    >>> bool(found.cluster_p[0] < 0.01), int(found.cluster[25])
    (True, 1)
    """
    if tail not in TAILS:
        raise ConfigError("Unknown tail.", expected=sorted(TAILS), got=tail, where="tail")
    data, null = _inputs(scores, null, over)
    maps = _turned(data, over, chance, n_permutations, random_state) if null is None else _permuted(data, null)
    graph = joint_adjacency(maps.like, [str(dim) for dim in maps.like.dims], adjacency)
    finder = _finder(threshold, maps, graph, TAILS[tail])
    out = finder.table(maps)
    attrs = {key: data.attrs[key] for key in TRAVELLING if key in data.attrs and key != "units"}
    out = out.assign_attrs(attrs, tail=tail, threshold=finder.label, n_permutations=maps.n)
    return stamp(inherit(out, data), "cluster_test", tail=tail, threshold=finder.label, n_permutations=maps.n)


@dataclass(frozen=True)
class _Maps:
    """The observed statistic (p,), those of permuted data one by one, and the labels; NaN are zero and not usable."""

    observed: Array
    permuted: Any
    n: int
    usable: NDArray[np.bool_]
    like: xr.DataArray
    critical: Any  # p at a single point, one tail -> statistic

    def wrap(self, values: Any) -> xr.DataArray:
        return xr.DataArray(np.asarray(values).reshape(self.like.shape), dims=self.like.dims, coords=self.like.coords)


def _inputs(scores: Any, null: Any, over: str) -> tuple[xr.DataArray, xr.DataArray | None]:
    data = getattr(scores, "data", scores) if not isinstance(scores, xr.DataArray) else scores
    if isinstance(data, xr.Dataset):
        if "score" not in data:
            raise SchemaError("There are no scores.", expected="a variable 'score'", got=list(data.data_vars))
        null = data["null"] if null is None and "null" in data else null
        data = data["score"].assign_attrs({k: v for k, v in data.attrs.items() if k in TRAVELLING and k != "units"})
    if not isinstance(data, xr.DataArray):
        raise SchemaError("Clusters need labels.", expected="a DataArray or a Result", got=type(data).__name__)
    if (null is None) == (over not in data.dims):
        raise SchemaError(
            "There is nothing to compare the scores with." if null is None else "Subjects or permutations?",
            expected=f"maps with a dimension {over!r}, or one map and permuted ones",
            got=f"dims {data.dims}" + ("" if null is None else f" and null {null.dims}"),
            fix="over= names the dimension of the subjects; cross_validate(..., keep_null=True) keeps permuted maps",
        )
    return data, null


def _turned(data: xr.DataArray, over: str, chance: float, n: int, random_state: Any) -> _Maps:
    data = data.transpose(over, ...)
    n_subjects = data.sizes[over]
    if n_subjects < 2:
        raise SchemaError("One subject has no variance.", expected=f">= 2 along {over}", got=n_subjects)
    values = data.values.reshape(n_subjects, -1).astype(np.float64) - chance
    usable = np.isfinite(values).all(axis=0) & (values != values[:1]).any(axis=0)
    values = np.where(usable, values, 0.0)
    power = np.where(usable, np.square(values).sum(axis=0), 1.0)

    def t(signs: Array) -> Any:
        mean = signs @ values / n_subjects
        rest: Any = np.maximum(power - n_subjects * mean**2, 1e-12 * power)
        return mean / np.sqrt(rest / (n_subjects - 1) / n_subjects)

    signs = _signs(n_subjects, n, random_state)
    like = data.isel({over: 0}, drop=True)

    def critical(p: float) -> float:
        return float(stats.t.ppf(1 - p, n_subjects - 1))

    return _Maps(t(np.ones((1, n_subjects)))[0], _batches(t, signs), len(signs), usable, like, critical)


def _signs(n_subjects: int, n: int, random_state: Any) -> Array:
    """Turns of the maps (n, n_subjects): all there are but none turned, if they are not more than asked for."""
    if n < 1:
        raise ConfigError("Not a number of permutations.", expected=">= 1", got=n, where="n_permutations")
    if n_subjects <= 30 and 2**n_subjects - 1 <= n:
        bits = np.arange(1, 2**n_subjects)[:, None] >> np.arange(n_subjects) & 1
        return (1 - 2 * bits).astype(np.float64)
    return np.random.default_rng(random_state).choice([-1.0, 1.0], size=(n, n_subjects))


def _batches(function: Any, rows: Array) -> Any:
    def run(width: int) -> Any:
        size = max(1, BATCH_BYTES // (8 * max(1, width)))
        for start in range(0, len(rows), size):
            yield function(rows[start : start + size])

    return run


def _permuted(data: xr.DataArray, null: xr.DataArray) -> _Maps:
    if "permutation" not in null.dims or null.sizes["permutation"] < 19:
        raise SchemaError(
            "These are not maps of permuted data.",
            expected="a dimension permutation of at least 19",
            got=dict(null.sizes),
            where="null",
        )
    null = null.transpose("permutation", ...)
    first = matched(data, null.isel(permutation=0, drop=True), ("scores", "null"))
    null = null.transpose("permutation", *data.dims)
    maps = np.vstack([data.values.ravel()[None], null.values.reshape(null.sizes["permutation"], -1)]).astype(float)
    usable = np.isfinite(maps).all(axis=0) & (maps != maps[:1]).any(axis=0) & np.isfinite(first.values.ravel())
    maps = np.where(usable, maps, 0.0)
    maps = (maps - maps.mean(axis=0)) / np.where(usable, maps.std(axis=0), 1.0)
    like = data.drop_attrs()

    def critical(p: float) -> float:
        return float(stats.norm.ppf(1 - p))

    return _Maps(maps[0], _batches(lambda rows: rows, maps[1:]), len(maps) - 1, usable, like, critical)


def _finder(threshold: float | str | None, maps: _Maps, graph: sparse.csr_array, tail: int) -> Any:
    edges = np.stack(sparse.triu(graph).nonzero(), axis=1).astype(np.int64)
    edges = edges[maps.usable[edges].all(axis=1)]
    if threshold == "tfce":
        return _Enhanced(edges, tail)
    if threshold is None:
        threshold = maps.critical(0.05 if tail else 0.025)
    if isinstance(threshold, str) or not np.isfinite(threshold) or threshold <= 0:
        raise ConfigError("Not a threshold.", expected="a number > 0, or 'tfce'", got=threshold, where="threshold")
    return _Clusters(edges, tail, float(threshold))


def _components(high: NDArray[np.bool_], edges: Index) -> tuple[Index, Index, int]:
    """Points of maps (n, p) that are high, the number of the component of each, and how many there are."""
    points = np.flatnonzero(high)
    place = np.empty(high.size, dtype=np.int64)
    place[points] = np.arange(len(points))
    row, edge = np.nonzero(high[:, edges[:, 0]] & high[:, edges[:, 1]])
    first, second = (place[row * high.shape[1] + edges[edge, side]] for side in (0, 1))
    matrix = sparse.coo_array((np.ones(len(row), bool), (first, second)), shape=(len(points),) * 2)
    n, number = connected_components(matrix, directed=False)
    return points, number.astype(np.int64), int(n)


@dataclass(frozen=True)
class _Clusters:
    """Clusters of points beyond a threshold; the mass of one is the sum of its statistics."""

    edges: Index
    tail: int
    threshold: float

    @property
    def label(self) -> float:
        return self.threshold

    def find(self, statistic: Array) -> list[tuple[Index, float]]:
        """Points and mass of every cluster."""
        found = []
        for side in (1, -1) if self.tail == 0 else (self.tail,):
            points, number, n = _components(side * statistic[None] > self.threshold, self.edges)
            mass = np.bincount(number, statistic[points], minlength=n)
            found += [(points[number == k], float(mass[k])) for k in range(n)]
        return found

    def heaviest(self, maps: Array) -> Array:
        """Mass of the heaviest cluster of each map."""
        best = np.zeros(len(maps))
        for side in (1, -1) if self.tail == 0 else (self.tail,):
            points, number, n = _components(side * maps > self.threshold, self.edges)
            mass = np.bincount(number, np.abs(maps.ravel()[points]), minlength=n)
            np.maximum.at(best, points // maps.shape[1], mass[number])
        return best

    def table(self, maps: _Maps) -> xr.Dataset:
        null = _null_of(self.heaviest, maps, len(self.edges))
        found = sorted(self.find(maps.observed), key=lambda pair: -abs(pair[1]))
        mass = np.array([m for _, m in found])
        p = _exceeding(np.abs(mass), null)
        cluster, by_point = np.zeros(maps.observed.size, np.int64), np.where(maps.usable, 1.0, np.nan)
        for k, (points, _) in enumerate(found):
            cluster[points], by_point[points] = k + 1, p[k]
        sizes = np.array([len(points) for points, _ in found], dtype=np.int64)
        return xr.Dataset(
            {
                "statistic": maps.wrap(np.where(maps.usable, maps.observed, np.nan)),
                "cluster": maps.wrap(cluster),
                "p": maps.wrap(by_point),
                "cluster_p": ("cluster_id", p),
                "cluster_mass": ("cluster_id", mass),
                "cluster_size": ("cluster_id", sizes),
                "null_max": ("permutation", null),
            },
            coords={"cluster_id": np.arange(1, len(found) + 1)},
        )


@dataclass(frozen=True)
class _Enhanced:
    """Threshold-free enhancement: each point gathers extent ** 0.5 * height ** 2 over all heights below its own."""

    edges: Index
    tail: int
    label: str = "tfce"
    step: float = 0.2

    def enhance(self, maps: Array) -> Array:
        out = np.zeros(maps.size)
        for side in (1, -1) if self.tail == 0 else (self.tail,):
            height = side * maps
            for level in np.arange(self.step, height.max(initial=0.0), self.step):
                points, number, n = _components(height > level, self.edges)
                extent = np.bincount(number, minlength=n)
                out[points] += side * (extent**0.5)[number] * level**2 * self.step
        return out.reshape(maps.shape)

    def heaviest(self, maps: Array) -> Array:
        """Largest enhanced value of each map."""
        return np.asarray(np.abs(self.enhance(maps)).max(axis=1))

    def table(self, maps: _Maps) -> xr.Dataset:
        null = _null_of(self.heaviest, maps, len(self.edges))
        enhanced = self.enhance(maps.observed[None])[0]
        p = np.where(maps.usable, _exceeding(np.abs(enhanced), null), np.nan)
        return xr.Dataset(
            {
                "statistic": maps.wrap(np.where(maps.usable, maps.observed, np.nan)),
                "enhanced": maps.wrap(np.where(maps.usable, enhanced, np.nan)),
                "p": maps.wrap(p),
                "null_max": ("permutation", null),
            }
        )


def _null_of(heaviest: Any, maps: _Maps, n_edges: int) -> Array:
    null = []
    with progress("permutations", total=maps.n) as advance:
        for batch in maps.permuted(4 * maps.observed.size + 2 * n_edges):
            null.append(heaviest(batch))
            advance(len(batch))
    return np.concatenate(null)


def _exceeding(values: Array, null: Array) -> Array:
    """p of each value: a permutation that gives the same data again counts as a tie, whatever its rounding."""
    slack = 1e-9 * np.maximum(1.0, values)
    above = len(null) - np.searchsorted(np.sort(null), values - slack, side="left")
    return (above + 1) / (len(null) + 1)
