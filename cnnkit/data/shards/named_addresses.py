"""Addresses of data that the user of this machine has named, so that a run from someone else cannot choose one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cnnkit.data.source import KINDS_OF_FILES
from cnnkit.data.store.store import cache_folder
from cnnkit.errors import CnnkitError, DataError, shell_word
from cnnkit.files import read_json, write_json

ADDRESSES_FILE = "addresses.json"  # in the folder of the cache
MAX_ADDRESSES = 1000  # in the file; the address that was named first goes first

_named: set[str] = set()  # in this process, also if the file cannot be written


def name_address(data: str) -> None:
    """Remember `data`, a value of ``--data`` without passwords, if it is an address."""
    address = _without_kind(data)
    if "://" not in address or address in _named:
        return
    _named.add(address)
    known = _read()
    if address not in known:
        with suppress(OSError, CnnkitError):  # without the file, another command asks for the address again
            write_json(cache_folder() / ADDRESSES_FILE, [*known, address][-MAX_ADDRESSES:])


def check_named(location: str, run: Path) -> None:
    """Raise `DataError` if `location`, from the record of `run`, is an address that no command of this user has named."""
    address = _without_kind(location)
    if "://" not in address or address in _named or address in _read():
        return
    shown = shell_word(location)
    raise DataError(
        f"{run}: its images are at {location}, an address that no command on this machine has named; "
        f"if you trust it, add --data {shown}, or read it once with: cnnkit doctor {shown}"
    )


def _without_kind(data: str) -> str:
    """Return the address in `data`, which may begin with a kind such as ``parquet:``."""
    kind, _, name = data.partition(":")
    return name if kind in KINDS_OF_FILES else data


def _read() -> list[str]:
    """Return the addresses in the file."""
    with suppress(OSError, ValueError, CnnkitError):
        known: object = read_json(cache_folder() / ADDRESSES_FILE)
        if isinstance(known, list):
            return [str(each) for each in known]
    return []
