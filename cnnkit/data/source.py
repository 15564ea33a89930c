"""Where images come from: a source lists records and gives the pixels of each; nothing is ever written to it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.image import SUFFIXES, UndecodableError, decode_image, image_size
from cnnkit.errors import DataError

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS: tuple[str, ...] = (TRAIN, VAL, TEST)
ALIASES = {"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL, "test": TEST, "testing": TEST}
# What systems and tools leave behind in folders; none of it was put there as an image.
LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})


@dataclass(frozen=True)
class Record:
    """One image of a source: its path relative to the source (with ``/``), its class name and, if fixed, its split."""

    path: str
    label: str
    split: str | None = None


@dataclass(frozen=True)
class Pixels:
    """One image as read: uint8 RGB (H, W, 3) and the SHA-256 of what was stored (hex)."""

    image: NDArray[np.uint8]
    sha256: str


class Source(Protocol):
    """What the rest of cnnkit asks of images, wherever they are."""

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """Every image, in a stable order."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of how the images were found."""
        ...

    def read(self, record: Record) -> Pixels:
        """Decode one image; raises `UndecodableError` with the reason."""
        ...

    def size(self, record: Record) -> tuple[int, int]:
        """Return (height, width) as cheaply as possible; raises `UndecodableError`."""
        ...

    def stamp(self, record: Record) -> str:
        """Return a text that changes when the image may have changed."""
        ...


def open_source(data: str) -> Source:
    """Open what ``--data`` names: a folder or ``digits``.

    Raises `DataError` if it is missing, empty or has no class folders.
    """
    if not data:
        raise DataError("--data is missing: name a folder of class folders, such as --data ./images, or try --data digits")
    if data == "digits" and not Path(data).is_dir():
        return DigitsSource()
    return FolderSource(Path(data))


class FolderSource:
    """Class folders (``cats/1.jpg``), or train/val/test folders of class folders."""

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise DataError(f"--data {root}: no such folder; expected a folder of class folders, or 'digits'")
        if not root.is_dir():
            raise DataError(f"--data {root}: a file; expected a folder of class folders")
        self.name = str(root)
        self._root = root
        self._other: Counter[str] = Counter()
        self._loose = 0
        self.records = tuple(self._list())
        if not self.records:
            raise DataError(
                f"--data {root}: no images found in class folders; expected files such as {root}/CLASS/photo.jpg{self._found_instead()}"
            )
        self.notes = tuple(self._left_out())

    def read(self, record: Record) -> Pixels:
        """Decode one file."""
        data = self._bytes(record)
        return Pixels(decode_image(data), hashlib.sha256(data).hexdigest())

    def size(self, record: Record) -> tuple[int, int]:
        """Read the header of one file."""
        return image_size(self._bytes(record))

    def stamp(self, record: Record) -> str:
        """Size and modification time of one file."""
        try:
            status = (self._root / record.path).stat()
        except OSError:
            return "missing"
        return f"{status.st_size}:{status.st_mtime_ns}"

    def _bytes(self, record: Record) -> bytes:
        try:
            return (self._root / record.path).read_bytes()
        except OSError as error:
            raise UndecodableError(error.strerror or str(error)) from None

    def _list(self) -> Iterator[Record]:
        folders = self._folders(self._root)
        splits = {folder: ALIASES.get(folder.name.lower()) for folder in folders}
        if TRAIN in splits.values():
            yield from self._list_splits(splits)
        else:
            for folder in folders:
                yield from self._class(folder, None)

    def _list_splits(self, splits: dict[Path, str | None]) -> Iterator[Record]:
        taken: dict[str, Path] = {}
        for folder, split in splits.items():
            if split is None:
                raise DataError(f"--data {self._root}: beside train there is {folder.name!r}, which is no split; allowed: train, val, test")
            if split in taken:
                raise DataError(f"--data {self._root}: {taken[split].name!r} and {folder.name!r} both mean the split {split}; keep one")
            taken[split] = folder
            for class_folder in self._folders(folder):
                yield from self._class(class_folder, split)

    def _folders(self, folder: Path) -> list[Path]:
        """Return the folders in `folder`; images beside them belong to no class and are counted.

        A link back to a folder above would make a class of everything, so it is none.
        """
        above = {folder.resolve(), *folder.resolve().parents}
        try:
            inside = sorted(path for path in folder.iterdir() if not _hidden(path.name))
        except OSError as error:
            _refuse(error)
        self._loose += sum(path.suffix.lower() in SUFFIXES and path.is_file() for path in inside)
        return [path for path in inside if path.is_dir() and path.resolve() not in above]

    def _class(self, folder: Path, split: str | None) -> Iterator[Record]:
        for file in _files(folder):
            if file.suffix.lower() in SUFFIXES:
                yield Record(file.relative_to(self._root).as_posix(), folder.name, split)
            else:
                self._other[file.suffix.lower()] += 1

    def _left_out(self) -> Iterator[str]:
        if self._loose:
            yield f"{self._loose} images outside of class folders were left out"
        if self._other:
            kinds = ", ".join(f"{count} {suffix or 'without ending'}" for suffix, count in self._other.most_common(4))
            yield f"{self._other.total()} files that are no images were left out ({kinds})"

    def _found_instead(self) -> str:
        if self._loose:
            return f"; there are {self._loose} images outside of class folders: move each into a folder named after its class"
        return "; the folder is empty" if not any(self._root.iterdir()) else ""


class DigitsSource:
    """The 1,797 real handwritten digits inside scikit-learn: 8 x 8 gray, NIST via the UCI repository (Alpaydin, 1998)."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # scikit-learn costs half a second; folders do without

        digits: Any = load_digits()
        levels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 17 gray levels, 0..16
        self.name = "digits"
        self.notes: Sequence[str] = ()
        self.records = tuple(Record(f"{label}/{index:04d}", str(label)) for index, label in enumerate(digits.target))
        self._images = {record.path: np.repeat(image[:, :, None], 3, axis=2) for record, image in zip(self.records, levels, strict=True)}

    def read(self, record: Record) -> Pixels:
        """Look one digit up."""
        if record.path not in self._images:
            raise UndecodableError("no such image in digits")
        image = self._images[record.path]
        return Pixels(image, hashlib.sha256(image.tobytes()).hexdigest())

    def size(self, record: Record) -> tuple[int, int]:
        """Return 8 x 8."""
        height, width, _ = self.read(record).image.shape
        return height, width

    def stamp(self, record: Record) -> str:
        """The digits never change."""
        return record.path


def natural_order(names: Sequence[str]) -> list[str]:
    """Sort class names as people do: ``1, 2, 10`` and not ``1, 10, 2``; the model stores the order it was trained with."""
    return sorted(
        names,
        key=lambda name: ([(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part], name),
    )


def image_files(folder: Path) -> list[Path]:
    """Return the image files in and below `folder`, in natural order, without hidden files and litter."""
    return [file for file in _files(folder) if file.suffix.lower() in SUFFIXES]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def _refuse(error: OSError) -> NoReturn:
    """Refuse a folder that may not be listed; passed over, it would make a class smaller unseen."""
    raise DataError(f"{error.filename}: cannot be listed: {error.strerror or error}") from None


def _files(folder: Path) -> list[Path]:
    """Files below `folder`; a folder reached twice (a symlink loop) is walked once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(here, name) for name in files if not _hidden(name)]
    order = {name: position for position, name in enumerate(natural_order([file.relative_to(folder).as_posix() for file in found]))}
    return sorted(found, key=lambda file: order[file.relative_to(folder).as_posix()])
