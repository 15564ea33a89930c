"""Sources of images, and the lookup of a source by ``--data``.

A source lists records and returns the stored bytes or the pixels of each record. Nothing is ever written to a source. Kinds of
sources are entry points of the group ``cnnkit.sources``, both of cnnkit and of other packages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnkit import registry
from cnnkit.errors import DataError, PluginError, closest

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


def open_source(data: str, *, download: bool = False, group_by: str = "") -> Source:
    """Open the source `data`: a folder, CSV or archive that exists, else ``KIND`` or ``KIND:NAME`` of an installed kind.

    `group_by` is a column of a table of images. Raises `DataError` if the source does not exist or cannot be used, `PluginError`
    if its package does not work.
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
    return found.open(Request(name, download=download, group_by=group_by))


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
