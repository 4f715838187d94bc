"""The steps behind the commands: encode, decode and compare representations, from files to files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.pipeline import make_pipeline

from neuroalign import storage
from neuroalign.align import check_same_samples, join
from neuroalign.decoding import RidgeDecoder, TRFDecoder
from neuroalign.encoding import RidgeEncoder, TRFEncoder
from neuroalign.errors import ConfigError
from neuroalign.evaluation import Result, cross_validate
from neuroalign.pipeline import pages
from neuroalign.pipeline.inputs import by_label, check_options, open_features, open_rdms, open_responses, split_name
from neuroalign.pipeline.options import DecodeOptions, EncodeOptions, ModelOptions, RSAOptions
from neuroalign.preprocess import Delayer
from neuroalign.rsa import evaluate
from neuroalign.schema import sample_dim


@dataclass(frozen=True)
class Outcome:
    """What a step found and wrote.

    Parameters
    ----------
    text : str
        A summary for the terminal.
    folder : Path
        Folder with everything.
    report : Path
        The page in it.
    result : object
        The `Result` or `RSAResult`.
    tables : dict
        Further tables, such as ``comparison``.
    """

    text: str
    folder: Path
    report: Path
    result: Any
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def encode(options: EncodeOptions) -> Outcome:
    """Predict responses from features, with ceiling, test and, if asked, a second feature space to compare with.

    Parameters
    ----------
    options : EncodeOptions
        What to read, how to model and where to write.

    Returns
    -------
    Outcome
        With the tables ``comparison`` (where there is a second feature space).
    """
    _check_out(options.out, options.overwrite)
    X, y = _open(options)
    if options.by is not None and (y.ndim != 2 or options.by not in y.coords or y[options.by].dims != y.dims[1:]):
        raise ConfigError(
            "The responses cannot be summarised by this.",
            expected=[str(n) for n, c in y.coords.items() if c.dims == y.dims[1:]] or "targets of one dimension",
            got=options.by,
            where="by",
        )
    estimator = _encoder(options)
    result = _validate(estimator, X, y, options, ceiling=options.ceiling)
    extra: dict[str, Any] = {}
    tables: dict[str, pd.DataFrame] = {}
    if isinstance(estimator, TRFEncoder):
        extra["response"] = estimator.fit(X, y).response_.rename("response")
    if options.by is not None:
        tables["regions"] = _by_region(result, options.by)
    if options.against is not None:
        rival, same = _open(options, features=options.against)
        other = _validate(_encoder(options), rival, same, options, ceiling=None)
        extra["rival"] = other.data
        names = (_short(options.features), _short(options.against))
        if names[0] == names[1]:
            names = (options.features, options.against)
        tables["comparison"] = _compare(result, other, options, names)
    lines = [result.summary(), *(_table_text(t) for t in tables.values())]
    return _write(
        options.out,
        result,
        lines,
        tables,
        extra,
        lambda page: pages.encoding_page(page, result, tables, extra, options),
    )


def decode(options: DecodeOptions) -> Outcome:
    """Predict features from responses; with rival features, tell which of the two the responses followed.

    Parameters
    ----------
    options : DecodeOptions
        What to read, how to model and where to write.

    Returns
    -------
    Outcome
        With the tables ``identification`` (stimuli told from one another) or ``attention`` (the decoded series told
        from its rival, run by run).
    """
    _check_out(options.out, options.overwrite)
    features, responses = _open(options)
    if options.against is not None:  # before anything is fitted
        rival = _open(options, features=options.against)[0]
        check_same_samples(features, rival)
        if "run" not in features.coords or sample_dim(features) != "time":
            raise ConfigError(
                "Which stretches are to be told apart?",
                expected="features along time with a coordinate run",
                got=f"{sample_dim(features)} with {list(features.coords)}",
                where="against",
                fix="leave --against out",
            )
    estimator: Any = RidgeDecoder(scorer=options.scorer or "r")
    if options.lags is not None:
        estimator = TRFDecoder(tmin=options.lags[0], tmax=options.lags[1], scorer=options.scorer or "r")
    result = _validate(estimator, responses, features, options, ceiling=None)
    extra: dict[str, Any] = {}
    tables: dict[str, pd.DataFrame] = {}
    fitted = estimator.fit(responses, features)
    extra["patterns"] = fitted.patterns_.rename("patterns")
    if options.against is not None:
        tables["attention"] = _tell_apart(result, rival)
    elif sample_dim(features) != "time" and "prediction" in result.data and features[0].size > 1:
        tables["identification"] = _identify(result)
    lines = [result.summary(), *(_table_text(t) for t in tables.values())]
    return _write(
        options.out,
        result,
        lines,
        tables,
        extra,
        lambda page: pages.decoding_page(page, result, tables, extra, options),
    )


def rsa(options: RSAOptions) -> Outcome:
    """Compare model RDMs with measured ones.

    Parameters
    ----------
    options : RSAOptions
        What to read, how to compare and where to write.

    Returns
    -------
    Outcome
        Scores, intervals, ceilings and tests.
    """
    _check_out(options.out, options.overwrite)
    models = open_rdms(options.models, options.method)
    data = open_rdms(options.data, options.method)
    if isinstance(data, dict):
        if len(data) != 1:
            raise ConfigError(
                "The data hold several variables.",
                expected="one",
                got=list(data),
                where=options.data,
                fix=f"{options.data}#name",
            )
        data = next(iter(data.values()))
    if isinstance(models, xr.DataArray) and "model" not in models.dims:
        models = {str(models.name or "model"): models}
    result = evaluate(
        models,
        data,
        compare=options.compare,
        bootstrap=options.bootstrap,
        n=options.samples,
        random_state=options.seed,
        alpha=options.alpha,
    )
    lower, upper = (float(result.ceiling.sel(bound=b).mean()) for b in ("lower", "upper"))
    lines = [repr(result), f"noise ceiling: {lower:.3f} to {upper:.3f}"] if np.isfinite(lower) else [repr(result)]
    return _write(options.out, result, lines, {}, {}, lambda page: pages.rsa_page(page, result, models, data))


def _short(text: str) -> str:
    """Name a feature space by its variable, else by its file."""
    path, variable = split_name(text)
    return variable or Path(path).stem


def _by_region(result: Result, by: str) -> pd.DataFrame:
    """Mean and best score of every region."""
    flat = result.score.values.ravel()
    rows = [[name, len(i), np.nanmean(flat[i]), np.nanmax(flat[i])] for name, i in by_label(result.score, by).items()]
    return pd.DataFrame(rows, columns=[by, "n", "mean", "best"])


def _open(options: ModelOptions, features: str | None = None) -> tuple[xr.DataArray, xr.DataArray]:
    X = open_features(features or options.features, options)
    y = open_responses(options.responses, X, options)
    check_options(options, X)
    return join(X, y, reorder=options.reorder, drop=options.drop)


def _encoder(options: EncodeOptions) -> Any:
    if options.lags is not None:
        return TRFEncoder(tmin=options.lags[0], tmax=options.lags[1], scorer=options.scorer or "r")
    ridge = RidgeEncoder(scorer=options.scorer or "r2")
    return ridge if options.delays is None else make_pipeline(Delayer(list(options.delays)), ridge)


def _validate(
    estimator: Any, X: xr.DataArray, y: xr.DataArray, options: ModelOptions, *, ceiling: str | None
) -> Result:
    return cross_validate(
        estimator,
        X,
        y,
        cv=options.folds,
        groups=options.groups,
        ceiling="split_half_sb" if ceiling == "repeats" else ceiling,
        test="permutation" if options.permutations else None,
        scorer=options.scorer,
        n_permutations=options.permutations or 1,
        alpha=options.alpha,
        random_state=options.seed,
    )


def _compare(a: Result, b: Result, options: EncodeOptions, names: tuple[str, str]) -> pd.DataFrame:
    """Both models' mean scores and their difference with a bootstrap, for every region (or all targets together)."""
    by = options.by or ("roi" if "roi" in a.score.coords else None)
    regions = by if by is not None else np.full(a.score.size, "all")
    series = bool({"time", "sample"} & (set(a.data["observed"].dims) - set(a.score.dims)))
    # Blocks must outlast the correlation of the noise: ten seconds, or ten volumes.
    blocks = max(10, round(10 * float(a.data.attrs.get("sfreq", 1.0)))) if series else 1
    difference = a.compare(b, regions=regions, blocks=blocks, random_state=options.seed)
    groups = by_label(a.score, by) if by is not None else {"all": np.arange(a.score.size)}
    rows = []
    for name, index in groups.items():
        one = difference.sel(region=name)
        low, high = one["region_ci"].values.tolist()
        both = np.stack([r.score.values.ravel()[index] for r in (a, b)])
        scores = both[:, np.isfinite(both).all(axis=0)].mean(axis=1).tolist()
        rows.append([name, len(index), *scores, float(one["region_difference"]), low, high, float(one["region_p"])])
    columns = [by or "targets", "n", names[0], names[1], "difference", "ci_low", "ci_high", "p"]
    return pd.DataFrame(rows, columns=columns)


