"""Files in a zip, read by offset, by several threads at the same time and within the limits on unpacked size."""

from __future__ import annotations

import bz2
import stat
import struct
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from cnnkit.data.columns import Texts
from cnnkit.data.image import UndecodableError
from cnnkit.data.sources.bounds import refusal_reason
from cnnkit.data.sources.spans import FileSpans
from cnnkit.errors import DataError

_ENCRYPTED_FLAG, _UTF8_FLAG = 0x1, 0x800  # flags (APPNOTE 4.4.4)
_DOS_SYSTEM = 0  # "made by": backslashes in names are then separators
_MEMBER = np.dtype([("header", "<u8"), ("packed", "<u8"), ("size", "<u8"), ("checksum", "<u4"), ("method", "<u2")])  # of the index
_HEADER_STRUCT = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field (APPNOTE 4.3.7)


class _Inflater(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class ZipMembers:
    """The files in the zip `path`; raises `DataError` if it is damaged or encrypted."""

    def __init__(self, path: Path) -> None:
        self._spans = FileSpans(path)
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, EOFError, struct.error, NotImplementedError) as error:
            raise DataError(f"{path}: damaged, or no zip: {error}; test it with: unzip -t {path}") from None
        links = [info for info in members if _special(info)]
        files = [info for info in members if not info.is_dir() and not _special(info)]
        self.names = Texts.of(map(_name, files))
        self._members = np.array(
            [(info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type) for info in files], _MEMBER
        )
        self.folders = [_name(info) for info in members if info.is_dir()]
        self.left_out = Counter({"of the kinds link or device": len(links)})
        self.notes: tuple[str, ...] = ()
        for info in files:
            if info.flag_bits & _ENCRYPTED_FLAG:
                raise DataError(f"{path}: encrypted ({info.filename!r}); unpack it and name the folder")
        if sum(info.compress_size for info in files) > self._spans.size:
            raise DataError(f"{path}: its members take more bytes than the file has: the archive is damaged, or its members overlap")

    def read(self, index: int) -> bytes:
        """Return the bytes of one file, checked against the size and checksum that the archive states."""
        header, compress_size, file_size, checksum, method = self._members[index].item()
        reason = refusal_reason(compress_size, file_size)
        if reason:
            raise UndecodableError(reason)
        signature, name, extra = _HEADER_STRUCT.unpack(self._spans.read(header, _HEADER_STRUCT.size))
        if signature != b"PK\3\4":
            raise UndecodableError("the archive is damaged here: no member begins at the offset in its index")
        packed = self._spans.read(header + _HEADER_STRUCT.size + name + extra, compress_size)
        try:
            data = packed if method == zipfile.ZIP_STORED else _inflater(method).decompress(packed, file_size + 1)
        except (zlib.error, OSError, ValueError) as error:
            raise UndecodableError(f"the archive is damaged here: {error}") from None
        if len(data) != file_size or zlib.crc32(data) != checksum:
            raise UndecodableError("the archive is damaged here: size or checksum differs from its index")
        return data

    def stamp(self, index: int) -> str:
        """Return checksum and size, as the archive states them."""
        _, _, file_size, checksum, _ = self._members[index].item()
        return f"{checksum:08x}:{file_size}"


def _special(info: zipfile.ZipInfo) -> bool:
    """Return True if a member is a link, pipe or device; zips of systems without these state no type."""
    return stat.S_IFMT(info.external_attr >> 16) in {stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK}


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member. Many programs store UTF-8 without its flag, which Python decodes as code page 437."""
    name = info.filename
    if not info.flag_bits & _UTF8_FLAG:
        with suppress(ValueError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/") if info.create_system == _DOS_SYSTEM else name


def _inflater(method: int) -> _Inflater:
    if method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS)
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor()
    raise UndecodableError(f"packed with method {method}, which is not supported; pack it with deflate (8)")
