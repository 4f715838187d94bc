"""MNE does the parsing: how files are opened, read in parts, and what is kept of their headers."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import IntegrityError, NeuroalignError, SchemaError, require
from neuroalign.loaders import _fieldtrip

__all__ = [
    "READERS",
    "function_of",
    "open_quietly",
    "read_errors",
    "read_trials",
]

#: Reader -> function of MNE.
READERS = {
    "brainvision": "io.read_raw_brainvision",
    "edf": "io.read_raw_edf",
    "bdf": "io.read_raw_bdf",
    "fif": "io.read_raw_fif",
    "fif-epochs": "read_epochs",
    "fif-average": "read_evokeds",
    "eeglab": "io.read_raw_eeglab",
    "eeglab-epochs": "io.read_epochs_eeglab",
    "ctf": "io.read_raw_ctf",
    "kit": "io.read_raw_kit",
    "cnt": "io.read_raw_cnt",
    "egi": "io.read_raw_egi",
    "mff": "io.read_raw_egi",
    "nihon": "io.read_raw_nihon",
    "persyst": "io.read_raw_persyst",
    "bti": "io.read_raw_bti",
    "fieldtrip": "",  # put together by `_fieldtrip.read` from what pymatreader gives
}
_WITHOUT_PRELOAD = ("fif-average", "eeglab-epochs", "fieldtrip")
#: Said by MNE about files that are read correctly, or checked by us before MNE sees them.
_HARMLESS = re.compile(
    "does not conform to MNE naming|different (high|low)pass filters|Number of records from the header|"
    "Online software filter|not conform to MNE|Invalid measurement date|software filters detected|"
    "Highpass cutoff frequency|is not in the expected format|Setting channel types to misc|"
    "Could not parse meas date|No PNT file exists"
)


# Warning filters belong to the process: two threads that change them at once would undo each other.
_filters = threading.Lock()


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn whatever a parser raises over damaged bytes into one error that names the file."""
    try:
        yield
    except (NeuroalignError, Warning):
        raise
    except FileNotFoundError as error:
        raise IntegrityError(
            "A file is missing.",
            got=str(error),
            where=path,
            fix="keep all files of the recording together, under the names that they had when it was saved",
        ) from error
    except Exception as error:  # MNE raises anything over damaged bytes, down to a bare Exception
        raise IntegrityError(
            "MNE cannot read the file.",
            expected="a whole file of this format",
            got=f"{type(error).__name__}: {error}",
            where=path,
            fix="copy or download it again, or open it with mne itself to see what it holds",
        ) from error


def function_of(reader: str) -> Callable[..., Any]:
    """Give the function that opens a recording."""
    return _fieldtrip.read if reader == "fieldtrip" else attrgetter(READERS[reader])(require("mne", "eeg"))


def open_quietly(path: str, reader: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Open a recording with MNE.

    Parameters
    ----------
    path : str
        File or folder.
    reader : str
        A key of `READERS`.
    options : dict
        Keyword arguments of MNE's function.

    Returns
    -------
    recording : mne.io.BaseRaw, mne.BaseEpochs or list of mne.Evoked
        The open recording.
    notes : list of str
        What MNE warned about and a user should know.

    Raises
    ------
    IntegrityError
        If MNE cannot read the file.
    SchemaError
        If channel names repeat, or MNE does not know an option.
    """
    function = function_of(reader)
    packed = path.endswith(".gz")
    if reader not in _WITHOUT_PRELOAD:
        options = {"preload": packed, **options}
    with (
        _filters,
        warnings.catch_warnings(record=True) as caught,
        read_errors(path),
        tempfile.TemporaryDirectory() if packed else nullcontext("") as folder,
        redirect_stdout(io.StringIO()) if reader in ("persyst", "mff") else nullcontext(),  # these print
    ):
        warnings.simplefilter("always")
        # MNE jumps back and forth, and each jump back decompresses from the start: 8 s for 2 MB of averages.
        source = _unpacked(path, folder) if packed and reader != "fif" else path
        recording = function(source, verbose="WARNING", **options)
    folder = f"{Path(path).parent}/"
    notes = [str(w.message).replace(folder, "") for w in caught if issubclass(w.category, RuntimeWarning | UserWarning)]
    for note in notes:
        if "not unique" in note:
            raise SchemaError(
                "Channel names repeat.", expected="unique names", got=note, where=path, fix="rename them in the file"
            )
    return recording, [note for note in notes if not _HARMLESS.search(note)]


def _unpacked(path: str, folder: str) -> str:
    target = Path(folder) / Path(path).name.removesuffix(".gz")
    with gzip.open(path, "rb") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 2**20)
    return str(target)


def read_trials(
    recording: Any, trials: NDArray[np.intp], picks: NDArray[np.intp], times: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Read some trials of epochs, or conditions of averages; all indices sorted.

    Returns
    -------
    ndarray, shape (n_trials, n_channels, n_times)
        In MNE's units.
    """
    out = np.empty((trials.size, picks.size, times.size), dtype=np.float32)
    for k, trial in enumerate(trials):
        if isinstance(recording, list):
            values = recording[trial].data[picks]
        else:
            values = recording[int(trial)].get_data(picks=picks, copy=False, verbose="ERROR")[0]
        out[k] = values[:, times]
    return out
