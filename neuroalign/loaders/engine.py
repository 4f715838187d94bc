"""The engine behind ``xarray.open_dataset(path, engine="neuroalign")``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from neuroalign.errors import ConfigError
from neuroalign.loaders.load import load
from neuroalign.storage import layout

__all__ = ["NeuroalignBackend"]

#: Endings that no other engine of xarray takes, and that belong to recordings alone.
OWN_SUFFIXES: tuple[str, ...] = (
    ".vhdr",
    ".edf",
    ".bdf",
    ".fif",
    ".fif.gz",
    ".set",
    ".cnt",
    ".mff",
    ".lay",
    ".ds",
    ".sqd",
    ".con",
)
OWN_SUFFIXES += (".nii", ".nii.gz")
_UNNAMED = "values"


class NeuroalignBackend(BackendEntrypoint):
    """Recordings, images, tables, data sets and stores as Datasets of xarray; see `neuroalign.load`.

    xarray finds it by its entry point: there is nothing to import or register.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "words.csv"
    >>> _ = file.write_text("stimulus,d0,d1\\ncat,1,2\\nball,3,4\\n")
    >>> xr.open_dataset(file, engine="neuroalign").sizes["stimulus"]
    2
    """

    description = "Open EEG, iEEG, MEG and fMRI recordings with neuroalign"
    url = "https://neuroalign.readthedocs.io"
    supports_groups = True
    # stated, because xarray refuses to guess them from a signature with **options
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables")

    def open_dataset(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None, **options: Any
    ) -> xr.Dataset:
        """Open what gives one Dataset.

        Parameters
        ----------
        filename_or_obj : path-like
            Anything that `neuroalign.load` reads.
        drop_variables : str or iterable of str, optional
            Variables to leave out; names that are not there are passed over.
        **options
            As in `neuroalign.load`.

        Returns
        -------
        Dataset
            Lazy. With ``chunks={}`` dask gets pieces of about 8 MB.

        Raises
        ------
        ConfigError
            If the path holds several recordings, or is no path.
        """
        obj = load(_path(filename_or_obj), **options)
        if isinstance(obj, xr.DataTree):
            raise ConfigError(
                "The path holds several recordings.",
                expected="one, for open_dataset",
                got=[node.path for node in obj.leaves][:10],
                where=str(filename_or_obj),
                fix="xarray.open_datatree(path, engine='neuroalign'), or choose one by subject=, session=, run=",
            )
        return _prepared(obj, drop_variables)

    def open_datatree(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None, **options: Any
    ) -> xr.DataTree:
        """Open several recordings as a tree; one recording is its root.

        Parameters
        ----------
        filename_or_obj : path-like
            Anything that `neuroalign.load` reads.
        drop_variables : str or iterable of str, optional
            Variables to leave out.
        **options
            As in `neuroalign.load`.

        Returns
        -------
        DataTree
            Lazy.
        """
        groups = self.open_groups_as_dict(filename_or_obj, drop_variables=drop_variables, **options)
        return xr.DataTree.from_dict(groups)

    def open_groups_as_dict(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None, **options: Any
    ) -> dict[str, xr.Dataset]:
        """Open several recordings by their path in the tree.

        Parameters
        ----------
        filename_or_obj, drop_variables, **options
            As in `open_datatree`.

        Returns
        -------
        dict of str to Dataset
            With the path of each node.
        """
        obj = load(_path(filename_or_obj), **options)
        if not isinstance(obj, xr.DataTree):
            return {"/": _prepared(obj, drop_variables)}
        return {node.path: _prepared(node.to_dataset(inherit=False), drop_variables) for node in obj.subtree}

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether the ending of a name is one of recordings alone, so that no engine need be named.

        Parameters
        ----------
        filename_or_obj : object
            What was passed to xarray.

        Returns
        -------
        bool
            Never true for ``.nc``, ``.zarr``, HDF5 files or tables.
        """
        named = isinstance(filename_or_obj, (str, os.PathLike))
        return named and os.fspath(filename_or_obj).lower().rstrip("/\\").endswith(OWN_SUFFIXES)


def _path(given: Any) -> Path:
    if isinstance(given, (str, os.PathLike)):
        return Path(given)
    raise ConfigError("Not a path.", expected="str or path-like", got=type(given).__name__)


def _prepared(obj: xr.Dataset | xr.DataArray, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    ds = obj.to_dataset(name=obj.name or _UNNAMED) if isinstance(obj, xr.DataArray) else obj
    if drop_variables is not None:
        names = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables)
        ds = ds.drop_vars(names, errors="ignore")
    return layout.prefer_chunks(ds)
