"""Folders of images: class folders (``cats/1.jpg``), or train/val/test folders of class folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from cnnkit.data.columns import RecordColumns
from cnnkit.data.image import SUFFIXES, read_file
from cnnkit.data.source import Record, Request, SourceKind
from cnnkit.data.sources.layout import is_litter, natural_key, own_folder, own_folders, read_layout, suffix_of
from cnnkit.errors import ConfigError, DataError

TABLES = {".json", ".jsonl", ".ndjson", ".xlsx", ".xls", ".ods", ".txt", ".feather"}  # formats that may list images


class FolderSource:
    """The images in the class folders of `root`."""

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise DataError(f"--data {root}: no such folder; expected a folder of class folders, or 'digits'")
        if not root.is_dir():
            advice = "; save the table as a CSV with the columns path,label" if root.suffix.lower() in TABLES else ""
            raise DataError(
                f"--data {root}: not a folder; expected a folder of class folders, a .csv, or a .zip or .tar of such a folder{advice}"
            )
        self.name = str(root)
        self._root = str(root)
        layout = read_layout(files_below(self._root), self.name)
        layout.check(self.name)
        self.records = layout.records
        self.empty_classes = layout.empty_classes
        self.notes = layout.notes()

    def read(self, record: Record) -> bytes:
        """Return the bytes of one file."""
        return read_file(f"{self._root}/{record.path}")

    def stamp(self, record: Record) -> str:
        """Return size and modification time of one file."""
        return file_stamp(f"{self._root}/{record.path}")

    def stamp_all(self, records: Sequence[Record]) -> Iterator[str]:
        """Yield the stamp of every record."""
        return (file_stamp(f"{self._root}/{path}") for path in RecordColumns.of(records).paths)


def file_stamp(path: str) -> str:
    """Return size and modification time of a file, or ``missing``."""
    try:
        status = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"


def image_files(folder: Path) -> list[Path]:
    """Return the image files in and below `folder`, in natural order, without hidden files and files of systems, tools and cnnkit."""
    return [folder / path for path in sorted_files(folder)[0]]


def sorted_files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the image files in and below `folder` and the other files, relative to it, in natural order.

    Hidden files and files of systems, tools and cnnkit are in neither list.
    """
    every = list(files_below(str(folder)))
    written = own_folders(every)
    files = (path for path in every if not path.endswith("/") and not own_folder(path, written))
    kept = sorted(files, key=natural_key)
    images = [path for path in kept if suffix_of(path) in SUFFIXES]
    return images, [path for path in kept if suffix_of(path) not in SUFFIXES]


def check_outside(out: Path, data: str, flag: str = "--out") -> None:
    """Raise `ConfigError` if the folder or picture `out`, given by `flag`, lies in the folder `data`: it would count as images.

    A picture in the top folder of `data` is in no class folder, so it may lie there.
    """
    root = Path(data)
    if not data or not root.is_dir():
        return
    is_picture = out.suffix.lower() in SUFFIXES
    place, inside = (out.parent if is_picture else out).resolve(), root.resolve()
    if place.is_relative_to(inside) and not (is_picture and place == inside):
        kind = "its image" if is_picture else "its pictures"
        raise ConfigError(
            f"{flag} {out}: lies inside the data {data}, where {kind} would count as data; "
            f"name another place, such as {flag} {inside.parent / (out.name or 'runs')}"
        )


def files_below(root: str) -> Iterator[str]:
    """Yield the paths, relative to `root` and with ``/``, of the files in and below it, without hidden files and litter.

    The path of a folder without entries ends with ``/``.
    Links are followed, except into a parent folder, which would repeat all images as another class. Raises `DataError` for a folder
    that cannot be listed, since skipping it would silently lose images of a class.
    """
    yield from _walk(root, "", frozenset(map(_identity, [root, *map(str, Path(root).resolve().parents)])))


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    names: list[str] = []
    folders: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_litter(entry.name):
                    names.append(entry.name)
                    if _is_folder(entry):
                        folders.add(entry.name)
    except OSError as error:
        _refuse(error)
    if not names and prefix:
        yield prefix
    for name in sorted(names):
        if name not in folders:
            yield prefix + name
            continue
        inside = os.path.join(folder, name)  # noqa: PTH118 (a million paths stay text)
        identity = _identity(inside)
        if identity not in above:
            yield from _walk(inside, f"{prefix}{name}/", above | {identity})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)  # noqa: PTH116 (a Path costs more than the call)
    except OSError as error:
        _refuse(error)
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be listed: {error.strerror or error}") from None


def _open(request: Request) -> FolderSource:
    return FolderSource(Path(request.name))


folder = SourceKind(open=_open, summary="class folders, or train/val/test folders of class folders")
