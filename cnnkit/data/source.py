"""Sources of images, and the lookup of a source by ``--data``.

A source lists records and returns the stored bytes or the pixels of each record. Nothing is ever written to a source. Kinds of
sources are entry points of the group ``cnnkit.sources``, both of cnnkit and of other packages.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from cnnkit import registry
from cnnkit.config.passwords import keep_passwords
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress
from cnnkit.errors import CnnkitError, DataError, PluginError, closest
from cnnkit.registry import Entry, fence

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS: tuple[str, ...] = (TRAIN, VAL, TEST)
ALIASES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
MAX_RECORDS = 100_000_000  # of a source of another package: records without end would fill the memory
RGB = 3  # channels
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

PARQUET = ".parquet"
KINDS_OF_FILES = ("shards", "parquet")
_FILES = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://|.*(\{[^{}]+\}|[*?])")


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


class Reader(Protocol):
    """The part of a source that reads its images."""

    def read(self, record: Record) -> StoredImage:
        """Return one image: the bytes of its file, or its pixels as uint8 RGB (H, W, 3).

        Several threads call this at the same time. Raises `UndecodableError` with the reason.
        """
        ...


class Source(Reader, Protocol):
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

    def stamp(self, record: Record) -> str:
        """Return a text that changes when the image may have changed. It should be cheap to compute."""
        ...


@dataclass(frozen=True)
class Request:
    """The request of a user to a kind of source: ``--data KIND:name``, or a path. `progress` follows the search for images."""

    name: str
    download: bool = False
    group_by: str = ""
    progress: Progress | None = None


@dataclass(frozen=True)
class SourceKind:
    """The value behind an entry point of ``cnnkit.sources``: `open` returns the source of a `Request`, `summary` is one line.

    A kind that needs a name says in `unnamed` how to give one, such as ``name the file, such as --data images.csv``.
    """

    open: Callable[[Request], Source]
    summary: str
    unnamed: str = ""


def open_source(data: str, *, download: bool = False, group_by: str = "", progress: Progress | None = None) -> Source:
    """Open the source `data`: a folder or file that exists, a pattern or address of files, else ``KIND`` or ``KIND:NAME``.

    `group_by` is a column of a table of images. The name of the source shows no password of an address. Raises `DataError` if the source
    does not exist or cannot be used, `PluginError` if its package does not work.
    """
    if not data:
        raise DataError("--data is missing: name a folder of class folders, such as --data ./images, or try --data digits")
    data = keep_passwords(data)
    known = registry.find(registry.SOURCES)
    kind, name = _kind_and_name(data, known)
    if not kind:
        kind = data.partition(":")[0]
        names = ", ".join(sorted(known))
        raise DataError(
            f"--data {data}: no such file or folder, and no source of that name is installed{closest(kind, known)} "
            f"Expected a folder of class folders, a CSV, a zip or tar, or a source: {names}; "
            f"list the sources with: {registry.list_command(registry.SOURCES)}"
        )
    found, entry = registry.load(registry.SOURCES, kind)
    if not isinstance(found, SourceKind):
        raise PluginError(f"source {kind!r} of {entry.origin} is a {type(found).__name__}, not a cnnkit.data.source.SourceKind")
    if found.unnamed and not name:
        raise DataError(f"--data {data.rstrip(':')}: {found.unnamed}")
    request = Request(name, download=download, group_by=group_by, progress=progress)
    if entry.is_builtin:
        return found.open(request)
    with fence(entry, f"cannot open {data!r}"):
        opened = found.open(request)
    return FencedSource(opened, entry)


class FencedSource:
    """The source `found` of another package behind the fence; an image that it fails to read is one unreadable image.

    Raises `PluginError` if it lacks a part of a source, or if its records are none.
    """

    def __init__(self, found: Source, entry: Entry) -> None:
        self._found = found
        self._entry = entry
        with fence(entry, "gives no usable source"):
            if missing := [part for part in ("name", "records", "notes", "read", "stamp") if not hasattr(found, part)]:
                self._refuse(f"gives a {type(found).__name__}, which is no source: it lacks {', '.join(missing)}")
            self.name = str(found.name)
            self.notes: Sequence[str] = tuple(map(str, found.notes))
            self.records: Sequence[Record] = tuple(map(self._checked, islice(found.records, MAX_RECORDS)))
            self.empty_classes: Mapping[str, int] = dict(empty_classes(found))

    def read(self, record: Record) -> StoredImage:
        """Return one image; raises `UndecodableError` for every failure of the package and for a value that is no image."""
        try:
            with fence(self._entry, f"cannot read {record.path}"):
                stored = cast("object", self._found.read(record))
        except UndecodableError:
            raise
        except CnnkitError as error:
            raise UndecodableError(str(error)) from error
        if isinstance(stored, bytes):
            return stored
        if is_image(stored):
            return stored
        given = f"an array of {stored.dtype} {stored.shape}" if isinstance(stored, np.ndarray) else f"a {type(stored).__name__}"
        raise UndecodableError(f"source {self._entry.name!r} of {self._entry.origin} gives {given}; expected bytes, or uint8 (H, W, 3)")

    def stamp(self, record: Record) -> str:
        """Return the text that changes when the image may have changed."""
        with fence(self._entry, f"has no stamp for {record.path}"):
            return str(self._found.stamp(record))

    def _checked(self, given: object) -> Record:
        """Return `given` as a record; raise `PluginError` unless its values have the types of one."""
        if not isinstance(given, Iterable) or isinstance(given, str):
            self._refuse(f"lists {given!r:.80}, which is no cnnkit.data.source.Record")
        record = given if isinstance(given, Record) else Record(*given)
        values = cast("tuple[object, ...]", tuple(record))
        if not all(isinstance(value, str) and value for value in values if value is not None) or None in values[:2]:
            self._refuse(f"lists {given!r:.80}; path and label of a record must be text, split and group text or None")
        if record.split not in {None, *SPLITS}:
            self._refuse(f"puts {record.path} into the split {record.split!r}; allowed: {', '.join(SPLITS)}, or None")
        return record

    def _refuse(self, problem: str) -> NoReturn:
        raise PluginError(f"source {self._entry.name!r} of {self._entry.origin} {problem}")


def is_image(stored: object) -> TypeGuard[NDArray[np.uint8]]:
    """Return True for pixels uint8 (H, W, 3) of at least one pixel."""
    return isinstance(stored, np.ndarray) and stored.dtype == np.uint8 and stored.ndim == RGB and stored.shape[2] == RGB and stored.size > 0


def empty_classes(source: Source) -> Mapping[str, int]:
    """Return the class folders of `source` without an image, with their number of other files; a source may know of none."""
    return getattr(source, "empty_classes", {})


def stamps_of(source: Source, records: Sequence[Record]) -> Iterable[str]:
    """Return the stamp of every record; a source with a method `stamp_all` gives them at once."""
    every = getattr(source, "stamp_all", None)
    return map(source.stamp, records) if every is None else every(records)


def one_form(name: str) -> str:
    """Return `name` in Unicode's composed form (NFC); macOS and some archivers write the decomposed form of the same name."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def names_files(data: str, kinds: Container[str] = ()) -> bool:
    """Return True if `data` is an address such as ``s3://…``, or a pattern with braces, ``*`` or ``?``, and begins with none of `kinds`."""
    kind, colon, _ = data.partition(":")
    return not (colon and kind in kinds) and _FILES.match(data) is not None


