"""Turn the raw files of a public set into labelled tables of the data model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuroalign.datasets.cards import read_card
from neuroalign.datasets.fetch import fetch
from neuroalign.errors import ConfigError, IntegrityError, SchemaError, require
from neuroalign.rsa import from_square
from neuroalign.schema import features, fmri_regions, sensors, stamp, stimulus_table, time_index
from neuroalign.storage import publish, save

__all__ = ["PREPARE", "prepare"]

Tables = dict[str, xr.Dataset | xr.DataArray]


def prepare(name: str, out: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Write a public set as labelled stores.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    out : path-like
        Folder for the stores, one ``<table>.zarr`` a table.
    folder : path-like, optional
        Folder of the raw files; by default they are fetched.

    Returns
    -------
    dict of str to pathlib.Path
        The stores by name of the table, and further files such as ``atlas``.

    Raises
    ------
    ConfigError
        If the set is unknown.
    IntegrityError
        If a raw file is missing or damaged, or the disk is full.
    SchemaError
        If a raw file does not hold what it should.
    """
    card = read_card(name)
    if card.prepare not in PREPARE:
        raise ConfigError("No such preparation.", expected=" | ".join(PREPARE), got=card.prepare, where=name)
    raw = fetch(name) if folder is None else Path(folder)
    sources = [raw / file.name for file in card.files]
    missing = [path.name for path in sources if not path.is_file()]
    if missing:
        raise IntegrityError("Files of the set are missing.", expected=missing, where=raw, fix=f"fetch {name!r} again")
    out, written = Path(out), {}
    for table, obj in PREPARE[card.prepare](raw).items():
        described: Any = obj.assign_attrs(dataset=card.name, licence=card.licence, paper=card.paper)
        labelled = stamp(described, "prepare", sources=sources, dataset=name, table=table)
        written[table] = save(labelled, out / f"{table}.zarr", inputs=sources)
    for label, source in _COPIES.get(card.prepare, {}).items():
        target = out / f"{label}{''.join(Path(source).suffixes)}"
        with publish(target) as temporary:
            temporary.write_bytes((raw / source).read_bytes())
        written[label] = target
    return written


