"""Images in memory: ``cnnkit.train(images=..., labels=...)``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data.image import UndecodableError, image_pixels, read_file
from cnnkit.data.source import ALIASES, SPLITS, Record, StoredImage, one_form
from cnnkit.data.sources.folder import file_stamp
from cnnkit.errors import DataError, closest

Images = NDArray[np.uint8] | Sequence[Any]
Labels = NDArray[Any] | Sequence[str] | Sequence[int] | Sequence[bool]
GRAY_CHANNELS, RGB_CHANNELS = 1, 3
_SHAPES = "uint8 of shape (H, W), (H, W, 1) or (H, W, 3)"


@dataclass(frozen=True, slots=True)
class _Item:
    """One image: a function that reads it, a text that changes with it, and its path if it is a file."""

    read: Callable[[], StoredImage]
    stamp: str
    path: str = ""


class ArraysSource:
    """Images in memory and their labels.

    `images` is a uint8 array (N, H, W), (N, H, W, 1) or (N, H, W, 3), gray or RGB, or a sequence. The items of a sequence may differ
    in size: arrays without the axis N, Pillow images, paths, or the bytes of image files. Torch tensors count as arrays. `labels`
    are N class names, or numbers or booleans whose text is the name. With `classes`, numbers are indices of `classes`. `splits` (train,
    val, test) and `groups`, if given, have N items too. Raises `DataError` for anything else.
    """

    def __init__(
        self,
        images: Images,
        labels: Labels,
        *,
        splits: Sequence[str] | None = None,
        groups: Sequence[object] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        items = _items(images)
        if not items:
            raise DataError("images: empty; expected at least one image")
        names = _names(labels, None if classes is None else [one_form(str(name)) for name in classes])
        fixed_splits: list[str | None] = [None] * len(items) if splits is None else [*map(_split, splits)]
        group_names = [None] * len(items) if groups is None else [None if group is None else str(group) for group in groups]
        for argument, values in (("labels", names), ("splits", fixed_splits), ("groups", group_names)):
            if len(values) != len(items):
                raise DataError(f"{argument}: {len(values):,} for {len(items):,} images; expected one for each image")
        digits = len(str(len(items) - 1))
        paths = [item.path or f"{index:0{digits}d}" for index, item in enumerate(items)]
        self.records = tuple(map(Record, paths, names, fixed_splits, group_names))
        self._items = dict(zip(paths, items, strict=True))
        if len(self._items) < len(items):
            (repeated, count), *_ = Counter(paths).most_common(1)
            raise DataError(f"images: {repeated!r} is listed {count} times; list each file once")
        content = blake2b("\0".join(item.stamp for item in items).encode("utf-8", "surrogateescape"), digest_size=4)
        self.name = f"arrays-{content.hexdigest()}"
        self.notes: Sequence[str] = ()

    def read(self, record: Record) -> StoredImage:
        """Return one image."""
        return self._items[record.path].read()

    def stamp(self, record: Record) -> str:
        """Return a hash of the content, or, for a path, size and modification time of the file."""
        return self._items[record.path].stamp


def _items(images: Images) -> list[_Item]:
    if isinstance(images, str | bytes | os.PathLike):
        raise DataError("images: a single file; give a list of images, or a folder with data=")
    if isinstance(images, Sequence):
        return [_item(image, f"images[{index}]") for index, image in enumerate(images)]
    array = _array(images, "images")
    if array.ndim == 1 and array.dtype.kind in "OUS":  # paths, or images of different sizes
        return _items(array.tolist())
    if array.ndim < 3:  # noqa: PLR2004 (N, H, W)
        raise DataError(f"images: shape {array.shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    _check(array, array.shape[1:], "images")
    return [_from_array(image) for image in array]


def _item(image: object, where: str) -> _Item:
    if isinstance(image, bytes):
        return _Item(lambda: image, _hash(image))
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        text = os.fsdecode(path)
        return _Item(lambda: read_file(text), file_stamp(text), text)
    if isinstance(image, Image.Image):
        try:
            return _from_array(image_pixels(image))
        except UndecodableError as error:
            raise DataError(f"{where}: {error}") from None
    array = _array(image, where)
    _check(array, array.shape, where)
    return _from_array(array)


def _array(image: object, where: str) -> NDArray[Any]:
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, or a tensor that requires a gradient
        raise DataError(f"{where}: cannot be converted to an array ({error}); expected {_SHAPES}, Pillow images, paths or bytes") from None


def _check(array: NDArray[Any], shape: tuple[int, ...], where: str) -> None:
    """Raise a `DataError` that tells how to convert `array`, unless `shape` is the shape of an image and its type uint8."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError(f"{where}: contains NaN; expected {_SHAPES}, values 0 to 255")
    if array.dtype != np.uint8:
        raise DataError(f"{where}: {array.dtype}; expected uint8: scale the values to 0..255 and add .astype('uint8')")
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in {GRAY_CHANNELS, RGB_CHANNELS}):  # noqa: PLR2004 (dimensions)
        if 0 in shape:
            raise DataError(f"{where}: shape {array.shape} has no pixels")
        return
    hint = ""
    if len(shape) == 3 and shape[0] in {GRAY_CHANNELS, RGB_CHANNELS}:  # noqa: PLR2004
        axes = "0, 2, 3, 1" if array.ndim > len(shape) else "1, 2, 0"
        hint = f"; channels come first: give {where}.transpose({axes}), or .permute({axes}) of a tensor"
    elif len(shape) == 3:  # noqa: PLR2004
        hint = f"; {shape[2]} channels: give {where}[..., :3] if the first three are red, green and blue"
    raise DataError(f"{where}: shape {array.shape}; expected {_SHAPES}{hint}")


