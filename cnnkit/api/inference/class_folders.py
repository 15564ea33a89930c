"""Folders of classes that are filled by prediction: ``DIR/CLASS/photo.jpg``, a copy of the image or a link to it."""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path

from cnnkit.api.inference.predict import Prediction
from cnnkit.errors import ConfigError
from cnnkit.files import class_columns, open_regular
from cnnkit.files.whole import flush, temporary

FLAG = "--move-by-class"
ABSTAINED = "abstained"  # the folder of abstained images; a class of this name has the folder ``class abstained``
MAX_NAME_BYTES = 200  # of a folder, below the 255 bytes that file systems allow
MAX_FILE_NAME_BYTES = 255
# Characters that separate folders or that Windows refuses, and control characters.
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # names of devices on Windows


class ClassFolders:
    """The folders of `classes` below `root`; `add` puts an image into the folder of its prediction.

    An image is copied, or with `link` gets a symbolic link. Nothing is overwritten: a second image of one name gets a number. An image
    that is there already is not added again, so a repeated command goes on where the first one ended.
    """

    def __init__(self, root: Path, classes: Sequence[str], *, link: bool = False) -> None:
        self.root = root
        self._folders = dict(zip(classes, folder_names(classes), strict=True))
        self.link = link
        self._targets: dict[str, Path] = {}  # of each image that was given
        self._numbers: defaultdict[Path, set[int]] = defaultdict(set)  # of the images of each name
        self.added = 0
        self.present = 0

    def add(self, prediction: Prediction) -> Path | None:
        """Return the file of an image in its folder; None for an unreadable image. Raises `OSError` if it cannot be written."""
        if prediction.error:
            return None
        source = Path(prediction.path)
        given = os.path.abspath(source)  # noqa: PTH100 (a link stays a link)
        if given not in self._targets:
            folder = self.root / (ABSTAINED if prediction.abstained else self._folders[prediction.label])
            folder.mkdir(parents=True, exist_ok=True)
            self._targets[given] = self._add(source, folder / source.name)
        return self._targets[given]

    def _add(self, source: Path, plain: Path) -> Path:
        """Return `plain`, or this name with the first number that is free or holds `source` already."""
        taken = self._numbers[plain]
        for number in count(1):
            if number in taken:
                continue
            target = plain if number == 1 else _numbered(plain, number)
            present = os.path.lexists(target)
            if self._holds(target, source) if present else self._put(source, target):
                taken.add(number)
                self.present += present
                self.added += not present
                return target
        raise AssertionError("numbers do not end")

    def _holds(self, target: Path, source: Path) -> bool:
        """Return True if an earlier call put `source` at `target`."""
        if self.link:
            return target.is_symlink() and os.readlink(target) == os.path.abspath(source)  # noqa: PTH100, PTH115 (as `_put` writes it)
        return target.is_file() and not target.is_symlink() and filecmp.cmp(source, target, shallow=False)

    def _put(self, source: Path, target: Path) -> bool:
        """Copy or link `source` as `target`; return False if another process has just taken this name."""
        try:
            if self.link:
                target.symlink_to(os.path.abspath(source))  # noqa: PTH100 (a link in `source` stays a link)
            else:
                _copy(source, target)
        except FileExistsError:
            return False
        return True


def _numbered(plain: Path, number: int) -> Path:
    """Return ``photo-2.jpg`` for ``photo.jpg`` and 2; a long name loses the end of its stem."""
    stem, tail = plain.stem, f"-{number}{plain.suffix}"
    while stem and len(os.fsencode(stem + tail)) > MAX_FILE_NAME_BYTES:
        stem = stem[:-1]
    return plain.with_name(stem + tail)


def _copy(source: Path, target: Path) -> None:
    """Copy `source` with its times; `target` appears when it is complete. Raises `FileExistsError` if it exists."""
    with temporary(target) as part:
        with open_regular(source) as old, part.open("xb") as new:
            shutil.copyfileobj(old, new)
        status = source.stat()
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
        flush(part)
        try:
            target.hardlink_to(part)  # unlike a rename, it never replaces a file
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
            part.rename(target)


def folder_names(classes: Sequence[str]) -> list[str]:
    """Return the name of a folder for each class: one part of a path, another one for each class, and none is `ABSTAINED`.

    Names that differ only in upper and lower case get numbers, because some file systems see them as one.
    """
    names: list[str] = []
    taken = {ABSTAINED}
    for plain in class_columns(map(_safe, classes), [ABSTAINED]):
        name = next(name for number in count(1) if (name := plain if number == 1 else f"{plain}-{number}").casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(name: str) -> str:
    """Return `name` as one part of a path on every system: ``../x`` becomes ``_.._x``."""
    text = _UNSAFE.sub("_", name).encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ").lstrip(" ")
    return f"_{text}" if not text or text.startswith(".") or _RESERVED.match(text) else text


def check_root(root: Path, given: Collection[Path]) -> None:
    """Raise `ConfigError` if `root` lies in a folder of the paths `given`, or an image of them in `root`: nothing may change there."""
    place = root.resolve()
    folders = {path for path in given if path.is_dir()}
    for folder in sorted(folders):
        if place.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"{FLAG} {root}: lies inside {folder}, whose images are predicted; name a folder outside, such as "
                f"{FLAG} {folder.resolve().parent / 'sorted'}"
            )
    for folder in sorted(folders | {path.parent for path in given if path not in folders}):
        if folder.resolve().is_relative_to(place) and folder.is_dir():
            raise ConfigError(
                f"{FLAG} {root}: {folder} with images to predict lies inside; name a folder without them, such as "
                f"{FLAG} {place.parent / f'{place.name}-sorted'}"
            )