def _mat(path: Path, *names: str) -> list[Any]:
    """Read variables of a MATLAB file."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=names)
        return [content[name] for name in names]
    except KeyError as error:
        raise SchemaError("A MATLAB file lacks a variable.", expected=", ".join(names), where=path) from error
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise IntegrityError("A MATLAB file could not be read.", got=f"{error}", where=path) from error


def _check_shape(values: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    if values.shape != shape:
        raise SchemaError(
            "A table has another shape than the set describes.", expected=shape, got=values.shape, where=where
        )


def objects81(folder: Path) -> Tables:
    """Tables of ``objects81-fmri-alexnet-w2v``.

    Parameters
    ----------
    folder : pathlib.Path
        The raw files.

    Returns
    -------
    dict
        ``responses`` (stimulus, voxel) with the region of each voxel, ``alexnet`` and ``word2vec`` (stimulus, unit).
    """
    with np.load(folder / "roi_data.npz", allow_pickle=False) as arrays:
        betas, indices = arrays["betas"], arrays["indices"].ravel().astype(int)
        names, regions = arrays["conds"].astype(str), arrays["rois"].astype(str)
    _check_shape(betas, (len(names), len(indices)), "betas of roi_data.npz")
    roi = regions[indices - 1].astype(object)  # the source counts regions from 1
    place = np.array([np.count_nonzero(roi[:k] == roi[k]) for k in range(len(roi))])
    voxel = np.array([f"{region}-{k:03d}" for region, k in zip(roi, place, strict=True)], dtype=object)
    responses = xr.DataArray(
        betas.astype("float32"),
        dims=("stimulus", "voxel"),
        coords={"stimulus": names.astype(object), "voxel": voxel, "roi": ("voxel", roi)},
        name="responses",
        attrs={"units": "a.u.", "estimate": "mean over 10 images of the betas of a general linear model"},
    )
    tables: Tables = {"responses": responses}
    for layer in ("alexnet", "word2vec"):
        (values,) = _mat(folder / f"{layer}.mat", layer)
        tables[layer] = features(values, stimulus=names, layer=layer)
    return tables


def cocktail(folder: Path) -> Tables:
    """Tables of ``cocktail-party-eeg``.

    Parameters
    ----------
    folder : pathlib.Path
        The raw files.

    Returns
    -------
    dict
        ``eeg`` (channel, time) in V; ``attended`` and ``unattended`` envelopes (time, unit). The five trials follow
        each other, told apart by the coordinate ``run`` along time.

    Notes
    -----
    The source states no unit: a channel has an RMS of about 8, which only µV makes plausible, so µV are assumed. The
    channels are taken as A1 to D32 of BioSemi's 128; their correlations fall with the distance of these positions.
    The two mastoid channels of the source sum to zero in every sample, so the recording is already referenced to
    their mean; subtracting it (done here all the same) changes nothing. The male, unattended stream of trial k is
    entry ``blk1_M_Order[k]`` (from 1) of its file.
    """
    sfreq, runs = 128.0, range(1, 6)
    (order,) = _mat(folder / "competing_speaker_order.mat", "blk1_M_Order")
    (female,), (male,) = (_mat(folder / f"{talker}_env.mat", "stim1") for talker in "FM")
    trials = [_cocktail_trial(folder / f"1_{run}.mat") for run in runs]
    n_times = [len(trial) for trial in trials]
    run = np.repeat(np.array(runs), n_times)
    names, positions = _biosemi128()
    eeg = sensors(
        np.concatenate(trials).T,
        modality="eeg",
        sfreq=sfreq,
        channel=names,
        units="uV",
        positions=positions,
        coords={"reference": ["mastoids"] * len(names)},
        attrs={"coord_frame": "head", "reference": "mean of the mastoids", "units_of_source": "not stated; µV assumed"}
        | {"filter_of_source": "not stated; no power above 8 Hz"},
    ).assign_coords(run=("time", run))
    chosen = {
        "attended": [female[0, k - 1] for k in runs],
        "unattended": [male[0, int(order[0, k - 1]) - 1] for k in runs],
    }
    tables: Tables = {"eeg": eeg}
    for name, streams in chosen.items():
        if [len(stream) for stream in streams] != n_times:
            raise SchemaError("Envelope and EEG have different lengths.", expected=n_times, where=name)
        table = _timed(np.concatenate(streams), ["envelope"], name, sfreq)
        tables[name] = table.assign_coords(run=("time", run))
    return tables


def _cocktail_trial(path: Path) -> np.ndarray:
    eeg, mastoids = _mat(path, "eeg", "mast")
    _check_shape(eeg, (len(mastoids), 128), path.name)
    return eeg - mastoids.mean(axis=1, keepdims=True)


def _biosemi128() -> tuple[list[str], np.ndarray]:
    """Names and positions (m) of the 128 BioSemi channels on a sphere."""
    montage = require("mne", "eeg").channels.make_standard_montage("biosemi128")
    positions = montage.get_positions()["ch_pos"]
    return list(montage.ch_names), np.array([positions[name] for name in montage.ch_names])


def _timed(values: np.ndarray, unit: Any, name: str, sfreq: float, **attrs: Any) -> xr.DataArray:
    """A feature that unfolds in time."""
    return xr.DataArray(
        np.asarray(values, "float32"),
        dims=("time", "unit"),
        coords={"time": time_index(len(values), sfreq), "unit": np.asarray(unit)},
        name=name,
        attrs={"units": "a.u.", "sfreq": sfreq, "first_sample": 0, **attrs},
    )


def narratives(folder: Path) -> Tables:
    """Tables of ``narratives-black-glove``.

    Parameters
    ----------
    folder : pathlib.Path
        The raw files.

    Returns
    -------
    dict
        ``responses`` (time, roi) with the centre of each parcel in mm and its label in the atlas; ``words``
        (time, unit): mean vector of the words of each volume, zero where there is none; ``word_rate`` (time, unit):
        their number.

    Notes
    -----
    The transcript of the source puts each word exactly two volumes (3 s) after the volume of its onset in the
    source's ``black_gentle.csv``, and this is kept. Auditory parcels therefore follow the word rate by 0 to 2 volumes,
    not by the 3 to 4 that the haemodynamic response takes: use delays from 0.
    """
    tr = 1.5
    bold = np.load(folder / "story_parcels.npy", allow_pickle=False)
    lines = (folder / "story_transcript.txt").read_text(encoding="utf-8").split("\n")[: len(bold)]
    vectors = {word: np.array(v) for word, v in json.loads((folder / "glove_embeddings.json").read_text()).items()}
    said = [[word for word in line.strip().split(",") if word] for line in lines]
    unknown = sorted({word for words in said for word in words} - set(vectors))
    if unknown or len(lines) != len(bold):
        raise SchemaError(
            "The transcript does not fit.",
            expected=f"{len(bold)} lines of known words",
            got=f"{len(lines)} lines; unknown: {unknown[:5]}",
            where="story_transcript.txt",
        )
    nothing = np.zeros(len(next(iter(vectors.values()))))
    means = np.array([np.mean([vectors[word] for word in words], axis=0) if words else nothing for words in said])
    counts = np.array([[len(words)] for words in said])
    shared = {"tr": tr, "volumes_without_words": "zero", "delay_of_source": "words stand 3 s after their onset"}
    return {
        "responses": _parcels(bold, folder / "story_atlas.nii.gz", tr),
        "words": _timed(means, np.arange(means.shape[1]), "words", 1 / tr, embedding="GloVe", **shared),
        "word_rate": _timed(counts, ["word_rate"], "word_rate", 1 / tr, **shared),
    }


def _parcels(bold: np.ndarray, atlas: Path, tr: float) -> xr.DataArray:
    image = require("nibabel", "fmri").load(atlas)
    volume = np.rint(np.asarray(image.dataobj)).astype(int)
    labels = np.arange(1, bold.shape[1] + 1)
    if not np.array_equal(np.unique(volume), np.arange(len(labels) + 1)):
        raise SchemaError("The atlas does not fit.", expected=f"labels 0 to {len(labels)}", where=atlas)
    sizes = np.bincount(volume.ravel())[1:]
    grids = np.indices(volume.shape)
    centres = np.stack([np.bincount(volume.ravel(), grid.ravel())[1:] / sizes for grid in grids], axis=1)
    xyz = centres @ image.affine[:3, :3].T + image.affine[:3, 3]
    coords = {axis: xyz[:, k] for k, axis in enumerate("xyz")}
    coords |= {"label": labels, "n_voxels": sizes, "hemi": np.where(xyz[:, 0] < 0, "L", "R")}
    ds = fmri_regions(
        bold.astype("float32"),
        roi=[f"parcel-{k:03d}" for k in labels],
        tr=tr,
        coords=coords,
        attrs={"atlas": "atlas.nii.gz", "scaling": "each parcel is centred by the source; its scale is not stated"},
    )
    first = {"first_sample": 0, "scaling": ds.attrs["scaling"]}
    return ds["bold"].rename("responses").assign_attrs(first)


def rdm92(folder: Path) -> Tables:
    """Tables of ``rdm92-kriegeskorte``: dissimilarities (correlation distance) of 92 object images.

    Parameters
    ----------
    folder : pathlib.Path
        The raw files.

    Returns
    -------
    dict
        ``human_it`` (subject, session, pair), ``monkey_it`` (pair), ``human_it_published`` (pair, the mean of
        ``human_it``), ``models`` (model, pair), ``judgements`` (subject, pair), and ``stimuli`` with the images.
    """
    published, pictures = _mat(
        folder / "Kriegeskorte_Neuron2008_supplementalData.mat", "RDMs_mIT_hIT_fig1", "stimuli_92objs"
    )
    (brains,) = _mat(folder / "92_brainRDMs.mat", "RDMs")
    (models,) = _mat(folder / "92_modelRDMs.mat", "Models")
    (judged,) = _mat(folder / "92_behavRDMs.mat", "rdms_behav_92")
    stimuli = _pictures(pictures[0])
    names = stimuli["stimulus"].values
    monkey, human = (_square(cell["RDM"].ravel(), len(names)) for cell in published[0])
    subjects = [str(brains[0, s, 0]["name"][0]).split("|")[1].strip() for s in range(brains.shape[1])]
    sessions = np.arange(1, brains.shape[2] + 1)
    squares = np.array([[brains[0, s, k]["RDM"] for k in range(len(sessions))] for s in range(len(subjects))])
    model_names = [str(cell["name"][0]) for cell in models[0]]
    judges = [str(cell["name"][0]).split("|")[1].strip() for cell in judged[0]]
    return {
        "human_it": _rdm(squares, names, "human_it", subject=subjects, session=sessions),
        "monkey_it": _rdm(monkey, names, "monkey_it"),
        "human_it_published": _rdm(human, names, "human_it_published"),
        "models": _rdm(np.array([cell["RDM"] for cell in models[0]], float), names, "models", model=model_names),
        "judgements": _rdm(np.array([cell["RDM"] for cell in judged[0]]), names, "judgements", subject=judges),
        "stimuli": stimuli,
    }


def _square(vector: np.ndarray, n: int) -> np.ndarray:
    from scipy.spatial.distance import squareform

    _check_shape(vector, (n * (n - 1) // 2,), "a vector of dissimilarities")
    return squareform(vector)


def _rdm(squares: np.ndarray, names: np.ndarray, name: str, **lead: Any) -> xr.DataArray:
    array = xr.DataArray(
        squares,
        dims=(*lead, "condition", "condition_2"),
        coords={dim: np.asarray(labels) for dim, labels in lead.items()} | {"condition": names, "condition_2": names},
    )
    kind = {"judgements": "arrangement distance", "models": "as the model defines it"}.get(name, "1 - Pearson r")
    return from_square(array).rename(name).assign_attrs(units="1", dissimilarity=kind)


def _pictures(cells: np.ndarray) -> xr.Dataset:
    import pandas as pd

    category = [str(cell["category"][0]) for cell in cells]
    # categories repeat; the number in the order of the source makes each name one
    names = [f"{k:02d} {kind}" for k, kind in enumerate(category, 1)]
    frame = pd.DataFrame({"stimulus_id": names, "modality": "image", "category": category})
    for flag in ("human", "face", "animal", "natural"):
        frame[flag] = [int(np.ravel(cell[flag])[0]) if cell[flag].size else 0 for cell in cells]
    return stimulus_table(frame, image=np.stack([cell["image"] for cell in cells]))


#: How each kind of set becomes tables: folder of the raw files -> tables by name.
PREPARE: dict[str, Callable[[Path], Tables]] = {
    "objects81": objects81,
    "cocktail": cocktail,
    "narratives": narratives,
    "rdm92": rdm92,
}
#: Files that are copied beside the tables.
_COPIES = {"narratives": {"atlas": "story_atlas.nii.gz"}}
