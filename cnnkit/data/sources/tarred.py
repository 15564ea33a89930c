"""Files in a tar, listed once and then read by offset. A compressed tar is first unpacked into a temporary file without a name."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import numpy as np

from cnnkit.data.columns import Columns, Rows, Texts, TextsBuilder
from cnnkit.data.image import UndecodableError
from cnnkit.data.sources.bounds import MAX_BYTES, MAX_RATIO, MEGA, refusal_reason
from cnnkit.data.sources.spans import FileSpans, OpenSpans
from cnnkit.data.store.store import cache_folder
from cnnkit.errors import DataError

_PIECE_BYTES = 4 * MEGA  # bytes unpacked at a time
_BLOCK_BYTES = 512  # headers and files begin at multiples of it; a block of zeros is the end (POSIX pax)
_MAX_DISK_SHARE = 0.9  # of the free disk that a temporary file may fill


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the tar: its name, offset and size in bytes, and its time of modification in seconds, as a text."""

    name: str
    start: int
    size: int
    mtime: str


class MemberColumns(Columns[Member]):
    """The files in a tar in columns."""

    def __init__(self, names: Texts, starts: Rows, sizes: Rows, times: Texts) -> None:
        self.names, self.starts, self.sizes, self.times = names, starts, sizes, times

    @classmethod
    def of(cls, members: Iterable[Member]) -> MemberColumns:
        """Return the columns of `members`."""
        names, times = TextsBuilder(), TextsBuilder()
        starts, sizes = array("q"), array("q")
        for member in members:
            names.append(member.name)
            times.append(member.mtime)
            starts.append(member.start)
            sizes.append(member.size)
        return cls(names.build(), np.array(starts, np.int64), np.array(sizes, np.int64), times.build())

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Rows) -> MemberColumns:
        """Return the members of the `rows` (n,)."""
        return MemberColumns(self.names.take(rows), self.starts[rows], self.sizes[rows], self.times.take(rows))

    def block(self, start: int, stop: int) -> Iterator[Member]:
        """Return the members from `start` to `stop`."""
        numbers = self.starts[start:stop].tolist(), self.sizes[start:stop].tolist()
        return map(Member, self.names.block(start, stop), *numbers, self.times.block(start, stop))


class TarMembers:
    """The files in the tar `path`, compressed or not; raises `DataError` if it is damaged or the disk is too small."""

    def __init__(self, path: Path) -> None:
        file = FileSpans(path)
        self._stamp = file.stamp
        self.notes: tuple[str, ...] = ()
        with path.open("rb") as packed:
            unpack = _unpacker(packed.read(6), path)
            packed.seek(0)
            if unpack is None:
                self._spans = file
                self._members, self.folders, self.left_out = list_members(packed, path)
            else:
                plain = _unpacked(unpack(packed), path, file.size)
                self._spans = OpenSpans(plain)
                self._members, self.folders, self.left_out = list_members(plain, path)
                self.notes = (f"every command unpacks {path.name} again; a .zip or an uncompressed .tar starts sooner",)
        self.names = self._members.names

    def read(self, index: int) -> bytes:
        """Return the bytes of one file."""
        member = self._members.one(index)
        reason = refusal_reason(member.size, member.size)
        if reason:
            raise UndecodableError(reason)
        return self._spans.read(member.start, member.size)

    def stamp(self, index: int) -> str:
        """Return offset, size and time of one file, and size and time of the archive: a tar holds no checksums of its files."""
        members = self._members
        return f"{members.starts[index]}:{members.sizes[index]}:{members.times.one(index)}:{self._stamp}"


def list_members(file: BinaryIO, path: Path | str) -> tuple[MemberColumns, list[str], Counter[str]]:
    """Return the files, the names of folders, and the number of other members by reason, of the uncompressed tar `file`.

    Raises a `DataError` that names `path` if the tar is damaged.
    """
    folders: list[str] = []
    left_out: Counter[str] = Counter()

    def files(archive: tarfile.TarFile) -> Iterator[Member]:
        while (info := archive.next()) is not None:
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] (tarfile keeps an object of each member)
            if info.size < 0:  # it would lead back to the same header
                raise tarfile.ReadError(f"{info.name!r} has a size below zero")
            if info.isreg() and not info.issparse():
                yield Member(info.name, info.offset_data, info.size, str(info.mtime))
            elif info.isdir():
                folders.append(info.name)
            else:
                left_out["of the kinds link, device or sparse"] += 1

    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            members = MemberColumns.of(files(archive))
            file.seek(archive.offset)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise _damaged(path, str(error)) from None
    if any(file.read(_BLOCK_BYTES)):  # tarfile takes a damaged header for the end
        last = f"after {members[-1].name!r}" if members else "at its beginning"
        raise _damaged(path, f"a header is damaged {last}")
    return members, folders, left_out


def _unpacker(magic: bytes, path: Path) -> Callable[[BinaryIO], IO[bytes]] | None:
    """Return the function that unpacks files that begin with `magic`, or None if they are not compressed; names do not matter."""
    if magic.startswith(b"\x1f\x8b"):
        return lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if magic.startswith(b"BZh"):
        return bz2.BZ2File
    if magic.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            zstd: Any = import_module("compression.zstd")  # Python 3.14
        except ImportError:
            raise DataError(f"{path}: zstd needs Python 3.14 or later; type: zstd -d {path}, and name the .tar") from None
        return zstd.ZstdFile
    return None


def _unpacked(stream: IO[bytes], path: Path, packed: int) -> BinaryIO:
    """Unpack `stream` into a temporary file of the cache folder, which has no name and vanishes with this process."""
    folder = cache_folder()
    limit = max(MAX_BYTES, MAX_RATIO * packed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        room = int(shutil.disk_usage(folder).free * _MAX_DISK_SHARE)
        file = cast("BinaryIO", tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 (images are read from it later)
    except OSError as error:
        raise DataError(f"{folder}: {path} cannot be unpacked there: {error.strerror}; point CNNKIT_CACHE to another folder") from None
    try:
        with stream:
            _copy(stream, file, limit, room)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        file.close()
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.EFBIG:
            raise DataError(
                f"{path}: {packed / MEGA:,.2f} MB unpack to more than {limit / MEGA:,.0f} MB: a decompression bomb, not images"
            ) from None
        if code == errno.ENOSPC:
            raise DataError(
                f"{path}: unpacking needs more than the {room / MEGA:,.0f} MB that may be used in {folder}; "
                f"point CNNKIT_CACHE to a folder on another disk, or name an uncompressed .tar or a .zip"
            ) from None
        raise _damaged(path, str(error)) from None
    return file


def _copy(stream: IO[bytes], file: BinaryIO, limit: int, room: int) -> None:
    done = 0
    while piece := stream.read(_PIECE_BYTES):
        done += len(piece)
        if done > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if done > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.write(piece)
    file.seek(0)


def _damaged(path: Path | str, reason: str) -> DataError:
    """Return the error for a damaged tar."""
    name = str(path)
    way = f"download it, and test it with: tar -tf {PurePosixPath(name).name}" if "://" in name else f"test it with: tar -tf {name}"
    return DataError(f"{name}: damaged, or no tar: {reason}; {way}")
