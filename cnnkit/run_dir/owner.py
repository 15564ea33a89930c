"""The lock of a run, lock.json: the one process that trains in the run directory, by its number, host and boot of the host."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cnnkit.errors import ModelFileError
from cnnkit.files import json_text, locked
from cnnkit.files.whole import PART_SUFFIX, flush, flush_folder, temporary

LOCK_FILE = "lock.json"
_OWNED = ("config.json", "split.csv", "history.csv", "best.safetensors", "manifest.json", LOCK_FILE, "last/*")
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")  # Linux; other systems have none, and a process number is then all that is known
_SPACE_FILE = Path("/proc/self/ns/pid")
_START_FIELD = 19  # of /proc/PID/stat after the name of the program: the start of the process, in ticks after the boot


class Owner(BaseModel):
    """A process: its number, which a later process may get too, so with its start; the host, its boot and its space of numbers.

    A container has a space of its own, from which the processes of other containers cannot be seen. `boot`, `space` and `start` are
    empty where the system does not tell them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    host: str
    boot: str = ""
    space: str = ""
    start: str = ""

    @classmethod
    def this_process(cls) -> Self:
        """Return the present process."""
        boot = space = ""
        with suppress(OSError):
            boot = _BOOT_FILE.read_text("ascii").strip()
        with suppress(OSError):
            space = str(_SPACE_FILE.readlink())
        return cls(pid=os.getpid(), host=platform.node(), boot=boot, space=space, start=_start_of(os.getpid()))

    @property
    def is_visible(self) -> bool:
        """True if the process can be seen from here, if it runs: it has the host, the boot and the space of this process."""
        here = Owner.this_process()
        return (self.host, self.boot, self.space) == (here.host, here.boot, here.space)

    @property
    def is_dead(self) -> bool:
        """True if the process has certainly ended; False if it runs, or if it cannot be seen from here."""
        here = Owner.this_process()
        if self.host != here.host:
            return False
        if self.boot != here.boot:
            return True
        if self.space != here.space:
            return False
        import psutil  # os.kill(pid, 0), which asks other systems, ends the process on Windows

        return not psutil.pid_exists(self.pid) or _start_of(self.pid) != self.start

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_owner(folder: Path) -> Owner | None:
    """Return the process in lock.json of the run `folder`; None if the run has no owner. Raises `ModelFileError` if it is damaged."""
    file = folder / LOCK_FILE
    try:
        return Owner.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "damaged"
        raise ModelFileError(f"{file}: {reason}; if no training runs in this folder, remove the file: rm {file}") from None


def check_free(folder: Path) -> str:
    """Return a note if the owner of the run `folder` is dead, else an empty text; raises `ModelFileError` if another process owns it."""
    owner = read_owner(folder)
    if owner is None or owner == Owner.this_process():
        return ""
    if owner.is_dead:
        return f"the training of {owner} ended without a word; its lock is taken over"
    file = folder / LOCK_FILE
    seen = "" if owner.host == platform.node() else f"; if that process has ended, remove its lock: rm {file}"
    raise ModelFileError(f"{folder}: {owner} trains in this run; wait for its end, or stop it: kill {owner.pid}{seen}")


def take(folder: Path) -> str:
    """Make this process the owner of the run `folder`; return a note if it takes over the lock of a dead process.

    Raises `ModelFileError` if another process owns the run.
    """
    with locked(folder):
        note = check_free(folder)
        _remove_leftovers(folder)
        file = folder / LOCK_FILE
        with temporary(file) as part:
            part.write_text(json_text(Owner.this_process().model_dump()), "utf-8")
            flush(part)
            part.replace(file)
        flush_folder(folder)
    return note


def release(folder: Path) -> None:
    """Give up the run `folder` if this process owns it."""
    with suppress(OSError, ModelFileError), locked(folder):
        if read_owner(folder) == Owner.this_process():
            (folder / LOCK_FILE).unlink()


def remove_lock(folder: Path, owner: Owner) -> None:
    """Remove the lock of the run `folder` if `owner` holds it: a process that cannot be seen from here and is known to have ended."""
    with suppress(OSError, ModelFileError), locked(folder):
        if read_owner(folder) == owner:
            (folder / LOCK_FILE).unlink()


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a dead owner; other processes write none of these files, or write them under the same lock."""
    for name in _OWNED:
        for part in folder.glob(f"{name}.*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)


def _start_of(pid: int) -> str:
    """Return the start of the process `pid` in ticks; an empty text where the system does not tell it, and for a zombie."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[_START_FIELD]
    return ""
