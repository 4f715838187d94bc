"""The command line: ``neuroalign demo``, ``inspect``, ``encode``, ``decode``, ``rsa``, ``fetch``, ``simulate``, ..."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroalign._version import __version__
from neuroalign.errors import ConfigError, NeuroalignError, NeuroalignWarning

#: Exit code of a command that was stopped from the keyboard.
STOPPED = 130

commands = typer.Typer(
    name="neuroalign",
    help="How well does a neural network explain a brain?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Out = Annotated[str, typer.Option("--out", "-o", help="Folder for the results; it appears whole or not at all.")]
Against = Annotated[str | None, typer.Option(help="A second feature space (path, or path#variable) to compare with.")]
Groups = Annotated[str | None, typer.Option(help="Coordinate whose values never cross a split, such as run.")]
Folds = Annotated[int | None, typer.Option(help="Number of outer folds.")]
Lags = Annotated[
    tuple[float, float] | None, typer.Option(help="First and last lag in s: a temporal response function.")
]
WindowOption = Annotated[tuple[float, float] | None, typer.Option("--window", help="Epoch around each event, in s.")]
Bandpass = Annotated[tuple[float, float] | None, typer.Option(help="Filter the recording to this band, in Hz.")]
Resample = Annotated[float | None, typer.Option(help="Bring features and recording to this rate, in Hz.")]
Modality = Annotated[str | None, typer.Option(help="eeg, ieeg, meg or fmri, where the file does not tell.")]
Scorer = Annotated[str | None, typer.Option(help="r2, r or ev.")]
Permutations = Annotated[int, typer.Option(help="Number of permutations; 0 leaves the test out.")]
Alpha = Annotated[float, typer.Option(help="False discovery rate.")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Reorder = Annotated[bool, typer.Option("--reorder", help="Bring features into the order of the responses.")]
Drop = Annotated[bool, typer.Option("--drop", help="Leave out samples that only one side has.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]


def _show(outcome: Any) -> None:
    typer.echo(outcome.text)
    typer.echo(f"\nResults in {outcome.folder}. Open {outcome.report.resolve()}")


@commands.command()
def demo(
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder for the simulated data and the page.")
    ] = "neuroalign-demo",
    seed: Seed = 0,
) -> None:
    """Simulate recordings with a known truth, analyse them, and print the truth beside what was found."""
    from neuroalign.pipeline import run_demo
    from neuroalign.pipeline.demo import truth_table

    outcome = run_demo(out, random_state=seed, say=typer.echo)
    typer.echo(truth_table(outcome.checks))
    typer.echo(f"Open this file: {outcome.report.resolve()}")
    if not outcome.holds:
        raise typer.Exit(1)


@commands.command()
def inspect(
    file: Annotated[str, typer.Argument(help="A recording, table, BIDS folder or store.")],
    modality: Modality = None,
    units: Annotated[str | None, typer.Option(help="Unit of the values, where the file does not tell.")] = None,
    mask: Annotated[str | None, typer.Option(help="Brain mask of an fMRI run.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Another option of the reader, such as data_format=int16; repeatable.")
    ] = None,
) -> None:
    """Say what is in a file."""
    from neuroalign.pipeline import inspect as describe

    options = {name: value for name, value in (("units", units), ("mask", mask)) if value is not None}
    for text in option or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError("Not an option.", expected="--option name=value", got=text)
        options[name] = value
    typer.echo(describe(file, modality=modality, **options))


@commands.command()
def encode(
    features: Annotated[str, typer.Argument(help="Features: a table or store (path, or path#variable).")],
    responses: Annotated[str, typer.Argument(help="Responses: a table, store, recording or BIDS folder.")],
    out: Out,
    against: Against = None,
    groups: Groups = None,
    folds: Folds = None,
    lags: Lags = None,
    delays: Annotated[
        str | None, typer.Option(help="Delays in samples, as in 1,2,3,4: a finite impulse response.")
    ] = None,
    ceiling: Annotated[str | None, typer.Option(help="repeats, split_half_sb or explainable_variance.")] = None,
    by: Annotated[str | None, typer.Option(help="Coordinate of the responses to summarise by, such as roi.")] = None,
    window: WindowOption = None,
    bandpass: Bandpass = None,
    resample: Resample = None,
    modality: Modality = None,
    scorer: Scorer = None,
    permutations: Permutations = 1000,
    alpha: Alpha = 0.05,
    seed: Seed = 0,
    reorder: Reorder = False,
    drop: Drop = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict responses from features, with a noise ceiling and a test."""
    from neuroalign.errors import ConfigError
    from neuroalign.pipeline import EncodeOptions
    from neuroalign.pipeline import encode as run

    given = {k: v for k, v in locals().items() if k in EncodeOptions.model_fields}
    if delays is not None:
        try:
            given["delays"] = [int(part) for part in delays.split(",")]
        except ValueError:
            raise ConfigError("Delays are not whole numbers.", expected="such as 1,2,3,4", got=delays) from None
    _show(run(EncodeOptions.parse(given, where="the command line")))


