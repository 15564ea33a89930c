"""Images in memory: ``cnnkit.train(images=..., labels=...)`` and ``cnnkit.train(table)``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data.image import UndecodableError, image_pixels, read_file
from cnnkit.data.source import ALIASES, SPLITS, Record, StoredImage, one_form
from cnnkit.data.sources.folder import file_stamp
from cnnkit.errors import ConfigError, DataError, closest

Images = NDArray[np.uint8] | Sequence[Any] | Iterator[Any]
Labels = NDArray[Any] | Sequence[str] | Sequence[int] | Sequence[bool] | Iterator[Any]
GRAY_CHANNELS, RGB_CHANNELS = 1, 3
_NAME_START = "arrays-"
_SHAPES = "uint8 of shape (H, W), (H, W, 1) or (H, W, 3)"


@dataclass(frozen=True, slots=True, eq=False)
class MemoryImage:
    """One image: a function that reads it, a text that changes with it, and its path if it is a file.

    The function returns the bytes of an image file, or pixels, uint8 RGB (H, W, 3). It raises `UndecodableError` for an unreadable file.
    """

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
        items = memory_images(images)
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
        self.name = f"{_NAME_START}{content.hexdigest()}"
        self.notes: Sequence[str] = ()

    def read(self, record: Record) -> StoredImage:
        """Return one image."""
        return self._items[record.path].read()

    def stamp(self, record: Record) -> str:
        """Return a hash of the content, or, for a path, size and modification time of the file."""
        return self._items[record.path].stamp


def is_memory_name(name: str) -> bool:
    """Return True if `name` is that of an `ArraysSource`, which no other process can open."""
    return re.fullmatch(rf"{_NAME_START}[0-9a-f]{{8}}", Path(name).name) is not None and not Path(name).exists()


class Table(Protocol):
    """A table with named columns, such as a DataFrame of pandas or polars."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names of the columns."""
        ...

    def __getitem__(self, name: Any, /) -> Any:
        """Return the cells of a column."""
        ...


