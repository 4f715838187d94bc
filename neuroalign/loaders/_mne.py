"""MNE does the parsing: how files are opened, read in parts, and what is kept of their headers."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroalign.errors import IntegrityError, NeuroalignError, SchemaError, require

__all__ = [
    "READERS",
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
}
_WITHOUT_PRELOAD = ("fif-average", "eeglab-epochs")
#: Said by MNE about files that are read correctly, or checked by us before MNE sees them.
_HARMLESS = re.compile(
    "does not conform to MNE naming|different (high|low)pass filters|Number of records from the header|"
    "Online software filter|not conform to MNE|Invalid measurement date|software filters detected|"
    "Highpass cutoff frequency|is not in the expected format|Setting channel types to misc"
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
        raise IntegrityError("A file is missing.", got=str(error), where=path) from error
    except Exception as error:  # MNE raises anything over damaged bytes, down to a bare Exception
        raise IntegrityError(
            "MNE cannot read the file.",
            expected="a whole file of this format",
            got=f"{type(error).__name__}: {error}",
            where=path,
            fix="copy or download it again, or open it with mne itself to see what it holds",
        ) from error


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
    mne = require("mne", "eeg")
    function = attrgetter(READERS[reader])(mne)
    packed = path.endswith(".gz")
    if reader not in _WITHOUT_PRELOAD:
        options = {"preload": packed, **options}
    with (
        _filters,
        warnings.catch_warnings(record=True) as caught,
        read_errors(path),
        tempfile.TemporaryDirectory() as folder,
    ):
        warnings.simplefilter("always")
        # MNE jumps back and forth, and each jump back decompresses from the start: 8 s for 2 MB of averages.
        source = _unpacked(path, folder) if packed and reader != "fif" else path
        recording = function(source, verbose="WARNING", **options)
    notes = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning | UserWarning)]
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
