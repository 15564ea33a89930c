"""Files that appear under their name only when they are whole, and what tells one file from another."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield the name to write to; `path` becomes that file when the body ends well, else it stays as it was."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # it has got its name, or was never made
            part.unlink()


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of what the file `path` holds, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