def _tell_apart(result: Result, rival: xr.DataArray) -> pd.DataFrame:
    """Correlate held-out reconstructions with the decoded series and with its rival, run by run."""
    predicted, target = result.data["prediction"], result.data["observed"]
    if "run" not in predicted.coords:
        raise ConfigError(
            "Which stretches are to be told apart?", expected="a coordinate run along time", got=list(predicted.coords)
        )
    other = rival.transpose(*target.dims).values
    if other.shape != target.shape:
        raise ConfigError("The rival features have another shape.", expected=target.shape, got=other.shape)
    other = other[predicted["position"].values]  # held-out samples stand in the order of the folds
    run = predicted["run"].values
    rows = []
    for label in dict.fromkeys(run.tolist()):
        chosen = run == label
        r = [_mean_r(predicted.values[chosen], v[chosen]) for v in (target.values, other)]
        rows.append([label, *r, r[0] > r[1]])
    return pd.DataFrame(rows, columns=["run", "r_decoded", "r_rival", "correct"])


def _mean_r(a: np.ndarray, b: np.ndarray) -> float:
    from neuroalign.metrics import pearson_r

    return float(np.nanmean(pearson_r(b.reshape(len(b), -1), a.reshape(len(a), -1))))


def _identify(result: Result) -> pd.DataFrame:
    """How well held-out stimuli are told from one another by their decoded features."""
    from neuroalign.metrics import relative_median_rank, retrieval_ranks, top_k_accuracy, two_versus_two

    predicted, observed = (result.data[name] for name in ("prediction", "observed"))
    p, o = (v.values.reshape(v.shape[0], -1) for v in (predicted, observed))
    known = np.isfinite(p).all(axis=0) & np.isfinite(o).all(axis=0)
    p, o = p[:, known], o[:, known]
    n, ranks = len(p), retrieval_ranks(p, o)
    few = min(5, n)
    rows = [
        ["two versus two", two_versus_two(o, p), 0.5],
        ["top 1", top_k_accuracy(ranks, 1), 1 / n],
        [f"top {few}", top_k_accuracy(ranks, few), few / n],
        ["relative median rank", relative_median_rank(ranks, n), 0.5],
    ]
    return pd.DataFrame(rows, columns=["measure", "value", "chance"])