@commands.command()
def decode(
    responses: Annotated[str, typer.Argument(help="Responses: a table, store, recording or BIDS folder.")],
    features: Annotated[str, typer.Argument(help="Features to decode: a table or store (path, or path#variable).")],
    out: Out,
    against: Against = None,
    groups: Groups = None,
    folds: Folds = None,
    lags: Lags = None,
    window: WindowOption = None,
    bandpass: Bandpass = None,
    resample: Resample = None,
    modality: Modality = None,
    scorer: Scorer = None,
    permutations: Permutations = 1000,
    alpha: Alpha = 0.05,
    seed: Seed = 0,
    reorder: Reorder = False,
    drop: Drop = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict features from responses; with --against, tell which of two stimuli was followed."""
    from neuroalign.pipeline import DecodeOptions
    from neuroalign.pipeline import decode as run

    given = {k: v for k, v in locals().items() if k in DecodeOptions.model_fields}
    _show(run(DecodeOptions.parse(given, where="the command line")))


@commands.command()
def rsa(
    models: Annotated[str, typer.Argument(help="RDMs of models, or features.")],
    data: Annotated[str, typer.Argument(help="Measured RDMs, or responses.")],
    out: Out,
    compare: Annotated[str, typer.Option(help="rho-a, spearman, pearson, kendall-tau-a, cosine, ...")] = "rho-a",
    method: Annotated[str, typer.Option(help="Distance, where RDMs have to be computed.")] = "correlation",
    bootstrap: Annotated[str, typer.Option(help="conditions, subjects or both.")] = "both",
    samples: Annotated[int, typer.Option(help="Number of bootstrap samples.")] = 1000,
    alpha: Alpha = 0.05,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare dissimilarities of models with measured ones."""
    from neuroalign.pipeline import RSAOptions
    from neuroalign.pipeline import rsa as run

    given = {k: v for k, v in locals().items() if k in RSAOptions.model_fields}
    _show(run(RSAOptions.parse(given, where="the command line")))


@commands.command()
def run(recipe: Annotated[str, typer.Argument(help="A YAML file: a step and its options.")]) -> None:
    """Run the step that a recipe describes."""
    from neuroalign.pipeline import run_recipe

    _show(run_recipe(recipe))


@commands.command()
def check(
    path: Annotated[str, typer.Argument(help="A recipe (.yaml), or a store or data set with a manifest.")],
) -> None:
    """Check a recipe, or every byte of a store against its manifest."""
    from neuroalign.pipeline import read_recipe
    from neuroalign.storage import verify

    if Path(path).suffix in (".yaml", ".yml"):
        step, options = read_recipe(path)
        typer.echo(f"{path} is a valid recipe: {step} {options.model_dump(exclude_defaults=True)}")
        return
    verify(path, "full")
    typer.echo(f"{path} is whole: every file has the size and sha256 of its manifest.")


@commands.command()
def report(
    result: Annotated[str, typer.Argument(help="A result.zarr of encode or decode.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The page to write.")] = "report.html",
) -> None:
    """Write the page of a saved result again."""
    from neuroalign.evaluation import Result

    typer.echo(f"Open {Path(Result.open(result).to_html(out)).resolve()}")


@commands.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="Name of a data set; without it the list of all.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Write the labelled tables of the set to this folder.")
    ] = None,
) -> None:
    """Fetch a public data set, and turn it into labelled tables."""
    from neuroalign.datasets import fetch as get
    from neuroalign.datasets import list_datasets, prepare, read_card

    if name is None:
        for known in list_datasets():
            typer.echo(f"{known:<32} {read_card(known).title}")
        return
    card = read_card(name)
    typer.echo(f"{card.title}\nlicence: {card.licence}\npaper:   {card.paper}")
    folder = get(name)
    typer.echo(f"files:   {folder}")
    if out is not None:
        for table, path in prepare(name, out, folder).items():
            typer.echo(f"  {table:<20} {path}")


@commands.command()
def simulate(
    out: Annotated[str, typer.Argument(help="Folder to write the BIDS data set to.")],
    subjects: Annotated[int, typer.Option(help="Number of subjects.")] = 3,
    images: Annotated[int, typer.Option(help="Number of images.")] = 144,
    repeats: Annotated[int, typer.Option(help="How often each image is shown.")] = 4,
    modalities: Annotated[str, typer.Option(help="Of eeg, ieeg, meg and fmri.")] = "eeg,ieeg,meg,fmri",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a BIDS data set with a known answer: which layer drives which sites, when, and how strongly."""
    from neuroalign.datasets import simulate as write

    chosen = [part.strip() for part in modalities.split(",")]
    root = write(
        out,
        n_subjects=subjects,
        n_images=images,
        n_repeats=repeats,
        modalities=chosen,
        random_state=seed,
        overwrite=overwrite,
        progress=True,
    )
    typer.echo(f"Wrote {root}; the truth is in {Path(root) / 'truth.json'}")


@commands.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="Name of a benchmark; without it the list of all.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Options of the script, after --.")] = None,
) -> None:
    """Run a benchmark of the repository, as in: neuroalign bench ridge_cv -- --workload A."""
    from neuroalign.pipeline import bench as run

    names, code = run(name, arguments or ())
    if name is None:
        typer.echo("\n".join(names))
    if code:
        raise typer.Exit(code)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"neuroalign {__version__}")
        raise typer.Exit


@commands.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """How well does a neural network explain a brain?"""


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"note: {message}", err=True)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; give the exit code (0 done, 1 the demo's truth was missed, 2 bad input, 130 stopped).

    Parameters
    ----------
    arguments : list of str, optional
        Words after ``neuroalign``; by default those of the shell.

    Returns
    -------
    int
        The exit code.
    """
    with warnings.catch_warnings():
        # What neuroalign has to say is shown; chatter of libraries is for developers.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", NeuroalignWarning)
        warnings.showwarning = _note
        try:
            commands(args=arguments)
        except NeuroalignError as error:
            typer.echo(f"Error: {error}", err=True)
            return 2
        except OSError as error:  # the place to read or write, not the data
            typer.echo(f"Error: {error}", err=True)
            return 2
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except KeyboardInterrupt:
            code = STOPPED
    if code == STOPPED:
        typer.echo("Stopped; nothing half-written was left.", err=True)
    return code


def script() -> None:
    """Entry point of the ``neuroalign`` command."""
    sys.exit(main())


if __name__ == "__main__":
    script()
