"""The outcome of an evaluation: scores, ceilings and tests in one Dataset, with views and files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign import storage
from neuroalign.errors import ConfigError, SchemaError, warns_once
from neuroalign.evaluation.bootstrap import bootstrap_compare
from neuroalign.schema import TRAVELLING, view

__all__ = ["Result"]

#: Variables with one value a target, in the order in which tables show them.
PER_TARGET = ("score", "score_pooled", "ceiling", "normalised", "p", "q", "p_fwer", "significant")


@dataclass(frozen=True)
class Result:
    """What `cross_validate` found.

    Parameters
    ----------
    data : Dataset
        Per target: ``score`` (mean of the folds' scores), ``score_pooled`` (all held-out samples together),
        ``ceiling``, ``normalised``, ``p``, ``q``, ``p_fwer``, ``significant``. Also ``fold_score`` (fold, ...) and,
        where they fit in memory twice, ``prediction`` and ``observed``: held-out, averaged over repeats.

    Examples
    --------
    >>> result = Result(xr.Dataset({"score": ("voxel", [0.2, 0.4])}, attrs={"scorer": "r2"}))
    >>> float(result.score.max())
    0.4
    """

    data: xr.Dataset

    def __post_init__(self) -> None:
        if not isinstance(self.data, xr.Dataset) or "score" not in self.data:
            got = list(self.data.data_vars) if isinstance(self.data, xr.Dataset) else type(self.data).__name__
            raise SchemaError("Not a result.", expected="a Dataset with a variable 'score'", got=got)

    @property
    def score(self) -> xr.DataArray:
        """Mean of the folds' scores, per target."""
        return self._get("score")

    @property
    def p(self) -> xr.DataArray:
        """Probability of such a score by chance, per target, not corrected."""
        return self._get("p")

    @property
    def q(self) -> xr.DataArray:
        """p adjusted for the false discovery rate over all targets."""
        return self._get("q")

    @property
    def p_fwer(self) -> xr.DataArray:
        """Probability of such a score by chance anywhere among the targets (maximum statistic)."""
        return self._get("p_fwer")

    @property
    def significant(self) -> xr.DataArray:
        """Whether q is below the alpha that was asked for."""
        return self._get("significant")

    @property
    def ceiling(self) -> xr.DataArray:
        """Best possible score, per target."""
        return self._get("ceiling")

    @property
    def normalised(self) -> xr.DataArray:
        """Score as a fraction of the ceiling; NaN where the ceiling is too low to divide by."""
        return self._get("normalised")

    @property
    def plot(self) -> Plots:
        """Pictures: ``result.plot()``, ``result.plot.topomap(time=0.17)``, ..."""
        return Plots(self.data)

    @warns_once
    def compare(self, other: Result, **options: Any) -> xr.Dataset:
        """Compare with another model of the same responses and folds by a paired bootstrap.

        The question is whether these models, as they were fitted, predict new samples equally well. Which way to make
        a model is better, whatever the training samples, is for `compare_models`.

        Parameters
        ----------
        other : Result
            The other model's result.
        **options
            Of `bootstrap_compare`, such as ``blocks``, ``regions`` and ``random_state``.

        Returns
        -------
        Dataset
            ``difference`` (this minus the other), ``ci`` and ``p``; see `bootstrap_compare`.
        """
        for result in (self, other):
            result._get("prediction")
        mine, theirs = self.data["observed"], other.data["observed"]
        same = mine.dims == theirs.dims and np.array_equal(mine.values, theirs.values, equal_nan=True)
        if not same or not np.array_equal(self.data["fold_id"].values, other.data["fold_id"].values):
            raise SchemaError(
                "The two results are not about the same held-out responses.",
                expected="the same responses, folds and averaging",
                got="different values of 'observed'",
                fix="cross-validate both models with the same y, cv and repeats",
            )
        settings = {"scorer": self.data.attrs.get("scorer", "r2"), "folds": self.data["fold_id"].values} | options
        return bootstrap_compare(mine, self.data["prediction"], other.data["prediction"].values, **settings)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to a folder (Zarr with checksums).

        Parameters
        ----------
        path : path-like
            The folder, by custom ``*.zarr``.

        Returns
        -------
        Path
            The folder.
        """
        return storage.save(self.data, path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Result:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like
            The folder.

        Returns
        -------
        Result
            The same result.
        """
        return cls(storage.open(path))

    def to_tsv(self, path: str | os.PathLike[str]) -> Path:
        """Write a table with one row a target: its labels, scores, ceilings and tests.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        Path
            The file.
        """
        table = self.data[[name for name in PER_TARGET if name in self.data]]
        dims = set(self.data["score"].dims)
        table = table.drop_vars([name for name, c in table.coords.items() if not set(c.dims) <= dims])
        frame = (table if dims else table.expand_dims("target")).to_dataframe().reset_index()
        storage.write_text(path, frame.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))
        return Path(path)

    def to_html(self, path: str | os.PathLike[str], **options: Any) -> Any:
        """Write a report that needs no network; see `neuroalign.report`.

        Parameters
        ----------
        path : path-like
            The HTML file.
        **options
            Of the report.

        Returns
        -------
        Path
            The file.
        """
        return view("encoding_report")(self, path, **options)

    def summary(self) -> str:
        """Say in a few lines what was found."""
        attrs, score = self.data.attrs, self.data["score"]
        values = score.values[np.isfinite(score.values)]
        sizes = " x ".join(f"{n} {d}" for d, n in score.sizes.items()) or "1 target"
        lines = [f"Result: {sizes}, {attrs.get('n_folds', '?')} folds, {attrs.get('estimator', 'model')}"]
        if values.size:
            lines.append(f"{attrs.get('scorer', 'score')}: median {np.median(values):.3f}, best {values.max():.3f}")
        if missing := score.size - values.size:
            lines.append(f"not scored (constant or not finite): {missing} of {score.size}")
        if "ceiling" in self.data:
            ceiling = self.data["ceiling"].values
            known = f"median {np.nanmedian(ceiling):.3f}" if np.isfinite(ceiling).any() else "unknown"
            lines.append(f"ceiling ({self.data['ceiling'].attrs.get('method', 'given')}): {known}")
        if "significant" in self.data:
            n = int(self.data["significant"].sum())
            lines.append(f"significant: {n} of {values.size} (q < {attrs.get('alpha')}, {attrs.get('test')})")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        head, *rest = map(escape, self.summary().splitlines())
        return f"<div><strong>{head}</strong><ul>{''.join(f'<li>{line}</li>' for line in rest)}</ul></div>"

    def _get(self, name: str) -> xr.DataArray:
        if name not in self.data:
            remedy = _REMEDIES.get(name, "")
            raise ConfigError(f"This result has no {name}.", got=list(self.data.data_vars), fix=remedy or None)
        array = self.data[name]
        return array.assign_attrs({k: v for k, v in self.data.attrs.items() if k in TRAVELLING} | array.attrs)