def _table_text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda v: f"{v:.3g}")


def _check_out(out: str, overwrite: bool) -> None:
    folder = Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise ConfigError(
            "The output folder exists already.",
            expected="a new or empty folder",
            got=str(folder),
            fix="choose another --out, or pass --overwrite",
        )
    if overwrite and folder.is_dir() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise ConfigError(
            "The output folder holds something else.",
            expected="an earlier result (with manifest.json)",
            got=str(folder),
            fix="choose another --out",
        )


def _write(
    out: str,
    result: Any,
    lines: list[str],
    tables: dict[str, pd.DataFrame],
    extra: dict[str, Any],
    page: Callable[[Path], Any],
) -> Outcome:
    """Write everything into one folder that appears whole or not at all."""
    folder = Path(out)
    with storage.publish(folder) as temporary:
        temporary.mkdir()
        result.save(temporary / "result.zarr")
        result.to_tsv(temporary / "scores.tsv")
        for name, table in tables.items():
            storage.write_text(
                temporary / f"{name}.tsv", table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
            )
        for name, obj in extra.items():
            storage.save(obj, temporary / f"{name}.zarr")
        page(temporary / "report.html")
        storage.write_manifest(temporary)
    return Outcome("\n\n".join(lines), folder, folder / "report.html", result, tables)
