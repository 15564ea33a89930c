"""The images that a user of Python hands to a model: paths, Pillow images, arrays, bytes of image files, or lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnkit.data.image import read_file
from cnnkit.data.source import Reader, Record, StoredImage
from cnnkit.data.sources.arrays import GRAY_CHANNELS, RGB_CHANNELS, MemoryImage, as_array, is_encoded, is_table, memory_image, memory_images
from cnnkit.errors import DataError

Input = Path | MemoryImage
_ONE_KIND = "a path, a Pillow image, a uint8 array (H, W, 3) or the bytes of an image file"
_MAX_REPR_LENGTH = 40  # of a wrong value in an error: about half a line


def as_inputs(images: Any) -> tuple[list[Input], bool]:
    """Return `images` as a list, and True if they are one image rather than a collection.

    An array is one image of shape (H, W), (H, W, 1) or (H, W, 3), or N images of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3). Torch
    tensors count as arrays, and an iterator counts as a list. Raises `DataError` for anything else.
    """
    if isinstance(images, str | os.PathLike):
        return [Path(os.fsdecode(images))], True
    if is_encoded(images):
        return [memory_image(images, "image")], True
    if is_table(images):
        raise DataError(f"images: a table; give one of its columns, such as images[{next(iter(images.columns), 'path')!r}]")
    if hasattr(images, "__array__"):
        return _of_array(as_array(images, "images"), is_tensor=hasattr(images, "detach"))
    if isinstance(images, Iterable) and not isinstance(images, dict):
        return [_as_input(image, f"images[{index}]") for index, image in enumerate(images)], False
    raise DataError(f"images: {_given(images)}; expected {_ONE_KIND}, or a list of these")


def read_stored(given: Input) -> StoredImage:
    """Return the bytes of a file, or the pixels of an image in memory; raises `UndecodableError` with the reason for an unreadable file."""
    return read_file(str(given)) if isinstance(given, Path) else given.read()


def input_of(source: Reader, record: Record) -> MemoryImage:
    """Return the image of `record`, which `source` reads when it is its turn."""
    return MemoryImage(partial(source.read, record), "", record.path)


def name_of(given: Input) -> str:
    """Return the path of a file; empty for an image in memory."""
    return str(given) if isinstance(given, Path) else given.path


def _as_input(image: Any, where: str) -> Input:
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    if is_encoded(image) or hasattr(image, "__array__"):
        return memory_image(image, where)
    raise DataError(f"{where}: {_given(image)}; expected {_ONE_KIND}")


def _of_array(array: NDArray[Any], *, is_tensor: bool) -> tuple[list[Input], bool]:
    channels = {GRAY_CHANNELS, RGB_CHANNELS}
    if array.ndim == 0:
        raise DataError(f"images: {_given(array.item())}; expected {_ONE_KIND}, or a list of these")
    if array.ndim == 1:  # a column of a table, or images of different sizes
        return [_as_input(image, f"images[{index}]") for index, image in enumerate(array.tolist())], False
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in channels):  # noqa: PLR2004 (H, W, C)
        return [memory_image(array, "image")], True
    if is_tensor and array.ndim == 3 and array.shape[0] in channels:  # noqa: PLR2004 (C, H, W) is the shape of an image in torch
        raise DataError(
            f"images: a tensor of shape {array.shape}, which may be one image with its channels first, or {array.shape[0]} gray images; "
            f"give images.permute(1, 2, 0), or images[..., None]"
        )
    return [*memory_images(array)], False


def _given(value: object) -> str:
    kind, text = type(value).__name__, repr(value)
    return f"got {text} ({kind})" if len(text) < _MAX_REPR_LENGTH else f"got a value of type {kind}"