def located(data: str) -> str:
    """Return the value `data` of ``--data`` with an absolute path, so that it means the same in any folder; a name of no file is kept."""
    kind, _, name = data.partition(":")
    if kind in KINDS_OF_FILES and name:
        return f"{kind}:{located(name)}"
    if Path(data).exists():
        return str(Path(data).resolve())
    return os.path.abspath(data) if ":" not in data and names_files(data) else data  # noqa: PTH100 (a pattern is no path)


def _kind_and_name(data: str, known: Mapping[str, object]) -> tuple[str, str]:
    """Return the kind of the source `data` and its name; a file or folder of that name wins over a kind.

    The kind is one of `known`, or ``package:kind``, or empty if no package provides it.
    """
    path = Path(data)
    if path.is_dir():
        return "folder", data
    if names_files(data, known) and not path.exists():
        plain = data.partition("?")[0] if "://" in data else data  # the query of an address
        return ("parquet" if plain.lower().endswith(PARQUET) else "shards"), data
    if path.exists() or "/" in data.partition(":")[0]:
        return _kind_of_file(path.name.lower()), data
    kind, _, name = data.partition(":")
    if kind in known:
        return kind, name
    inner, _, rest = name.partition(":")
    return (f"{kind}:{inner}", rest) if inner in known else ("", "")


def _kind_of_file(name: str) -> str:
    """Return the kind of the source in a file of this name."""
    kinds = {ARCHIVES: "archive", (".csv", ".tsv"): "csv", (PARQUET,): "parquet"}
    return next((kind for suffixes, kind in kinds.items() if name.endswith(suffixes)), "folder")
