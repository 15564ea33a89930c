"""The manifest of a run, manifest.json: the SHA-256 of each file below its folder, checked when the file is read.

The manifest changes before the file does and then lists both contents, so that an interruption at any moment leaves a file that
it knows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cnnkit.errors import DamagedFileError
from cnnkit.files.regular import parse_json, read_regular
from cnnkit.files.text import json_text
from cnnkit.files.whole import fingerprint, flush, flush_folder, locked, temporary

MANIFEST = "manifest.json"
_WRITER = "cnnkit"
_RUN_FILES = ("config.json", "split.csv", "best.safetensors")
MAX_CHECKED_BYTES = 2**30  # of a file that is read at once; predictions.csv of ten million images is as large
_ATTEMPTS = 3  # to read a file that another process replaces at the same time


@dataclass(frozen=True)
class Manifest:
    """The listed files by their path below `folder`, with ``/``: the SHA-256 of the newest content, and of the one before it.

    The `former` content counts too, because the newest one may not have reached its name.
    """

    folder: Path
    newest: dict[str, str] = field(default_factory=dict[str, str])
    former: dict[str, str] = field(default_factory=dict[str, str])

    def name_of(self, path: Path) -> str:
        """Return the name of `path` in the manifest."""
        return Path(os.path.abspath(path)).relative_to(self.folder).as_posix()  # noqa: PTH100 (a link stays a link)

    def contents(self, name: str) -> set[str]:
        """Return the SHA-256 of each content that the file `name` may have; nothing if it is not listed."""
        return {listed[name] for listed in (self.newest, self.former) if name in listed}

    def present(self, name: str) -> str | None:
        """Return the SHA-256 of the file `name` as it is; None if it is missing or not as listed."""
        known = self.contents(name)
        try:
            found = fingerprint(self.folder / name) if known else None
        except FileNotFoundError:
            return None
        return found if found in known else None

    def write(self) -> None:
        """Replace the file of the manifest."""
        path = self.folder / MANIFEST
        document = {"written_by": _WRITER, "sha256": dict(sorted(self.newest.items())), "former_sha256": dict(sorted(self.former.items()))}
        with temporary(path) as part:
            part.write_text(json_text(document), "utf-8")
            flush(part)
            part.replace(path)
        flush_folder(self.folder)


def start_manifest(folder: Path) -> None:
    """Write an empty manifest into `folder` if it has none; files below it are listed from now on."""
    if not (folder / MANIFEST).exists():
        Manifest(folder).write()


def find_manifest(path: Path) -> Manifest | None:
    """Return the manifest that lists the file `path`, of the nearest folder above it that has one; None if there is none.

    Raises `DamagedFileError` if the manifest of a run cannot be read.
    """
    for folder in Path(os.path.abspath(path)).parents:  # noqa: PTH100 (as above)
        found = _read(folder)
        if found is not None:
            return found
    return None


def _read(folder: Path) -> Manifest | None:
    """Return the manifest of `folder`; None if there is none, or if another program wrote the file."""
    file = folder / MANIFEST
    try:
        value = parse_json(read_regular(file, MAX_CHECKED_BYTES).decode("utf-8"))
        if value["written_by"] == _WRITER:
            return Manifest(folder, *({str(k): str(v) for k, v in value[key].items()} for key in ("sha256", "former_sha256")))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    if any((folder / name).exists() for name in _RUN_FILES):
        raise DamagedFileError(
            f"{file}: damaged, so the files of the run cannot be checked; to read them unchecked, remove the file: rm {file}"
        )
    return None


@contextmanager
def listed_replacement(part: Path, path: Path, previous: Path | None = None) -> Generator[bool]:
    """List the file `part` as the coming content of `path`, which the body renames; yield whether to keep the present file.

    It is kept under the name `previous`, unless there is none or the file is damaged.
    """
    found = find_manifest(path)
    if found is None:
        yield previous is not None and path.exists()
        return
    digest = fingerprint(part)
    with locked(found.folder):
        manifest = _read(found.folder) or found
        name = manifest.name_of(path)
        present = manifest.present(name)
        keeps = previous is not None and path.exists() and (present is not None or not manifest.contents(name))
        if previous is not None and keeps:
            former = manifest.name_of(previous)
            _announce(manifest, former, present, manifest.present(former))
        _announce(manifest, name, digest, present)
        manifest.write()
        yield keeps


def _announce(manifest: Manifest, name: str, coming: str | None, present: str | None) -> None:
    """List the `coming` and the `present` content of the file `name`; None stands for no known content."""
    manifest.newest.pop(name, None)
    manifest.former.pop(name, None)
    if coming is not None:
        manifest.newest[name] = coming
    if present is not None:
        (manifest.former if coming is not None else manifest.newest)[name] = present


def remove_file(path: Path) -> None:
    """Remove the file `path`, which may be missing, and its line in the manifest."""
    found = find_manifest(path)
    if found is not None:
        with locked(found.folder):
            manifest = _read(found.folder) or found
            name = manifest.name_of(path)
            if manifest.contents(name):
                _announce(manifest, name, None, None)
                manifest.write()
    path.unlink(missing_ok=True)


def read_checked(path: Path, remedy: str = "") -> bytes:
    """Return the content of the file `path`.

    Raises `DamagedFileError`, which ends with the `remedy`, if it is not a content that the manifest lists, and if a listed file is
    missing.
    """
    for _ in range(_ATTEMPTS):
        try:
            content = read_regular(path, MAX_CHECKED_BYTES)
        except FileNotFoundError:
            _refuse_missing(path, remedy)
            raise
        if _is_known(path, hashlib.sha256(content).hexdigest()):
            return content
    raise _damaged(path, remedy)


def check_file(path: Path) -> None:
    """Raise `DamagedFileError` if the content of the file `path` is not one that the manifest lists; the file may be large."""
    for _ in range(_ATTEMPTS):
        if _is_known(path, fingerprint(path)):
            return
    raise _damaged(path)


def _is_known(path: Path, digest: str) -> bool:
    """Tell whether the manifest lists `digest` for the file `path`, or does not list the file.

    The manifest is read after the file, so that it knows a content that was written in between.
    """
    manifest = find_manifest(path)
    contents = manifest.contents(manifest.name_of(path)) if manifest else set[str]()
    return not contents or digest in contents


def _refuse_missing(path: Path, remedy: str) -> None:
    """Raise `DamagedFileError` with the `remedy` if the manifest lists the file `path`, which is missing."""
    manifest = find_manifest(path)
    if manifest is not None and manifest.contents(manifest.name_of(path)):
        raise DamagedFileError(f"{path}: the file is missing, although {manifest.folder / MANIFEST} lists it{_last(remedy)}")


def _damaged(path: Path, remedy: str = "") -> DamagedFileError:
    return DamagedFileError(
        f"{path}: damaged or changed, because its SHA-256 is not the one in {MANIFEST}; if the change is yours, remove {MANIFEST}"
        f"{_last(remedy)}"
    )


def _last(remedy: str) -> str:
    """Return the end of a message."""
    return f"; {remedy}" if remedy else ""
