"""`RSAResult`: the scores of models with their ceilings, intervals and tests."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from neuroalign.schema import view

__all__ = ["RSAResult"]


@dataclass(frozen=True, repr=False)
class RSAResult:
    """What `evaluate` found.

    Attributes
    ----------
    data : Dataset
        Everything below as variables, with the settings in its attrs: ``compare``, ``bootstrap``, ``n_bootstrap``,
        ``df``, ``alpha``, ``n_subjects``, ``n_conditions``, ``n_redrawn``.
    """

    data: xr.Dataset

    @property
    def score(self) -> xr.DataArray:
        """Mean score over subjects, dims (model, ...)."""
        return self.data["score"]

    @property
    def ceiling(self) -> xr.DataArray:
        """Lower and upper noise ceiling, dims (bound, ...)."""
        return self.data["ceiling"]

    @property
    def ci(self) -> xr.DataArray:
        """Confidence interval of the score, dims (bound, model, ...)."""
        return self.data["ci"]

    @property
    def p(self) -> xr.DataArray:
        """One-sided p that the score is above 0, uncorrected, dims (model, ...)."""
        return self.data["p"]

    @property
    def p_pairwise(self) -> xr.DataArray:
        """Two-sided p that two models differ, uncorrected, dims (model, model_2, ...)."""
        return self.data["p_pairwise"]

    @property
    def p_ceiling(self) -> xr.DataArray:
        """One-sided p that the score is below the lower ceiling, uncorrected, dims (model, ...)."""
        return self.data["p_ceiling"]

    @property
    def significant(self) -> xr.DataArray:
        """Whether the score is above 0 at `alpha` after FDR correction over all models (and times)."""
        return self.data["p_fdr"] < self.data.attrs["alpha"]

    def __repr__(self) -> str:
        lines = [self._settings()]
        flat = self.data["score"]
        if flat.dims == ("model",):
            for name in flat["model"].values.tolist():
                one = self.data.sel(model=name)
                low, high = one["ci"].values
                lines.append(f"  {name}: {float(one['score']):.3f} [{low:.3f}, {high:.3f}], p = {float(one['p']):.2g}")
        else:
            lines.append(f"  score: {dict(flat.sizes)}")
        return "\n".join(lines)

    def _settings(self) -> str:
        a = self.data.attrs
        return (
            f"RSAResult: {a['compare']}, {a['n_subjects']} subjects, {a['n_conditions']} conditions, "
            f"bootstrap over {a['bootstrap']} ({a['n_bootstrap']} samples, df {a['df']})"
        )

    def plot(self, **options: Any) -> Any:
        """Draw scores with the ceiling band and the tests.

        Parameters
        ----------
        **options
            Options of `neuroalign.plots.rsa_bars`.

        Returns
        -------
        matplotlib.axes.Axes
            Where it was drawn.
        """
        return view("rsa_bars")(self, **options)

    def to_html(self, path: str | Path, **options: Any) -> Any:
        """Write a self-contained report.

        Parameters
        ----------
        path : path
            The HTML file.
        **options
            Options of the report.

        Returns
        -------
        Path
            The file written.
        """
        return view("rsa_report")(self, path, **options)

    def save(self, path: str | Path) -> Any:
        """Save the dataset as Zarr with a manifest; `neuroalign.storage.open` reads it back."""
        from neuroalign import storage

        return storage.save(self.data, path)

    def to_frame(self) -> Any:
        """Give one row for each model (and time): a pandas DataFrame of score, interval, tests and ceilings."""
        ds = self.data
        columns: dict[Hashable, xr.DataArray] = {
            name: ds[name] for name in ("score", "se", "t", "p", "p_fdr", "p_ceiling", "p_ceiling_fdr")
        }
        low, high = ds["ci"].isel(bound=0, drop=True), ds["ci"].isel(bound=1, drop=True)
        bounds = {f"ceiling_{b}": ds["ceiling"].sel(bound=b, drop=True) for b in ("lower", "upper")}
        table = xr.Dataset({**columns, "ci_low": low, "ci_high": high, **bounds})
        table = table.drop_vars([c for c in table.coords if c not in table.dims])
        return table.broadcast_like(table["score"]).to_dataframe().reset_index()

    def to_tsv(self, path: str | Path) -> Any:
        """Write the table of `to_frame` as tab-separated text, at once or not at all."""
        from neuroalign import storage

        return storage.write_text(Path(path), self.to_frame().to_csv(sep="\t", index=False, na_rep="n/a"))