def is_table(value: object) -> TypeGuard[Table]:
    """Return True for a DataFrame; neither pandas nor polars is imported."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and not isinstance(value, type)


def table_source(table: Table) -> ArraysSource:
    """Return the source of a DataFrame with the columns ``path,label[,split][,group]``; ``image`` may stand for ``path``.

    The cells of ``path`` are paths or other images that `ArraysSource` takes. Raises `DataError` for a missing or repeated column.
    """
    names = [str(name).strip().lower() for name in table.columns]
    originals = dict(zip(names, table.columns, strict=True))
    for name in ("path", "image", "label", "split", "group"):
        if names.count(name) > 1:
            raise DataError(f"data: two columns are named {name!r}; keep one")
    images = next((name for name in ("path", "image") if name in originals), None)
    if images is None or "label" not in originals:
        missing = "label" if images else "path"
        raise DataError(
            f"data: no column {missing!r}{closest(missing, names)} The table must have the columns path,label[,split][,group]; "
            f"it has: {', '.join(map(repr, map(str, table.columns))) or 'nothing'}"
        )
    cells = {name: [_cell(value) for value in table[originals[name]]] for name in ("split", "group") if name in originals}
    splits = cells.get("split", [])
    fixed = [value for value in splits if value is not None]
    if fixed and len(fixed) < len(splits):
        raise DataError(
            f"data: {len(splits) - len(fixed):,} of {len(splits):,} rows have no split; fill in train, val or test in every row, "
            f"or leave the column empty and let cnnkit split"
        )
    return ArraysSource(list(table[originals[images]]), list(table[originals["label"]]), splits=fixed or None, groups=cells.get("group"))


def source_in_memory(function: str, data: object, images: Images | None, labels: Labels | None) -> ArraysSource | None:
    """Return the source of the images that `function` of cnnkit got in memory; None if `data` names a source or nothing was given.

    Raises `ConfigError` for `images` without `labels`, or beside `data`.
    """
    if (images is None) != (labels is None) or (data is not None and images is not None):
        given = [name for name, value in (("data", data), ("images", images), ("labels", labels)) if value is not None]
        raise ConfigError(
            f"{function}() got {' and '.join(given)}, but needs either data or both images and labels: "
            f"{function}(data='./images') or {function}(images=..., labels=...)"
        )
    if images is not None and labels is not None:
        return ArraysSource(images, labels)
    if data is None or isinstance(data, str | os.PathLike):
        return None
    if is_table(data):
        return table_source(data)
    raise ConfigError(
        f"{function}() got a value of type {type(data).__name__} as data; expected a path, the name of a source, "
        f"or a DataFrame with the columns path,label; images in memory: {function}(images=..., labels=...)"
    )


def _cell(value: Any) -> Any:
    """Return the `value` of a cell; None for a missing one, which pandas writes as NaN."""
    return None if value is None or value != value or value == "" else value  # noqa: PLR0124 (NaN differs from itself)


def memory_images(images: Images) -> list[MemoryImage]:
    """Return the items of `images`, as `ArraysSource` takes them; raise `DataError` for anything else."""
    if isinstance(images, str | bytes | os.PathLike):
        raise DataError("images: a single file; give a list of images, or a folder with data=")
    if isinstance(images, Sequence | Iterator):
        return [memory_image(image, f"images[{index}]") for index, image in enumerate(images)]
    array = as_array(images, "images")
    if array.ndim == 1 and array.dtype.kind in "OUS":  # paths, or images of different sizes
        return memory_images(array.tolist())
    if array.ndim == 0:
        raise DataError(f"images: got a value of type {type(images).__name__}; expected a list of images, or an array (N, H, W, 3)")
    if array.ndim < 3:  # noqa: PLR2004 (N, H, W)
        raise DataError(f"images: shape {array.shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    _check(array, array.shape[1:], "images")
    return [_from_array(image) for image in array]


def memory_image(image: object, where: str) -> MemoryImage:
    """Return one image: an array (H, W), (H, W, 1) or (H, W, 3), a Pillow image, a path, or the bytes of an image file.

    Raises a `DataError` that begins with `where` for anything else.
    """
    if isinstance(image, bytes):
        return MemoryImage(lambda: image, _hash(image))
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        text = os.fsdecode(path)
        return MemoryImage(lambda: read_file(text), file_stamp(text), text)
    if isinstance(image, Image.Image):
        try:
            return _from_array(image_pixels(image))
        except UndecodableError as error:
            raise DataError(f"{where}: {error}") from None
    array = as_array(image, where)
    _check(array, array.shape, where)
    return _from_array(array)


def is_encoded(image: object) -> TypeGuard[bytes | Image.Image]:
    """Return True for the bytes of a file and a Pillow image: one image, although both could be read as arrays."""
    return isinstance(image, bytes | Image.Image)


def as_array(image: object, where: str) -> NDArray[Any]:
    """Return `image` as an array; raise a `DataError` that begins with `where` if numpy cannot convert it."""
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


def _from_array(image: NDArray[np.uint8]) -> MemoryImage:
    def read() -> NDArray[np.uint8]:
        channels = image if image.ndim == 3 else image[:, :, None]  # noqa: PLR2004 (H, W, C)
        return np.ascontiguousarray(channels) if channels.shape[2] == RGB_CHANNELS else np.repeat(channels, RGB_CHANNELS, axis=2)

    return MemoryImage(read, f"{image.shape}:{_hash(np.ascontiguousarray(image).data)}")


def _hash(data: bytes | memoryview) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _names(labels: Labels, classes: Sequence[str] | None) -> list[str]:
    if isinstance(labels, Sequence | Iterator):  # not converted to an array, where a missing label would become the name 'nan'
        given = cast("Iterable[Any]", labels)
        values: list[Any] = [label.item() if hasattr(label, "item") else label for label in given]
    else:
        array = as_array(labels, "labels")
        if array.ndim == 0:
            raise DataError(f"labels: got a value of type {type(labels).__name__}; expected a list of names or numbers, one for each image")
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
