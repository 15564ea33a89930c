"""Sources of images, and the lookup of a source by ``--data``.

A source lists records and returns the stored bytes or the pixels of each record. Nothing is ever written to a source. Kinds of
sources are entry points of the group ``cnnkit.sources``, both of cnnkit and of other packages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnkit import registry
from cnnkit.errors import DataError, PluginError, closest, listed

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS: tuple[str, ...] = (TRAIN, VAL, TEST)
ALIASES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class Record(NamedTuple):
    """One image of a source.

    `path` is relative to the source, with ``/``. `split` is set if the source fixes it. Images of one `group` (a patient, a
    video) belong in one split.
    """

    path: str
    label: str
    split: str | None = None
    group: str | None = None


StoredImage = bytes | NDArray[np.uint8]


class Source(Protocol):
    """A source of images, as the rest of cnnkit uses it."""

    @property
    def name(self) -> str:
        """The name that the user gave: for files, the path."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """Every image, in a stable order."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user on the search for images, such as the number of files left out."""
        ...

    def read(self, record: Record) -> StoredImage:
        """Return one image: the bytes of its file, or its pixels as uint8 RGB (H, W, 3).

        Several threads call this at the same time. Raises `UndecodableError` with the reason.
        """
        ...

    def stamp(self, record: Record) -> str:
        """Return a text that changes when the image may have changed. It should be cheap to compute."""
        ...


@dataclass(frozen=True)
class Request:
    """The request of a user to a kind of source: ``--data KIND:name``, or a path."""

    name: str
    download: bool = False
    group_by: str = ""


@dataclass(frozen=True)
class SourceKind:
    """The value behind an entry point of ``cnnkit.sources``: `open` returns the source of a `Request`, `summary` is one line."""

    open: Callable[[Request], Source]
    summary: str


def open_source(data: str, *, download: bool = False, group_by: str = "", exclude: Sequence[str] = ()) -> Source:
    """Open the source `data`: a folder, CSV or archive that exists, else ``KIND`` or ``KIND:NAME`` of an installed kind.

    `group_by` is a column of a table of images. The source leaves out images whose path matches a pattern of `exclude`. Raises
    `DataError` if the source does not exist or cannot be used, or a pattern matches nothing, `PluginError` if its package does not work.
    """
    if not data:
        raise DataError("--data is missing: name a folder of class folders, such as --data ./images, or try --data digits")
    kind, name = _kind_and_name(data)
    known = registry.find(registry.SOURCES)
    if kind not in known:
        names = ", ".join(sorted(known))
        raise DataError(
            f"--data {data}: no such file or folder, and no source of that name is installed{closest(kind, known)} "
            f"Expected a folder of class folders, a CSV, a zip or tar, or a source: {names}"
        )
    found, entry = registry.load(registry.SOURCES, kind)
    if not isinstance(found, SourceKind):
        raise PluginError(f"source {kind!r} of {entry.origin} is a {type(found).__name__}, not a cnnkit.data.source.SourceKind")
    source = found.open(Request(name, download=download, group_by=group_by))
    return leave_out(source, exclude) if exclude else source


@dataclass(frozen=True)
class _PartialSource:
    """A source without some of its images."""

    whole: Source
    records: tuple[Record, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def empty_classes(self) -> Mapping[str, int]:
        return empty_classes(self.whole)

    def read(self, record: Record) -> StoredImage:
        return self.whole.read(record)

    def stamp(self, record: Record) -> str:
        return self.whole.stamp(record)


def leave_out(source: Source, exclude: Sequence[str]) -> Source:
    """Return `source` without the images whose path matches a pattern of `exclude`, such as ``*_mask.png``; ``*`` matches ``/`` too.

    Raises `DataError` if a pattern matches no image, or the patterns match all.
    """
    kept = list(source.records)
    for pattern in exclude:
        matched = [record for record in source.records if fnmatchcase(one_form(record.path), pattern)]
        if not matched:
            example = source.records[0].path if source.records else "none"
            raise DataError(
                f"--exclude {pattern}: no image of {source.name} has such a path, in which * stands for any text; the first is {example!r}"
            )
        gone = set(matched)
        kept = [record for record in kept if record not in gone]
    if not kept:
        raise DataError(f"--exclude {','.join(exclude)}: leaves no image of {source.name}; name the images that are no photographs alone")
    lost = sorted({record.label for record in source.records} - {record.label for record in kept})
    classes = f", among them all images of {listed(map(repr, lost))}" if lost else ""
    note = f"{len(source.records) - len(kept):,} images were left out by --exclude{classes}"
    return _PartialSource(source, tuple(kept), (*source.notes, note))


def empty_classes(source: Source) -> Mapping[str, int]:
    """Return the class folders of `source` without an image, with their number of other files; a source may know of none."""
    return getattr(source, "empty_classes", {})


def one_form(name: str) -> str:
    """Return `name` in Unicode's composed form (NFC); macOS and some archivers write the decomposed form of the same name."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _kind_and_name(data: str) -> tuple[str, str]:
    """Return the kind of the source `data` and its name; a file or folder of that name wins over a kind."""
    path = Path(data)
    if path.is_dir():
        return "folder", data
    lower = path.name.lower()
    if path.exists() or "/" in data.partition(":")[0]:
        if lower.endswith(ARCHIVES):
            return "archive", data
        return ("csv" if lower.endswith((".csv", ".tsv")) else "folder"), data
    kind, _, name = data.partition(":")
    return kind, name