def _from_array(image: NDArray[np.uint8]) -> _Item:
    def read() -> NDArray[np.uint8]:
        channels = image if image.ndim == 3 else image[:, :, None]  # noqa: PLR2004 (H, W, C)
        return np.ascontiguousarray(channels) if channels.shape[2] == RGB_CHANNELS else np.repeat(channels, RGB_CHANNELS, axis=2)

    return _Item(read, f"{image.shape}:{_hash(np.ascontiguousarray(image).data)}")


def _hash(data: bytes | memoryview) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _names(labels: Labels, classes: Sequence[str] | None) -> list[str]:
    if isinstance(labels, Sequence):  # not converted to an array, where a missing label would become the name 'nan'
        given: Sequence[Any] = labels
        values: list[Any] = [label.item() if hasattr(label, "item") else label for label in given]
    else:
        array = _array(labels, "labels")
        if array.ndim != 1:
            hint = "; for one-hot labels give labels.argmax(1)" if array.ndim == 2 else ""  # noqa: PLR2004 (N, K)
            raise DataError(f"labels: shape {array.shape}; expected (N,){hint}")
        values = array.tolist()
    names = [_name(value, index) for index, value in enumerate(values)]
    if classes is None:
        return names
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        for index, value in enumerate(values):
            if not 0 <= value < len(classes):
                raise DataError(f"labels[{index}]: {value} is no index of classes; expected 0 to {len(classes) - 1}")
        return [str(classes[value]) for value in values]
    for name in sorted(set(names) - set(classes)):
        raise DataError(f"labels: {name!r} is not in classes{closest(name, classes)}")
    return names


def _name(value: object, index: int) -> str:
    if not isinstance(value, str | int):  # a missing cell of a table is None or NaN
        raise DataError(f"labels[{index}]: {value!r}; expected a name, a whole number or a boolean (for an array: labels.astype(int))")
    name = one_form(str(value))
    if not name.strip():
        raise DataError(f"labels[{index}]: empty; expected the name of a class")
    return name


def _split(name: str) -> str:
    split = ALIASES.get(str(name).lower())
    if split is None:
        raise DataError(f"splits: unknown split {name!r}{closest(str(name), ALIASES)} Allowed: {', '.join(SPLITS)}")
    return split
