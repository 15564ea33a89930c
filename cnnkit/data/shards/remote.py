"""Files at an address (``s3://``, ``gs://``, ``https://``), read in ranges through fsspec and kept as blocks in the cache.

An address in ``--data`` is the request to read it. Only the blocks that hold wanted bytes are fetched, each once while the cache keeps it.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from threading import Lock
from typing import Any, TypeVar

from cnnkit.data.image import UndecodableError
from cnnkit.data.store.cache import blocks_folder, keep_blocks_limit
from cnnkit.errors import DataError, MissingExtraError

Result = TypeVar("Result")
BLOCK_BYTES = 2**20  # of a file that are fetched and kept together: a few photos
LIMIT_CHECK_BYTES = 64 * BLOCK_BYTES  # that a process fetches between two looks at the limit of the cache
RECENT_BLOCKS = 32  # in memory: the images of a block are read one after another
ATTEMPTS, FIRST_PAUSE_SECONDS = 4, 0.5  # of a request; each pause is twice the last one
PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hf": "huggingface_hub",
    "memory": "fsspec",
}
ABSENT_STATUSES = {404, 410}  # of HTTP
_WEB: dict[str, Any] = {"client_kwargs": {"trust_env": True}}  # a proxy of the environment
# The fields by which file systems tell one content from another; the first that is there counts.
_TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "LastModified", "last_modified", "mtime", "updated", "created")


class UnreachableError(DataError):
    """An address that cannot be read now; it says nothing about its images."""


class RemoteSpans:
    """The bytes of the file at `address`; raises `FileNotFoundError` if there is none, `DataError` if it cannot be read."""

    buffer_bytes = 8 * BLOCK_BYTES  # that a pass over the file asks for at a time

    def __init__(self, address: str) -> None:
        self._address = address
        self._system, self._path = file_system(address)
        facts = _requested(lambda: self._system.info(self._path), address)
        if facts.get("type") == "directory":
            raise DataError(f"{address}: a folder; name its files, such as {address.rstrip('/')}/*.tar")
        if not isinstance(facts.get("size"), int):
            raise DataError(f"{address}: the server does not tell the size of the file; download it, and name the file")
        self.size = int(facts["size"])
        self.stamp = f"{self.size}:{next((str(facts[name]) for name in _TAGS if facts.get(name)), '')}"
        self._hash = hashlib.sha256(f"{address}\0{self.stamp}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self._locks = [Lock() for _ in range(16)]

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from offset `start`; raises `UndecodableError` if there are fewer, `UnreachableError` without a network."""
        if start + size > self.size:
            raise UndecodableError("the archive is truncated here")
        first, last = start // BLOCK_BYTES, (start + size - 1) // BLOCK_BYTES
        numbers = list(range(first, last + 1)) if size else []
        blocks = {number: _known_block(self._name(number)) for number in numbers}
        if None in blocks.values():
            blocks = self._fetch(numbers)
        whole = b"".join(blocks[number] or b"" for number in numbers)
        return whole[start - first * BLOCK_BYTES :][:size]

    def _fetch(self, numbers: list[int]) -> dict[int, bytes | None]:
        """Return the blocks `numbers`, and fetch those that the cache lacks, each run of neighbours by one request."""
        with ExitStack() as held:
            for lock in sorted({number % len(self._locks) for number in numbers}):
                held.enter_context(self._locks[lock])
            blocks = {number: _known_block(self._name(number)) for number in numbers}  # another thread may have fetched them
            missing = [number for number in numbers if blocks[number] is None]
            while missing:
                run = [number for index, number in enumerate(missing) if number == missing[0] + index]
                missing = missing[len(run) :]
                fetched = self._request(run[0] * BLOCK_BYTES, min((run[-1] + 1) * BLOCK_BYTES, self.size))
                for index, number in enumerate(run):
                    blocks[number] = fetched[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
                    _keep_block(self._name(number), blocks[number] or b"")
        return blocks

    def _request(self, start: int, end: int) -> bytes:
        found = _requested(lambda: self._system.cat_file(self._path, start=start, end=end), self._address)
        if len(found) != end - start:
            reason = "does not serve parts of a file" if len(found) == self.size else f"sent {len(found):,} of {end - start:,} bytes"
            raise UnreachableError(f"{self._address}: the server {reason}; download the file, and name it in --data")
        return found

    def _name(self, number: int) -> str:
        return f"{self._hash}-{number:07d}"


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of fsspec for `address`, and the path in it; raises `MissingExtraError` without its package."""
    scheme = address.partition("://")[0].lower()
    if scheme not in PACKAGES:
        raise DataError(f"--data {address}: unknown kind of address; allowed: {', '.join(f'{name}://' for name in PACKAGES)}, or a path")
    try:
        fsspec: Any = import_module("fsspec.core")
    except ImportError:
        raise MissingExtraError(f"--data {address} needs the package fsspec; type: pip install 'cnnkit[remote]'") from None
    try:
        return fsspec.url_to_fs(address, **(_WEB if scheme.startswith("http") else {}))
    except ImportError:
        package = PACKAGES[scheme]
        wanted = "'cnnkit[remote]'" if package == "aiohttp" else package
        raise MissingExtraError(f"--data {address} needs the package {package}; type: pip install {wanted}") from None


def matching(pattern: str) -> list[str]:
    """Return the addresses that fit `pattern`, which has a ``*`` or ``?``; raises `DataError` for a web server, which lists no files."""
    if pattern.lower().startswith("http"):
        raise DataError(f"--data {pattern}: a web server lists no files; write their numbers as a range, such as {{0000..0099}}.tar")
    system, path = file_system(pattern)
    return [system.unstrip_protocol(found) for found in _requested(lambda: system.glob(path), pattern)]


def _requested(request: Callable[[], Result], address: str) -> Result:
    """Return the result of `request`, tried again after short pauses; raises `FileNotFoundError`, or `UnreachableError` in the end."""
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except ImportError:
            raise
        except PermissionError as error:
            raise DataError(f"{address}: access is denied: {_reason(error)}; give the credentials as its package expects them") from None
        except Exception as error:
            if isinstance(error, FileNotFoundError) and _is_absent(error):
                raise
            if attempt == ATTEMPTS - 1:
                raise UnreachableError(f"{address}: cannot be read: {_reason(error)}; the same command goes on later") from None
            time.sleep(pause)
            pause *= 2
    raise AssertionError  # the loop returns or raises


def _is_absent(error: FileNotFoundError) -> bool:
    """Return False if the error stands for a failed request: for a web server fsspec raises it in any case."""
    return error.__cause__ is None or getattr(error.__cause__, "status", 0) in ABSENT_STATUSES


def _reason(error: BaseException) -> str:
    if error.__cause__ is not None:
        return _reason(error.__cause__)
    return str(error).strip().partition("\n")[0] or type(error).__name__


_recent: OrderedDict[str, bytes] = OrderedDict()
_recent_lock = Lock()
_unchecked_bytes = 0  # fetched since the last look at the limit of the cache


def _known_block(name: str) -> bytes | None:
    """Return a block from memory or from the cache; None if it is in neither, or damaged."""
    with _recent_lock:
        if name in _recent:
            _recent.move_to_end(name)
            return _recent[name]
    file = blocks_folder() / name
    try:
        stored = file.read_bytes()
        os.utime(file)  # the time of the last use
    except OSError:
        return None
    content = stored[4:]
    if stored[:4] != zlib.crc32(content).to_bytes(4, "little"):
        return None
    _remember(name, content)
    return content


def _keep_block(name: str, content: bytes) -> None:
    """Keep a block in memory and in the cache, whose limit is looked at now and then; a full disk keeps nothing."""
    global _unchecked_bytes  # noqa: PLW0603 (one cache for all files of the process)
    _remember(name, content)
    with suppress(OSError):
        blocks_folder().mkdir(parents=True, exist_ok=True)
        part = blocks_folder() / f"{name}.part-{uuid.uuid4().hex[:8]}"
        try:
            # Its checksum tells a block that a power cut tore, so nothing waits for the disk.
            part.write_bytes(zlib.crc32(content).to_bytes(4, "little") + content)
            part.replace(blocks_folder() / name)
        finally:
            part.unlink(missing_ok=True)
    with _recent_lock:
        _unchecked_bytes += len(content)
        is_due = _unchecked_bytes >= LIMIT_CHECK_BYTES
        _unchecked_bytes = 0 if is_due else _unchecked_bytes
    if is_due:
        keep_blocks_limit()


def _remember(name: str, content: bytes) -> None:
    with _recent_lock:
        _recent[name] = content
        _recent.move_to_end(name)
        while len(_recent) > RECENT_BLOCKS:
            _recent.popitem(last=False)
