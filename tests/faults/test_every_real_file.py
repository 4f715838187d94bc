"""The invariant of every reader, on every real file: a typed error, or the original data; within 5 s and 1 GB.

Formats without a checksum cannot notice a flipped byte among their samples: such a file may give other numbers, and
nothing worse. What each kind of file promises stands in `KINDS`.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import neuroalign as na
from neuroalign.errors import NeuroalignError
from neuroalign.loaders import read_events, read_tsv
from neuroalign.loaders._arrays import read_mat, read_npy, read_npz

CPU_SECONDS, EXTRA_BYTES = 5.0, 2**30
# The same damage in every run; another number draws other damage.
SEED = int(os.environ.get("NEUROALIGN_FUZZ_SEED", "0"))


@dataclass(frozen=True)
class Kind:
    """How files of a pattern are opened, and what they promise.

    checked : a checksum covers all that is read, so that any other byte is refused (or changes nothing).
    open_ended : a cut between two rows or samples cannot be told from a shorter file.
    alone : nothing beside the file is needed.
    """

    pattern: str
    read: Callable[[Path], Any] | None
    checked: bool = False
    open_ended: bool = False
    alone: bool = True
    data: tuple[str, ...] = field(default=())


def load(**options: Any) -> Callable[[Path], Any]:
    return lambda path: na.load(path, lazy=False, **options)


def beside(suffix: str, **options: Any) -> Callable[[Path], Any]:
    """Open the header that belongs to a data or side file."""
    return lambda path: na.load(path.with_suffix(suffix), lazy=False, **options)


def inside(levels: int, **options: Any) -> Callable[[Path], Any]:
    """Open a folder above."""
    return lambda path: na.load(path.parents[levels], **options)


def table(**options: Any) -> Callable[[Path], Any]:
    return lambda path: na.loaders.read_table(path, **options)


def arrays(path: Path) -> Any:
    """All arrays of a file, by name."""
    read = {".npy": read_npy, ".npz": read_npz, ".mat": read_mat}[path.suffix]
    return {name: values for name, values in read(path, EXTRA_BYTES).items() if values.dtype.kind in "biufU"}


def sheet(path: Path) -> Any:
    return read_tsv(path).to_xarray()


def image(path: Path) -> Any:
    """The one picture in a folder of its own."""
    return na.load(path.parent).load()


def events(path: Path) -> Any:
    return read_events(path).to_xarray()


SQUARE = {"dims": ("roi", "roi_other")}
KINDS = [
    Kind("*README.md", None),
    Kind("*SOURCE_*", None),
    # Sensors
    Kind("eeg-formats/*.edf", load()),
    Kind("eeg-formats/MB0400FU.EDF", load()),
    Kind("eeg-formats/test.bdf", load()),
    Kind("eeg-formats/test.vhdr", load(), alone=False),
    Kind("eeg-formats/test.eeg", beside(".vhdr"), open_ended=True, alone=False),
    Kind("eeg-formats/test.vmrk", beside(".vhdr"), open_ended=True, alone=False),
    Kind("eeg-formats/test_egi.raw", load()),
    Kind("eeg-formats/test_egi.txt", None),  # the same recording as text, for MNE's own tests
    Kind("eeg-formats/MB0400FU.EEG", load(), alone=False),
    Kind(
        "eeg-formats/MB0400FU.*",
        lambda path: na.load(path.with_suffix(".EEG"), lazy=False),
        open_ended=True,
        alone=False,
    ),
    Kind("eeg-formats/scan41_short.cnt", load(data_format="int16")),
    Kind(
        "eeg-formats/*.elc",
        lambda path: na.load(path.with_name("test_edf_stim_channel.edf"), montage=str(path)),
        open_ended=True,
        alone=False,
    ),
    Kind(
        "eeg-formats/biosemi*.txt",
        lambda path: na.load(path.with_name("test.bdf"), montage=str(path)),
        open_ended=True,
        alone=False,
    ),
    Kind("eeg-formats/tiny_bids/README", None),
    Kind("eeg-formats/tiny_bids/*.json", None),
    Kind("eeg-formats/tiny_bids/participants.tsv", inside(0, subject="01"), open_ended=True, alone=False),
    Kind("eeg-formats/tiny_bids/sub-01/sub-01_sessions.tsv", inside(1, subject="01"), open_ended=True, alone=False),
    Kind("eeg-formats/tiny_bids/sub-01/ses-eeg/*_scans.tsv", inside(2, subject="01"), open_ended=True, alone=False),
    Kind(
        "eeg-formats/tiny_bids/sub-01/ses-eeg/eeg/*_space-CapTrak_*",
        inside(3, subject="01", space="CapTrak"),
        open_ended=True,
        alone=False,
    ),
    Kind("eeg-formats/tiny_bids/sub-01/ses-eeg/eeg/*", inside(3, subject="01"), open_ended=True, alone=False),
    Kind("eeglab-visattention-32ch/eeglab_data.*", beside(".set"), alone=False),
    Kind("eeglab-visattention-32ch/eeglab_data_epochs_ica.*", beside(".set"), alone=False),
    Kind(
        "eeglab-visattention-32ch/*.locs",
        lambda path: na.load(path.with_name("eeglab_data.set"), montage=str(path)),
        open_ended=True,
        alone=False,
    ),
    Kind("ieeg-mne-misc/*.edf", load(modality="ieeg")),
    Kind("ieeg-mne-misc/*.fif", load()),
    Kind("ieeg-mne-misc/sample_ecog.mat", arrays),
    Kind("ieeg-mne-misc/*_fsaverage.tsv", None),  # a column without a name, which the strict reader refuses
    Kind("ieeg-mne-misc/*.tsv", sheet, open_ended=True),
    Kind("ieeg-mne-misc/persyst/*", beside(".lay", modality="ieeg"), alone=False),
    Kind("ieeg-naplib/*.edf", load(modality="ieeg")),
    Kind("meg-ctf-kit-bti/bti/*.fif", load()),
    Kind("meg-ctf-kit-bti/bti/test_pdf_linux", load(), alone=False),
    Kind(
        "meg-ctf-kit-bti/bti/*",
        lambda path: na.load(path.with_name("test_pdf_linux"), lazy=False),
        open_ended=True,
        alone=False,
    ),
    Kind("meg-ctf-kit-bti/ctf/*.fif", load()),
    Kind("meg-ctf-kit-bti/kit/test.sqd", load()),
    Kind("meg-ctf-kit-bti/kit/test_umd-raw.sqd", load()),
    Kind("meg-ctf-kit-bti/kit/test_mrk.sqd", None),  # a marker measurement without channels of its own
    Kind("meg-ctf-kit-bti/kit/*", None),  # digitised points, given to read_meg as elp= and hsp=
    Kind("meg-ctf-kit-bti/somMDYO-18av.ds/*", inside(0, lazy=False), open_ended=True, alone=False),
    Kind("meg-ctf-kit-bti/*.txt", None),
    Kind("meg-mne-audvis/*-ave.fif.gz", load(), checked=True),
    Kind("meg-mne-audvis/*_raw_sss.fif", load()),
    Kind("meg-mne-audvis/*-eve.fif", lambda path: read_events(path, sfreq=300.3).to_xarray()),
    Kind("meg-mne-audvis/*.stc", load(), alone=False),
    Kind("meg-mne-audvis/fieldtrip_epoched_v7.mat", load(), checked=True),
    Kind("meg-mne-audvis/*-cov.fif*", load()),
    Kind("meg-mne-audvis/*", None),  # transforms and source spaces: geometry, no recordings
    Kind("cocktail-party-eeg/1_*.mat", table(variable="eeg", dims=("time", "channel")), checked=True),
    Kind("cocktail-party-eeg/*.mat", arrays, checked=True),
    Kind("seeg-tensorpac-motor/*.npz", table(variable="data", dims=("trial", "time")), checked=True),
    # fMRI
    Kind(
        "*sub-01_task-visualcontrol_*_bold.nii.gz",
        lambda path: na.loaders.read_fmri(path, lazy=False, tr=1.0),
        checked=True,
    ),
    Kind("*.nii.gz", lambda path: na.loaders.read_fmri(path, lazy=False, tr=2.5), checked=True),
    Kind("nibabel-nifti-gifti-cifti/*.dlabel.nii", load()),
    Kind("nibabel-nifti-gifti-cifti/*.d*.nii", load()),
    Kind("nibabel-nifti-gifti-cifti/*.ptseries.nii", load()),
    Kind("nibabel-nifti-gifti-cifti/*.nii", lambda path: na.loaders.read_fmri(path, lazy=False, tr=2.0)),
    Kind("nibabel-nifti-gifti-cifti/task.func.gii", lambda path: na.load(path, hemi="L", tr=2.0)),
    Kind("*_lh.gii", load()),
    Kind("*.gii", load(hemi="R")),
    Kind("fmriprep-visualcontrol/*.tsv", sheet, open_ended=True),
    # Tables, spikes and stimuli
    Kind("brainspace-hcp/*_connectivity_matrix.csv", table(**SQUARE), open_ended=True),
    Kind("brainspace-hcp/*.csv", table(dims=("vertex", "map_name")), open_ended=True),
    Kind("haxby2001-pymvpa/haxby2001/*/bold_events.tsv", events, open_ended=True),
    Kind("haxby2001-pymvpa/*", None),  # attributes and onsets of other packages' layouts
    Kind("*.npz", arrays, checked=True),
    Kind("*/nltk_stopwords.npy", None),  # a pickle; refused, see test_pickles
    Kind("*.npy", arrays),
    Kind("*/92_*.mat", arrays, checked=True),
    Kind("*.mat", arrays),
    Kind("mitchell2008-60nouns/*", None),  # text of a layout of its own
    Kind("narratives-black-glove/*", None),  # words with their times, and vectors as JSON
    Kind(
        "nitime-fmri-spikes/grasshopper_spike_times?.txt",
        load(modality="spikes", units="us", stop=10.0),
        open_ended=True,
    ),
    Kind("nitime-fmri-spikes/*.csv", table(dims=("time", "roi")), open_ended=True),
    Kind("nitime-fmri-spikes/*", None),  # a stimulus as text
    Kind("net2brain-78images-fmri/stimuli/*", image),
    Kind("net2brain-78images-fmri/*", None),  # tables of results
]


def kind_of(name: str) -> Kind:
    return next((kind for kind in KINDS if fnmatch.fnmatch(name, kind.pattern)), Kind(name, None, data=("unknown",)))


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def cut_at_the_end(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: -int(rng.integers(1, min(64, len(content)) + 1))]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def header(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(4):
        data[rng.integers(min(len(data), 4096))] = int(rng.integers(256))
    return bytes(data)


def zero(content: bytes, rng: np.random.Generator) -> bytes:
    at, n = int(rng.integers(len(content))), int(rng.integers(1, 512))
    return content[:at] + bytes(len(content[at : at + n])) + content[at + n :]


def swap(content: bytes, rng: np.random.Generator) -> bytes:
    n = max(1, min(64, len(content) // 4))
    a, b = sorted(rng.integers(0, max(1, len(content) - n), 2).tolist())
    if b - a < n:
        return content[::-1]
    return content[:a] + content[b : b + n] + content[a + n : b] + content[a : a + n] + content[b + n :]


MUTATORS = (cut, cut_at_the_end, flip, header, zero, swap)
CUTS = (cut, cut_at_the_end)


def values_of(read: Any) -> dict[str, np.ndarray]:
    """Everything that was read, as arrays by name."""
    if isinstance(read, dict):
        return read
    if isinstance(read, xr.DataTree):
        return {f"{node.path}/{k}": v for node in read.leaves for k, v in values_of(node.to_dataset()).items()}
    if isinstance(read, xr.DataArray):
        return {"values": read.values}
    return {str(name): variable.values for name, variable in read.data_vars.items()} or {
        str(name): coord.values for name, coord in read.coords.items()
    }


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield f"{folder.name}/{path.relative_to(folder).as_posix()}", path


def workplace(path: Path, root: Path, target: Path, alone: bool) -> Path:
    """Make a folder for a damaged copy of a file, with its neighbours where they are needed; give the place."""
    shutil.rmtree(target, ignore_errors=True)
    inner = path.relative_to(root)
    top = root / inner.parts[0]
    if alone or top == path:
        place = target / path.parent.name / path.name
        place.parent.mkdir(parents=True)
        for other in path.parent.iterdir() if not alone else ():
            if other.is_file() and other != path:
                shutil.copyfile(other, place.with_name(other.name))
        return place
    shutil.copytree(top, target / top.name, copy_function=shutil.copyfile)
    return target / inner


def status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measured(read: Callable[[Path], Any], place: Path) -> tuple[dict[str, np.ndarray] | NeuroalignError, float, int]:
    """What came of it, CPU seconds, and peak memory beyond what was there."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out: Any = values_of(read(place))
        except NeuroalignError as error:
            out = error
    return out, time.process_time() - start, status("VmHWM") - before


