"""Search for paths that name one file under several spellings, without opening a file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from cnnkit.data.source import one_form

Folder = tuple[int, int] | str  # device and inode, or the path of a folder that is not there


def same_files(base: str, paths: Sequence[str]) -> dict[int, int]:
    """Return, for every index of `paths` that names the file of an earlier path, the index of the first such path.

    `paths` are relative to the folder `base`, or absolute. Spellings differ by ``..``, by links, and by case or Unicode form where the
    file system makes no difference. Only folders are listed, except for files whose names differ by case or form.
    """
    folders: dict[str, Folder] = {}
    links: dict[Folder, frozenset[str]] = {}
    found: defaultdict[Folder, dict[str, int]] = defaultdict(dict)
    repeated: dict[int, int] = {}
    for index, path in enumerate(paths):
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
        names = found[folder]
        first = names.setdefault((name if name.isascii() else one_form(name)).casefold(), index)
        if first != index and not _is_same(base, paths[first], path):
            first = names.setdefault(f"/{name}", index)  # two files whose names differ by case or form; no name has a slash
        if first != index:
            repeated[index] = first
    return repeated


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
