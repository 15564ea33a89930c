"""Search for paths that name one file under several spellings, without opening a file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cnnkit.data.source import one_form

Folder = tuple[int, int] | str  # device and inode, or the path of a folder that is not there


def same_files(base: str, paths: Sequence[str]) -> dict[int, int]:
    """Return, for every index of `paths` that names the file of an earlier path, the index of the first such path.

    `paths` are relative to the folder `base`, or absolute. Spellings differ by ``..``, by links, and by case or Unicode form where the
    file system makes no difference. Only folders are listed, except for files whose names differ by case or form.
    """
    # Rows of one hash are looked at, since the names of a million files would fill the memory. It is stored in 64 bits.
    hashes = np.fromiter((hash((folder, _folded(name))) for folder, name in _places(base, paths)), np.int64, len(paths))
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    rows: list[int] = np.unique(order[np.union1d(same, same + 1)]).tolist()
    found: defaultdict[Folder, dict[str, int]] = defaultdict(dict)
    repeated: dict[int, int] = {}
    for index, (folder, name) in zip(rows, _places(base, [paths[row] for row in rows]), strict=True):
        names = found[folder]
        first = names.setdefault(_folded(name), index)
        if first != index and not _is_same(base, paths[first], paths[index]):
            first = names.setdefault(f"/{name}", index)  # two files whose names differ by case or form; no name has a slash
        if first != index:
            repeated[index] = first
    return repeated


def _places(base: str, paths: Iterable[str]) -> Iterator[tuple[Folder, str]]:
    """Yield the folder and the name of each file, those of its target for a link."""
    folders: dict[str, Folder] = {}
    links: dict[Folder, frozenset[str]] = {}
    for path in paths:
        start = path.rfind("/") + 1
        parent, name = path[:start], path[start:]
        folder = folders.get(parent)
        if folder is None:
            place = os.path.join(base, parent)  # noqa: PTH118 (a million paths stay text)
            folder = folders[parent] = _identity(place)
            links.setdefault(folder, _links(place))
        if name in links[folder]:
            target = os.path.realpath(os.path.join(base, path))  # noqa: PTH118
            folder, name = _identity(os.path.dirname(target)), os.path.basename(target)  # noqa: PTH119,PTH120
        yield folder, name


def _folded(name: str) -> str:
    """Return the name of a file without case, in the composed form of Unicode."""
    return (name if name.isascii() else one_form(name)).casefold()


def _identity(folder: str) -> Folder:
    try:
        status = os.stat(folder)  # noqa: PTH116 (paths are text here)
    except (OSError, ValueError):
        return os.path.normpath(folder)
    return status.st_dev, status.st_ino


def _links(folder: str) -> frozenset[str]:
    """Return the names of the links in `folder`; listing a folder tells them without a look at each file."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except (OSError, ValueError):
        return frozenset()


def _is_same(base: str, one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return os.path.samefile(os.path.join(base, one), os.path.join(base, other))  # noqa: PTH118,PTH121
    except (OSError, ValueError):
        return False
