"""Files as a whole: a flushed replacement under a unique temporary name, a lock of a folder, and the fingerprint of a file."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnkit.errors import ConfigError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PART_SUFFIX = ".part"
MAX_NAME_START = 40  # characters of the file's name in its temporary name, which must stay below the 255 bytes of a name
LOCK_NAME = ".lock"  # an empty file that stays, because removing it would let two processes lock different files


@contextmanager
def temporary(path: Path) -> Generator[Path]:
    """Yield a unique name beside `path` to write to; at the end the file of that name is removed if it was not renamed.

    An error of the system names `path`.
    """
    part = path.with_name(f"{path.name[:MAX_NAME_START]}.{os.urandom(4).hex()}{PART_SUFFIX}")
    try:
        yield part
    except OSError as error:  # an error of write, flush or rename names no file, or the temporary one
        if error.filename in {None, str(part)} and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):  # the file was renamed or never made
            part.unlink()


def flush(part: Path) -> None:
    """Wait until the content of the file `part` is on the disk."""
    handle = os.open(part, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(folder: Path) -> None:
    """Wait until the names of the files in `folder` are on the disk; Windows cannot, and does it by itself."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, and wait until their names are on the disk."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        flush_folder(made.parent)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Let one process or thread at a time run the body for `folder`; the system ends the lock of a process that dies."""
    with (folder / LOCK_NAME).open("ab") as file:
        if sys.platform == "win32":
            file.seek(0)
            lock_file(file.fileno(), wait=True)
        else:
            with suppress(OSError):  # a network folder without locks
                lock_file(file.fileno(), wait=True)
        yield


def lock_file(opened: int, *, wait: bool, shared: bool = False) -> None:
    """Lock the file of a descriptor until it is closed; with `wait`, after another process that holds it.

    Windows has no `shared` locks. Raises `OSError` if another process holds the file, or if the file system has no locks.
    """
    if sys.platform == "win32":
        msvcrt.locking(opened, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(opened, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the content of the file `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(out: Path, flag: str = "--out") -> None:
    """Create the folder `out` of `flag` if it is missing and write to it; raises `ConfigError` if that fails."""
    probe = out / f".write-test-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{flag} {out}: cannot write there ({error.strerror or error}); name a folder you may write to: {flag} FOLDER"
        ) from None
