"""Meaning of file names, for folders and archives alike: class folders, or train/val/test folders of class folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnkit.data.image import SUFFIXES
from cnnkit.data.source import ALIASES, TRAIN, Record
from cnnkit.errors import DataError

# Names of files and folders that systems and tools leave behind. Hidden names such as .ipynb_checkpoints and .DS_Store count as
# litter too.
LITTER_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})
_NUMBER = re.compile(r"(\d+)")
NaturalKey = tuple[list[str | int], str]


@dataclass(frozen=True)
class Layout:
    """The records of some files, the number of loose images, and the number of other files by suffix.

    `empty_classes` holds the class folders without an image, with their number of other files.
    """

    records: tuple[Record, ...]
    loose: int
    other: Counter[str]
    empty_classes: Mapping[str, int] = field(default_factory=dict[str, int])

    def notes(self) -> tuple[str, ...]:
        """Return notes on the files that were left out."""
        notes = [f"{self.loose:,} images outside of class folders were left out"] if self.loose else []
        if self.other:
            kinds = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in self.other.most_common(4))
            notes.append(f"{self.other.total():,} files that are no images were left out ({kinds})")
        return tuple(notes)

    def check(self, name: str) -> None:
        """Raise `DataError` if no class folder holds an image; `name` is the name of the source."""
        if self.records:
            return
        found = ""
        if self.loose:
            found = f"; there are {self.loose} images outside of class folders: move each into a folder named after its class"
        elif not self.other:
            found = "; it is empty"
        raise DataError(f"--data {name}: no images found in class folders; expected files such as {name}/CLASS/photo.jpg{found}")


def read_layout(paths: Iterable[str], name: str) -> Layout:
    """Return the records of the images among `paths` (relative, with ``/``), with class and, in train/val/test folders, split.

    A path that ends with ``/`` is a folder without entries. Records are sorted by class name, then by path in natural order. `name` is
    the name of the source. Raises `DataError` if other folders of images stand beside split folders, or two folders mean the same split.
    """
    loose = 0
    other: Counter[str] = Counter()
    images: list[tuple[str, list[str]]] = []
    without: list[list[str]] = []  # the parts of paths that are no images
    for path in paths:
        parts = path.split("/", 2)
        suffix = suffix_of(path)
        if len(parts) == 1:
            loose += suffix in SUFFIXES
        elif suffix in SUFFIXES:
            images.append((path, parts))
        else:
            without.append(parts)
            other[suffix] += not path.endswith("/")
    splits = _split_folders({parts[0] for _, parts in images}, name)
    if not splits:
        records = _in_order([(parts[0], None, path) for path, parts in images])
        return Layout(records, loose, +other, _empty(records, [(parts[0], parts[-1]) for parts in without if len(parts) > 1]))
    inside = [(parts[1], splits[parts[0]], path) for path, parts in images if len(parts) > 2]  # noqa: PLR2004 (split, class, file)
    records = _in_order(inside)
    empty = _empty(records, [(parts[1], parts[2]) for parts in without if len(parts) > 2 and parts[0] in splits])  # noqa: PLR2004
    return Layout(records, loose + len(images) - len(inside), +other, empty)


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name in lower case, with its dot, or an empty text."""
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") + 1 else ""  # the dot of a hidden file starts no suffix


def is_litter(name: str) -> bool:
    """Return True if a file or folder of this name is hidden or left behind by a system or tool."""
    return name.startswith(".") or name.lower() in LITTER_NAMES


def natural_key(text: str) -> NaturalKey:
    """Return a sort key for natural order: ``1, 2, 10`` and not ``1, 10, 2``."""
    parts: list[str | int] = [*_NUMBER.split(text)]  # text and numbers alternate, so that each is compared with its own type
    parts[1::2] = map(int, parts[1::2])
    return parts, text


def natural_order(names: Sequence[str]) -> list[str]:
    """Return class names in natural order; a model stores the order of its training."""
    return sorted(names, key=natural_key)


def _empty(records: Sequence[Record], others: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the folders of `others` (folder, rest of the path) that are no class of `records`, with their number of files."""
    known = {record.label for record in records}
    files: Counter[str] = Counter()
    for folder, rest in others:
        if folder not in known:
            files[folder] += bool(rest) and not rest.endswith("/")
    return dict(files)


def _split_folders(folders: set[str], name: str) -> dict[str, str]:
    """Return the split of each top folder; empty if the top folders are classes."""
    splits = {folder: ALIASES.get(folder.lower()) for folder in sorted(folders)}
    if TRAIN not in splits.values():
        return {}
    taken: dict[str, str] = {}
    for folder, split in splits.items():
        if split is None:
            raise DataError(f"--data {name}: the folder {folder!r} beside train is no split; allowed: train, val, test; move it elsewhere")
        if split in taken:
            raise DataError(f"--data {name}: the folders {taken[split]!r} and {folder!r} both mean the split {split}; keep one")
        taken[split] = folder
    return {folder: split for split, folder in taken.items()}


def _in_order(images: Sequence[tuple[str, str | None, str]]) -> tuple[Record, ...]:
    """Return records of (class, split, path), sorted by the folders of split and class, then by path in natural order."""
    by_folder: defaultdict[str, list[tuple[str, str | None, str]]] = defaultdict(list)
    for image in images:
        label, split, path = image
        by_folder[label if split is None else f"{path[: path.index('/')]}/{label}"].append(image)
    return tuple(
        Record(path, label, split)
        for folder in sorted(by_folder, key=lambda folder: folder.split("/"))
        for label, split, path in sorted(by_folder[folder], key=lambda image: natural_key(image[2]))
    )
