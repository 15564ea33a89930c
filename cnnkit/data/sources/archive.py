"""Archives of class folders, read without unpacking, so that no path can lead out of the archive."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from cnnkit.data.columns import PathIndex, RecordColumns, Rows, Texts
from cnnkit.data.image import SUFFIXES
from cnnkit.data.source import TRAIN, Record, Request, SourceKind
from cnnkit.data.sources.layout import is_litter, own_folder, own_folders, read_layout, read_split, suffix_of
from cnnkit.data.sources.tarred import TarMembers
from cnnkit.data.sources.zipped import ZipMembers
from cnnkit.errors import DataError, left_out_note


class Members(Protocol):
    """The regular files in an archive."""

    @property
    def names(self) -> Texts:
        """The names of the files, as stored; `read` and `stamp` take an index of this sequence."""
        ...

    @property
    def folders(self) -> Sequence[str]:
        """The names of the folders that are members of their own, as stored."""
        ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """The number of members that are no regular files, by reason."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user on the reading of the archive."""
        ...

    def read(self, index: int) -> bytes:
        """Return the bytes of one file; raises `UndecodableError`."""
        ...

    def stamp(self, index: int) -> str:
        """Return a text that changes when the file may have changed."""
        ...


class ArchiveSource:
    """The images in the class folders of the zip or tar `path`.

    Archivers may add a folder around all class or split folders; it is no class.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"--data {path}: no such file; expected a .zip or .tar of class folders")
        self.name = str(path)
        self._members = _open_members(path)
        names, members, left_out = _plain_names(self._members)
        written = own_folders(names)
        wrapper = wrapping_folder(name for name in names if not own_folder(name, written))
        empty = (f"{plain[len(wrapper) :]}/" for name in self._members.folders if (plain := plain_name(name)) and _is_below(plain, wrapper))
        layout = read_layout(chain((_inside(name, wrapper, written) for name in names), empty), self.name)
        layout.check(self.name)
        found = layout.records
        self.records = RecordColumns(names.take(layout.rows).compact(), found.labels, found.splits)
        self._index, self._of_record = PathIndex(self.records.paths), members[layout.rows]
        self.empty_classes = layout.empty_classes
        self.notes = (
            *((f"the folder {wrapper[:-1]!r} around the class folders does not count as a class",) if wrapper else ()),
            *(left_out_note(count, "member", reason) for reason, count in left_out.items() if count),
            *layout.notes(),
            *self._members.notes,
        )

    def read(self, record: Record) -> bytes:
        """Return the bytes of one member."""
        return self._members.read(self._member(record))

    def stamp(self, record: Record) -> str:
        """Return the stamp of one member, from the facts that the archive states about it."""
        return self._members.stamp(self._member(record))

    def stamp_all(self, records: Sequence[Record]) -> Iterator[str]:
        """Yield the stamp of every record."""
        rows = self._index.rows(RecordColumns.of(records).paths)
        return (self._members.stamp(member) for member in map(int, self._of_record[rows]))

    def _member(self, record: Record) -> int:
        return int(self._of_record[self._index.row(record.path)])


def _plain_names(found: Members) -> tuple[Texts, Rows, Counter[str]]:
    """Return the plain names of the members that may be images, their indices, and the number of other members by reason."""
    left_out = Counter(found.left_out)
    indices = array("q")

    def plain_names() -> Iterator[str]:
        for index, name in enumerate(found.names):
            plain = plain_name(name)
            if plain is None:
                left_out["with a path that leads out of the archive"] += 1
            elif not any(map(is_litter, plain.split("/"))):
                indices.append(index)
                yield plain

    names = Texts.of(plain_names())
    members = np.array(indices, np.int64)
    repeats = PathIndex(names).repeats()
    if not repeats:
        return names, members, left_out
    left_out["with a repeated name"] += len(repeats)
    for row, earlier in repeats.items():
        members[earlier] = members[row]  # unpacking would also keep the last file of a name
    kept = np.setdiff1d(np.arange(len(names)), list(repeats))
    return names.take(kept).compact(), members[kept], left_out


def plain_name(name: str) -> str | None:
    """Return the name of a member without ``.`` and empty parts; None if it is absolute or leads upwards."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    absolute = name.startswith("/") or name[1:3] == ":/"
    return None if absolute or ".." in parts or not parts else "/".join(parts)


def _is_below(folder: str, wrapper: str) -> bool:
    """Return True if `folder` lies inside `wrapper` and is no litter."""
    return folder.startswith(wrapper) and not any(map(is_litter, folder.split("/")))


def _inside(name: str, wrapper: str, written: frozenset[str]) -> str:
    """Return the path of a file inside `wrapper`; a file outside is loose, or keeps its path in a folder `written` by cnnkit."""
    if name.startswith(wrapper):
        return name[len(wrapper) :]
    return name if own_folder(name, written) else name.rpartition("/")[2]


def wrapping_folder(names: Iterable[str]) -> str:
    """Return the common folders around all folders of images, with a ``/`` at the end, or an empty text."""
    folders = [folder.split("/") for folder in {name.rpartition("/")[0] for name in names if suffix_of(name) in SUFFIXES} if folder]
    wrapper = ""
    for depth in range(max(map(len, folders), default=1) - 1):  # the innermost folder is a class
        tops = {folder[depth] for folder in folders if len(folder) > depth}
        top = tops.pop()
        if tops or read_split(top) == TRAIN:
            break
        wrapper += f"{top}/"
    return wrapper


def _open_members(path: Path) -> Members:
    kind: Callable[[Path], Members] = ZipMembers if path.name.lower().endswith(".zip") else TarMembers
    try:
        return kind(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _open(request: Request) -> ArchiveSource:
    return ArchiveSource(Path(request.name))


archive = SourceKind(
    open=_open,
    summary="a .zip or .tar(.gz, .bz2, .xz, .zst) of class folders, read without unpacking",
    unnamed="name the file, such as --data images.zip",
)
