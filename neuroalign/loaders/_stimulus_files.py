"""Files of stimuli: what they say of themselves, and the pixels of images."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from neuroalign.errors import IntegrityError
from neuroalign.loaders._text import read_text

__all__ = ["ImageArray", "image_facts", "sound_facts", "text_facts"]

MAX_PIXELS = 2**28
# What scipy raises over damaged sounds.
_SOUND_ERRORS = (ValueError, OSError, EOFError, LookupError, TypeError, ArithmeticError, NameError, struct.error)


def image_facts(file: Path) -> dict[str, Any]:
    """Width and height in pixels."""
    width, height = _open_image(file, lambda image: image.size)
    return {"width": width, "height": height}


def text_facts(file: Path) -> dict[str, Any]:
    """The text itself."""
    return {"text": read_text(file).strip()}


def sound_facts(file: Path) -> dict[str, Any]:
    """Length, rate and channels of a .wav file; of others nothing, for want of a library that all have."""
    from scipy.io import wavfile

    if file.suffix.lower() != ".wav":
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Chunk", wavfile.WavFileWarning)  # notes of recorders, beside the sound
        warnings.filterwarnings("error", category=wavfile.WavFileWarning, message=".*(EOF|[Ii]ncomplete|[Tt]runcated)")
        try:
            try:
                rate, samples = wavfile.read(file, mmap=True)
            except ValueError:  # 24 bits cannot be mapped
                rate, samples = wavfile.read(file)
        except (*_SOUND_ERRORS, wavfile.WavFileWarning) as error:
            raise IntegrityError(
                "The sound cannot be read.",
                expected="a whole .wav file",
                got=f"{type(error).__name__}: {error}",
                where=file,
                fix="copy it again",
            ) from error
    if rate <= 0:
        raise IntegrityError("The sound has no sampling rate.", expected="> 0 Hz", got=rate, where=file)
    return {
        "duration": len(samples) / rate,
        "sfreq": float(rate),
        "n_channels": 1 if samples.ndim == 1 else samples.shape[1],
    }


class ImageArray(BackendArray):
    """Lazy (stimulus, row, column, rgb) uint8 array over image files, of one size (rows, columns) or brought to it."""

    def __init__(self, folder: Path, names: Sequence[str], size: tuple[int, int], *, fit: bool) -> None:
        self.folder, self.names, self.fit = str(folder.absolute()), tuple(names), fit
        self.shape = (len(names), *size, 3)
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.uint8]:
        which = np.arange(self.shape[0])[key[0]]
        images = np.stack([self._one(int(i)) for i in np.atleast_1d(which)]) if np.size(which) else None
        if images is None:
            images = np.empty((0, *self.shape[1:]), dtype=np.uint8)
        for axis, index in reversed(list(enumerate(key[1:], start=1))):
            images = images[(slice(None),) * axis + (index,)]
        return images if np.ndim(which) else images[0]

    def _one(self, i: int) -> NDArray[np.uint8]:
        file = Path(self.folder) / self.names[i]
        pixels = _open_image(file, self._pixels)
        if pixels.shape != self.shape[1:]:
            raise IntegrityError(
                "An image changed after it was opened.", expected=self.shape[1:], got=pixels.shape, where=file
            )
        return pixels

    def _pixels(self, image: Any) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps

        image = image.convert("RGB")
        if self.fit:
            image = ImageOps.fit(image, (self.shape[2], self.shape[1]), Image.Resampling.BICUBIC)
        return np.asarray(image)


def _open_image(file: Path, use: Any) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise IntegrityError(
                    "The image is too large.", expected=f"{MAX_PIXELS} pixels", got=image.size, where=file
                )
            return use(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, OSError) as error:
        if isinstance(error, IntegrityError):
            raise
        raise IntegrityError(
            "The image cannot be read.", expected="a whole image file", got=str(error), where=file, fix="copy it again"
        ) from error