SETS = (
    "brainspace-hcp", "cocktail-party-eeg", "eeg-formats", "eeglab-visattention-32ch", "fmriprep-visualcontrol",
    "haxby2001-pymvpa", "ieeg-mne-misc", "ieeg-naplib", "meg-ctf-kit-bti", "meg-mne-audvis", "mitchell2008-60nouns",
    "narratives-black-glove", "net2brain-78images-fmri", "nibabel-nifti-gifti-cifti", "nitime-fmri-spikes",
    "objects81-fmri-alexnet-w2v", "rdm92-kriegeskorte", "seeg-tensorpac-motor",
)  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_every_file_has_a_kind(real_data, name):
    unknown = [file for file, _ in files_of(real_data(name)) if kind_of(file).data]
    assert unknown == []


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures memory as Linux does")
@pytest.mark.parametrize("name", SETS)
def test_a_damaged_file_is_refused_or_read_as_it_was(real_data, tmp_path, name):
    root, seen = real_data(name), {}
    for file, path in files_of(root):
        kind = kind_of(file)
        if kind.read is None or not path.stat().st_size:
            continue
        seen[kind.pattern] = count = seen.get(kind.pattern, 0) + 1
        rng = np.random.default_rng([SEED, len(file), path.stat().st_size])
        place = workplace(path, root, tmp_path / "work", alone=kind.alone)
        content = path.read_bytes()
        place.write_bytes(content)
        whole, seconds, memory = measured(kind.read, place)
        assert isinstance(whole, dict), f"{file}: {whole}"
        assert whole, file
        for mutate in MUTATORS if count <= 12 else (MUTATORS[count % len(MUTATORS)],):  # runs that are all alike
            damaged = mutate(content, rng)
            place.write_bytes(damaged)
            got, seconds, memory = measured(kind.read, place)
            what = f"{file}, {mutate.__name__}: "
            assert seconds < CPU_SECONDS, f"{what}{seconds:.1f} s"
            assert memory < EXTRA_BYTES, f"{what}{memory / 1e6:.0f} MB"
            if isinstance(got, NeuroalignError) or equal(got, whole):
                continue
            assert not kind.checked, f"{what}other data in silence"
            assert mutate not in CUTS or kind.open_ended, f"{what}a cut file was read as if it were whole"
