"""The cache as a whole: the list of stores, their removal, and the limit of their size."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cnnkit.data.store import journal
from cnnkit.data.store.locks import exclusive, is_in_use
from cnnkit.data.store.store import JOURNAL_FILE, cache_folder, stores_folder
from cnnkit.errors import ConfigError
from cnnkit.files import read_json, write_json

SETTINGS_FILE = "settings.json"
LIMIT_VARIABLE = "CNNKIT_CACHE_LIMIT"
DEFAULT_LIMIT_SHARE = 0.25  # of the disk that holds the cache
BLOCKS_NAME, INDEXES_NAME = "(bytes of addresses)", "(indexes of shards)"
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@dataclass(frozen=True)
class StoreInfo:
    """A store in the list of `cnnkit cache`; `used` is the time of its last use, in seconds since 1970."""

    path: Path
    source: str
    images: int
    bytes: int
    used: float


def blocks_folder() -> Path:
    """Return the folder of the bytes of files at addresses."""
    return cache_folder() / "blocks"


def index_folder() -> Path:
    """Return the folder of the indexes of shards."""
    return cache_folder() / "indexes"


def stores() -> list[StoreInfo]:
    """Return all stores, last used first; a folder of another version of cnnkit, or one that was never finished, has no images.

    The bytes of addresses and the indexes of shards are listed as a store each.
    """
    found: list[StoreInfo] = []
    for folder in _folders():
        try:
            (head, *entries), _ = journal.read(folder / JOURNAL_FILE)
            source, images = str(head["source"]), int(entries[-1]["stop"]) if entries else 0
        except (OSError, ValueError, KeyError, TypeError):
            source, images = "", 0
        with suppress(OSError):  # another process may remove it
            found.append(StoreInfo(folder, source, images, _disk_usage(folder), folder.stat().st_mtime))
    for folder, source in _extra_folders().items():
        with suppress(OSError):
            found.append(StoreInfo(folder, source, 0, _disk_usage(folder), folder.stat().st_mtime))
    return sorted(found, key=lambda info: -info.used)


def clear() -> tuple[list[Path], int]:
    """Remove all stores that no process is writing; return the stores that stay and the freed bytes.

    A run can go on with its removed store.
    """
    stay, freed = [], 0
    for folder in _folders():
        size = _disk_usage(folder)
        if _remove(folder):
            freed += size
        else:
            stay.append(folder)
    for folder in _extra_folders():
        freed += _disk_usage(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return stay, freed


def limit() -> int:
    """Return the limit of the size of all stores in bytes: ``$CNNKIT_CACHE_LIMIT``, else that of `set_limit`, else a share of the disk.

    Raises `ConfigError` if the variable is not a size.
    """
    given = given_limit()
    return default_limit() if given is None else given


def given_limit() -> int | None:
    """Return the limit that the user has set, in bytes; None for the default. Raises `ConfigError` if the variable is not a size."""
    given = os.environ.get(LIMIT_VARIABLE)
    if given:
        return parse_size(given, LIMIT_VARIABLE)
    try:
        return int(read_json(cache_folder() / SETTINGS_FILE)["limit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def default_limit() -> int:
    """Return the limit that holds if none was set, in bytes."""
    parent = cache_folder()
    while not parent.exists():
        parent = parent.parent
    return int(shutil.disk_usage(parent).total * DEFAULT_LIMIT_SHARE)


def set_limit(size: int | None) -> None:
    """Remember the limit `size` in bytes for this and later commands, None for the default; raises `CnnkitError` if the disk is full."""
    if size is None:
        (cache_folder() / SETTINGS_FILE).unlink(missing_ok=True)
    else:
        write_json(cache_folder() / SETTINGS_FILE, {"limit": size})


def parse_size(text: str, name: str) -> int:
    """Return a size such as ``20GB`` in bytes; raises `ConfigError` that names the flag or variable `name`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in UNITS:
        raise ConfigError(f"{name} (={text}) must be a number of bytes with a unit, kB, MB, GB or TB, such as 20GB")
    return int(float(found[1]) * UNITS[found[2]])


def keep_limit(used: Iterable[Path] = ()) -> list[StoreInfo]:
    """Remove the stores that were not used for the longest time until all stores together keep the limit; return those removed.

    A store that a process uses stays, and so do the stores `used`. The bytes of addresses go first: they can be fetched again.
    """
    found, removed = stores(), []
    total, most, kept = sum(info.bytes for info in found), limit(), {*used, *_extra_folders()}
    freed = _remove_blocks(total - most)
    if freed:
        removed.append(StoreInfo(blocks_folder(), BLOCKS_NAME, 0, freed, 0.0))
    total -= freed
    for info in reversed(found):
        if total <= most:
            break
        if info.path not in kept and not is_in_use(info.path) and _remove(info.path):
            total -= info.bytes
            removed.append(info)
    return removed


def keep_blocks_limit() -> None:
    """Remove the bytes of addresses that were not used for the longest time until the cache keeps its limit; stores stay."""
    _remove_blocks(sum(map(_disk_usage, [*_folders(), *_extra_folders()])) - limit())


def _remove_blocks(excess: int) -> int:
    """Remove the bytes of addresses that were not used for the longest time, at least `excess` bytes; return the freed bytes."""
    if excess <= 0:
        return 0
    freed = 0
    for file, status in sorted(_statuses(blocks_folder()), key=lambda each: each[1].st_mtime_ns):
        if freed >= excess:
            break
        file.unlink(missing_ok=True)
        freed += status.st_size
    return freed


def _extra_folders() -> dict[Path, str]:
    """Return the folders of the cache that are no stores, with their names in its list."""
    named = {blocks_folder(): BLOCKS_NAME, index_folder(): INDEXES_NAME}
    return {folder: name for folder, name in named.items() if _files(folder)}


def _remove(folder: Path) -> bool:
    """Remove a store unless a process is writing it."""
    lock = folder.with_name(f"{folder.name.partition('-')[0]}.lock")
    with suppress(OSError), exclusive(lock, lambda: False) as obtained:
        if not obtained:
            return False
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _folders() -> list[Path]:
    return [path for path in _files(stores_folder()) if path.is_dir()]


def _disk_usage(folder: Path) -> int:
    """Return the bytes that the files of `folder` take on the disk: canvases that were not made yet take none."""
    sizes = (status for _, status in _statuses(folder))
    return sum(min(size.st_size, size.st_blocks * 512) if hasattr(size, "st_blocks") else size.st_size for size in sizes)


def _statuses(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files of `folder` with their status, without those that another process removes meanwhile."""
    for file in _files(folder):
        with suppress(FileNotFoundError):
            yield file, file.stat()


def _files(folder: Path) -> list[Path]:
    """Return the files and folders in `folder`; none if there is no such folder, or not any more."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
