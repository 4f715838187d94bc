"""Models on disk: a folder with ``model.safetensors`` and ``model.json``; never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuroalign._version import __version__
from neuroalign.errors import ConfigError, IntegrityError, NeuroalignError
from neuroalign.protocol._labels import Labels
from neuroalign.storage import publish, sha256_file

FORMAT = 1
_MAX_JSON = 256 * 2**20
_MAX_DEPTH = 32

#: Class name -> class, of every estimator and transformer that can be saved. Filled when a class is defined;
#: nothing is ever imported by a name that a file gives.
REGISTRY: dict[str, type[Saveable]] = {}


#: Name -> frozen dataclass, of those that parameters of estimators may be.
OPTIONS: dict[str, type] = {}

_T = TypeVar("_T", bound=type)


def option(cls: _T) -> _T:
    """Let models whose parameters are of this frozen dataclass be saved."""
    OPTIONS[cls.__name__] = cls
    return cls


class Saveable:
    """Adds `save` and `load`; registers the class under its name."""

    #: Names of all fitted attributes; None where a class does not list them.
    _state_names: ClassVar[frozenset[str] | None] = None

    if TYPE_CHECKING:

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def _check_state(self) -> None:
        """Raise a TypeError or ValueError if what was loaded does not fit together."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith("neuroalign."):
            REGISTRY[cls.__name__] = cls

    def save(self, path: str | Path) -> Path:
        """Save the fitted model as a folder with ``model.safetensors`` and ``model.json``.

        Parameters
        ----------
        path : path
            Folder to write. It appears whole or not at all.

        Returns
        -------
        Path
            The folder.
        """
        return save_model(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model of this class.

        Parameters
        ----------
        path : path
            Folder written by `save`.

        Returns
        -------
        object
            The fitted model.

        Raises
        ------
        IntegrityError
            If files are missing, damaged or not a model.
        ConfigError
            If it is a model of another class.
        """
        model = load_model(path)
        if not isinstance(model, cls):
            raise ConfigError("A model of another class.", expected=cls.__name__, got=type(model).__name__, where=path)
        return model


class _State:
    """Splits a value into JSON and named arrays, and puts it together again."""

    def __init__(self, tensors: dict[str, NDArray[Any]] | None = None) -> None:
        self.tensors = {} if tensors is None else tensors

    def pack(self, name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._pack_array(name, value)
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Labels):
            coords = {k: [list(dims), self.pack(f"{name}.{k}", v)] for k, (dims, v) in value.coords.items()}
            attrs = {str(k): self.pack(f"{name}.attrs.{k}", v) for k, v in value.attrs.items()}
            entry = {"dims": list(value.dims), "shape": list(value.shape), "name": value.name, "attrs": attrs}
            return {"labels": entry | {"coords": coords}}
        if isinstance(value, (list, tuple)):
            return [self.pack(f"{name}.{n}", v) for n, v in enumerate(value)]
        if dataclasses.is_dataclass(value) and type(value) is OPTIONS.get(type(value).__name__):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return {"option": type(value).__name__} | {k: self.pack(f"{name}.{k}", v) for k, v in fields.items()}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise ConfigError(
            "This model cannot be saved.",
            expected="numbers, text, lists and arrays",
            got=f"{name} is a {type(value).__name__}",
            fix=f"set {name} by a name or number that describes it" if not name.endswith("_") else None,
        )

    def _pack_array(self, name: str, value: NDArray[Any]) -> Any:
        kind = value.dtype.kind
        if kind in "OUS":
            items = value.astype(str) if kind == "S" else value
            return {"items": [self._plain(name, v) for v in items.ravel()], "shape": list(value.shape), "kind": kind}
        if kind in "mM":
            return self._pack_array(name, value.astype(np.int64)) | {"dtype": str(value.dtype)}
        if kind not in "biuf":
            raise ConfigError(
                "This model cannot be saved.", expected="arrays of numbers or text", got=f"{name}: {value.dtype}"
            )
        self.tensors[name] = np.ascontiguousarray(value)
        return {"tensor": name}

    def _plain(self, name: str, value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise ConfigError(
            "This model cannot be saved.", expected="labels that are text or numbers", got=f"{name}: {type(value)}"
        )

    def unpack(self, value: Any, where: Path) -> Any:
        if isinstance(value, list):
            return [self.unpack(v, where) for v in value]
        if not isinstance(value, dict):
            return value
        try:
            if "tensor" in value:
                array = self.tensors[value["tensor"]]
                return array.astype(_time_dtype(value["dtype"])) if "dtype" in value else array
            if "items" in value:
                items = np.array([None, *value["items"]], dtype=object)[1:].reshape(value["shape"])
                return items.astype({"O": object, "U": np.str_, "S": np.bytes_}[value["kind"]])
            if "option" in value:
                made = OPTIONS[value["option"]]
                return made(**{k: self.unpack(v, where) for k, v in value.items() if k != "option"})
            return self._unpack_labels(value["labels"], where)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(
                "model.json is damaged.", expected="tensor, items or labels", got=repr(error), where=where
            ) from error

    def _unpack_labels(self, entry: dict[str, Any], where: Path) -> Labels:
        dims, shape, name = tuple(entry["dims"]), tuple(entry["shape"]), entry["name"]
        sizes = dict(zip(dims, shape, strict=True))
        if not all(isinstance(d, str) and type(n) is int and n >= 0 for d, n in sizes.items()):
            raise ValueError(f"dims {dims}, shape {shape}")
        if len(sizes) != len(dims) or not isinstance(name, str | None):
            raise ValueError(f"dims {dims}, name {name}")
        coords = {k: (tuple(along), self.unpack(v, where)) for k, (along, v) in entry["coords"].items()}
        for coord, (along, values) in coords.items():
            if np.shape(values) != tuple(sizes[d] for d in along):
                raise ValueError(f"coordinate {coord} of shape {np.shape(values)} along {along}")
        return Labels(dims, shape, coords, name, {k: self.unpack(v, where) for k, v in entry["attrs"].items()})


def _time_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in "mM":
        raise ValueError(f"dtype {name}")
    return dtype


def check_shape(model: object, name: str, shape: tuple[int, ...], *, finite: NDArray[np.bool_] | None = None) -> None:
    """Raise a ValueError unless an attribute is an array of this shape, finite where it has to be.

    Parameters
    ----------
    model : object
        The model.
    name : str
        Name of the attribute.
    shape : tuple of int
        The shape.
    finite : ndarray of bool, shape (shape[-1],), optional
        Along the last axis, where all values must be finite.
    """
    values = getattr(model, name)
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype.kind not in "biuf":
        raise ValueError(f"{name} has shape {np.shape(values)}, not {shape}")
    if finite is not None and not np.isfinite(values[..., finite]).all():
        raise ValueError(f"{name} holds NaN or infinity")


def _digest(text: dict[str, Any]) -> str:
    content = json.dumps([text["class"], text["params"], text["fitted"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def save_model(model: Saveable, path: str | Path) -> Path:
    """Save a fitted estimator or transformer as a folder.

    Parameters
    ----------
    model : estimator or transformer
        Of neuroalign, fitted.
    path : path
        Folder to write. It appears whole or not at all.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        If it is not a model of neuroalign, is not fitted, or holds something that is neither number nor text.
    """
    from safetensors.numpy import save_file

    name = type(model).__name__
    if REGISTRY.get(name) is not type(model):
        raise ConfigError("Not a model of neuroalign.", expected=f"one of {', '.join(sorted(REGISTRY))}", got=name)
    state = _State()
    params = {k: state.pack(f"param.{k}", v) for k, v in model.get_params(deep=False).items()}
    fitted = {k: state.pack(k, v) for k, v in vars(model).items() if k.endswith("_") and not k.startswith("_")}
    if not fitted:
        raise ConfigError("The model is not fitted.", expected="a fitted model", got=name, fix="call fit(X, y) first")
    with publish(path) as folder:
        folder.mkdir()
        tensors = folder / "model.safetensors"
        save_file(state.tensors, str(tensors))
        text = {
            "format": FORMAT,
            "neuroalign": __version__,
            "class": name,
            "sha256": sha256_file(tensors),
            "params": params,
            "fitted": fitted,
        }
        text["sha256_json"] = _digest(text)
        (folder / "model.json").write_text(json.dumps(text, indent=1), encoding="utf-8")
    return Path(path)


def load_model(path: str | Path) -> Any:
    """Load any saved model.

    Parameters
    ----------
    path : path
        Folder written by ``save``.

    Returns
    -------
    object
        The fitted estimator or transformer.

    Raises
    ------
    IntegrityError
        If files are missing, damaged, or hold something else, such as a pickle.
    ConfigError
        If the class is not known or the file was written by a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(path)
    text = _read_json(folder)
    tensors = folder / "model.safetensors"
    if not tensors.is_file():
        raise IntegrityError("The model is incomplete.", expected="model.safetensors", got="no such file", where=folder)
    if (found := sha256_file(tensors)) != text.get("sha256"):
        raise IntegrityError(
            "The model is damaged.",
            expected=f"sha256 {text.get('sha256')}",
            got=found,
            where=tensors,
            fix="fit or copy it again",
        )
    cls = REGISTRY.get(str(text.get("class")))
    if cls is None:
        raise ConfigError(
            "Unknown class of model.",
            expected=f"one of {', '.join(sorted(REGISTRY))}",
            got=text.get("class"),
            where=folder,
            fix="import the part of neuroalign that it comes from, or use neuroalign.load_model",
        )
    try:
        state = _State(load_file(str(tensors)))
    except SafetensorError as error:
        raise IntegrityError("The model is damaged.", expected="safetensors", got=str(error), where=tensors) from error
    try:
        if (found := _digest(text)) != text["sha256_json"]:
            raise ValueError(f"sha256_json is {found}")
        return _rebuild(cls, text, state, folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, NeuroalignError):
            raise
        raise IntegrityError(
            "model.json is damaged.",
            expected=f"parameters and fitted attributes of {cls.__name__}",
            got=repr(error),
            where=folder,
            fix="fit or copy it again",
        ) from error


def _rebuild(cls: type[Saveable], text: dict[str, Any], state: _State, folder: Path) -> Saveable:
    model = cls(**{k: state.unpack(v, folder) for k, v in text["params"].items()})
    for name, value in text["fitted"].items():
        known = not hasattr(cls, name) if cls._state_names is None else name in cls._state_names
        if not known or not name.endswith("_") or name.startswith("_"):
            raise KeyError(name)
        setattr(model, name, state.unpack(value, folder))
    model._check_state()
    return model


def _read_json(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        with folder.open("rb") as stream:
            head = stream.read(4)
        what = "a pickle, which could run any code" if head[:1] == b"\x80" or head[:2] == b"PK" else "a file"
        raise IntegrityError(
            "Not a model folder.",
            expected="a folder with model.safetensors and model.json",
            got=what,
            where=folder,
            fix="fit the model again and save it with model.save(path)",
        )
    file = folder / "model.json"
    if not file.is_file():
        raise IntegrityError("Not a model folder.", expected="model.json", got="no such file", where=folder)
    if file.stat().st_size > _MAX_JSON:
        raise IntegrityError(
            "model.json is too large.", expected=f"<= {_MAX_JSON} bytes", got=file.stat().st_size, where=file
        )
    try:
        text = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError("model.json is damaged.", expected="JSON", got=str(error), where=file) from error
    if not isinstance(text, dict) or _depth(text) > _MAX_DEPTH:
        raise IntegrityError(
            "model.json is damaged.",
            expected=f"an object at most {_MAX_DEPTH} deep",
            got=type(text).__name__,
            where=file,
        )
    if text.get("format") != FORMAT:
        raise ConfigError(
            "The model was written in another format.",
            expected=f"format {FORMAT}, as written by neuroalign {__version__}",
            got=f"format {text.get('format')}, written by neuroalign {text.get('neuroalign')}",
            where=file,
            fix="update neuroalign",
        )
    return text


def _depth(value: Any, level: int = 1) -> int:
    if level > _MAX_DEPTH or not isinstance(value, (dict, list)):
        return level
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(v, level + 1) for v in inner), default=level)