_REMEDIES = {
    **dict.fromkeys(("p", "q", "p_fwer", "significant"), "pass test='permutation' to cross_validate"),
    **dict.fromkeys(("ceiling", "normalised"), "pass ceiling='split_half_sb' to cross_validate"),
    "prediction": "held-out predictions were too large to keep; cross-validate fewer targets at a time",
}


@dataclass(frozen=True)
class Plots:
    """Views of a result by name; the functions of `neuroalign.plots` are imported when one is asked for.

    Parameters
    ----------
    data : Dataset
        The result's data.
    """

    data: xr.Dataset

    def __call__(self, kind: str = "auto", **options: Any) -> Any:
        """Draw the result with the named view; ``"auto"`` picks one that fits."""
        return self._draw(kind, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            view(name)
        except ConfigError as error:  # hasattr() and completion expect an AttributeError
            raise AttributeError(str(error)) from error

        def draw(**options: Any) -> Any:
            return self._draw(name, **options)

        return draw

    def _draw(self, kind: str, **options: Any) -> Any:
        """Options that name a dimension select its nearest entry: ``time=0.17``, ``channel="Cz"``."""
        chosen = {key: options.pop(key) for key in list(options) if key in self.data["score"].dims}
        data = self.data
        for dim, value in chosen.items():
            numeric = dim in data.indexes and data.indexes[dim].dtype.kind in "fiu"
            data = data.sel({dim: value}, method="nearest" if numeric and np.isscalar(value) else None)
        return view(kind)(data, **options)
