"""What BIDS asks for beside the recordings: tables and descriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroalign._version import __version__
from neuroalign.datasets.simulate._settings import BOLD, TASK, SensorSettings
from neuroalign.datasets.simulate._sites import FIDUCIALS, Sites

__all__ = [
    "bold_json",
    "channels_table",
    "electrodes_table",
    "events_table",
    "sensor_json",
    "space_json",
    "write_description",
    "write_json",
    "write_stimuli",
    "write_table",
]

_README = """# Simulated recordings

Written by `neuroalign.datasets.simulate`. {n_subjects} simulated subjects look at {n_images} generated pictures,
{n_repeats} times each, one repeat a run. At known sites the responses are a linear map of layer `{layer}` of
`neuroalign.datasets.simulate_network({seed})`; everywhere else there is only noise.

`truth.json` holds what a correct analysis must find: layer, sites, latencies, variances and ceilings.
Nobody was recorded for this data set.
"""

_EVENT_COLUMNS = {
    "trial_type": {"Description": "Family of the picture"},
    "stimulus_id": {"Description": "Identity of the picture, as in stimuli/stimuli.tsv"},
    "repeat": {"Description": "How often this picture has been shown, from 1"},
    "stim_file": {"Description": "The picture, relative to the folder stimuli"},
}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, two spaces a level."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a TSV file, numbers with up to 9 digits, ``n/a`` for what is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", float_format="%.9g", lineterminator="\n")


def write_description(root: Path, *, subjects: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write the files at the root of the data set."""
    description = {
        "Name": "Simulated responses to generated pictures",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "License": "CC0",
        "Authors": ["neuroalign"],
        "GeneratedBy": [{"Name": "neuroalign", "Version": __version__}],
    }
    write_json(root / "dataset_description.json", description)
    (root / "README").write_text(_README.format(**facts), encoding="utf-8", newline="\n")
    (root / ".bidsignore").write_text("truth.json\nmanifest.json\n", encoding="utf-8", newline="\n")
    write_table(root / "participants.tsv", pd.DataFrame({"participant_id": [f"sub-{s}" for s in subjects]}))
    write_json(root / f"task-{TASK}_events.json", _EVENT_COLUMNS)


def write_stimuli(root: Path, images: NDArray[np.uint8], table: pd.DataFrame) -> None:
    """Write the pictures as PNG, and their table."""
    from PIL import Image

    folder = root / "stimuli"
    folder.mkdir()
    for name, pixels in zip(table["path"], images, strict=True):
        Image.fromarray(pixels).save(folder / name)
    write_table(folder / "stimuli.tsv", table)
    columns = {
        "path": {"Description": "File in this folder"},
        "category": {"Description": "Family of the picture"},
        "sha256": {"Description": "sha256 of the file"},
    }
    write_json(folder / "stimuli.json", columns)


def events_table(onsets: NDArray[np.float64], duration: float, shown: pd.DataFrame, repeat: int) -> pd.DataFrame:
    """Give one row a trial; `shown` are the rows of the stimulus table in the order of presentation."""
    return pd.DataFrame(
        {
            "onset": np.round(onsets, 6),
            "duration": duration,
            "trial_type": shown["category"].to_numpy(),
            "stimulus_id": shown["stimulus_id"].to_numpy(),
            "repeat": repeat,
            "stim_file": shown["path"].to_numpy(),
        }
    )


def channels_table(sites: Sites, settings: SensorSettings) -> pd.DataFrame:
    """Give one row a channel."""
    kind = {"eeg": "EEG", "ieeg": "SEEG", "meg": "MEGMAG"}[settings.modality]
    table = pd.DataFrame({"name": sites.names, "type": kind, "units": "T" if settings.modality == "meg" else "µV"})
    nyquist = settings.sfreq / 2
    table = table.assign(low_cutoff=np.nan, high_cutoff=nyquist, sampling_frequency=settings.sfreq, status="good")
    if settings.modality == "ieeg":
        table["group"] = [name.rstrip("0123456789") for name in sites.names]
    return table


def electrodes_table(sites: Sites, modality: str) -> pd.DataFrame:
    """Give one row an electrode, positions in m."""
    x, y, z = np.round(sites.positions, 6).T
    table = pd.DataFrame({"name": sites.names, "x": x, "y": y, "z": z})
    return table.assign(size=5.0) if modality == "ieeg" else table  # mm², of a depth contact


def space_json(modality: str) -> dict[str, Any]:
    """Describe the coordinate system of electrodes or sensors."""
    if modality == "ieeg":
        return {"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "m"}
    landmarks = {name: list(position) for name, position in FIDUCIALS.items()}
    anatomical = {
        "AnatomicalLandmarkCoordinates": landmarks,
        "AnatomicalLandmarkCoordinateSystem": "CapTrak" if modality == "eeg" else "ElektaNeuromag",
        "AnatomicalLandmarkCoordinateUnits": "m",
    }
    if modality == "eeg":
        return {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m", **anatomical}
    return {"MEGCoordinateSystem": "ElektaNeuromag", "MEGCoordinateUnits": "m", **anatomical}


def sensor_json(settings: SensorSettings, *, n_channels: int, n_samples: int) -> dict[str, Any]:
    """Describe one run of an electrophysiological recording."""
    common = {
        "TaskName": TASK,
        "TaskDescription": "Generated pictures, one repeat of each in every run",
        "Manufacturer": "simulated",
        "SamplingFrequency": settings.sfreq,
        "PowerLineFrequency": 50,
        "SoftwareFilters": "n/a",
        "RecordingDuration": n_samples / settings.sfreq,
        "RecordingType": "continuous",
    }
    if settings.modality == "eeg":
        own: dict[str, Any] = {
            "EEGReference": "infinity (simulated)",
            "EEGGround": "n/a",
            "EEGChannelCount": n_channels,
        }
    elif settings.modality == "ieeg":
        own = {"iEEGReference": "infinity (simulated)", "SEEGChannelCount": n_channels}
    else:
        own = {"DewarPosition": "upright", "DigitizedLandmarks": True, "DigitizedHeadPoints": False}
        own["MEGChannelCount"] = n_channels
    return common | own


def bold_json() -> dict[str, Any]:
    """Describe an fMRI run."""
    return {
        "TaskName": TASK,
        "RepetitionTime": BOLD.tr,
        "Manufacturer": "simulated",
        "MagneticFieldStrength": 3,
        "SliceTiming": [0.0] * BOLD.shape[2],
    }
