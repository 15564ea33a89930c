"""Files at an address (``s3://``, ``gs://``, ``https://``), read in ranges through fsspec and kept as blocks in the cache.

An address in ``--data`` is the request to read it. Only the blocks that hold wanted bytes are fetched, each once while the cache keeps it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any, TypeVar

from cnnkit.config.passwords import with_passwords
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress, say_to
from cnnkit.data.store.cache import blocks_folder, keep_blocks_limit
from cnnkit.errors import DataError, MissingExtraError, hide_passwords

Result = TypeVar("Result")
BLOCK_BYTES = 2**20  # of a file that are fetched and kept together: a few photos
LIMIT_CHECK_BYTES = 64 * BLOCK_BYTES  # that a process fetches between two looks at the limit of the cache
RECENT_BLOCKS = 32  # in memory: the images of a block are read one after another
# A request that fails is tried again after pauses, each twice the last one, at the start of a command and in its middle.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 8.0
OPENING_SECONDS, READING_SECONDS = 4.0, 60.0
CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 30.0  # of a server, after which a request has failed
NOTE_SECONDS = 60.0  # between two notes on requests that are tried again
MIN_BYTES_PER_SECOND = 50_000  # of a range; a slower one has failed
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
ABSENT_STATUSES, DENIED_STATUSES = {404, 410}, {401, 403, 407}  # of HTTP
WEB_LOGIN = "put the login into ~/.netrc, or as NAME:PASSWORD before @ and the host into the address"
# Errors of aiohttp that are no statement of the server, in words.
WEB_ERRORS = {
    "TooManyRedirects": "the server redirects without an end",
    "ContentLengthError": "the server closed the connection in the middle",
    "TransferEncodingError": "the server closed the connection in the middle",
    "ServerDisconnectedError": "the server closed the connection",
    "SocketTimeoutError": "the server does not answer in time",
    "FSTimeoutError": "the server does not answer in time",
}
LOGGERS = ("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "azure", "asyncio")  # failures are errors of cnnkit
# The fields by which file systems tell one content from another; the first that is there counts.
_TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "LastModified", "last_modified", "mtime", "updated", "created")


class UnreachableError(DataError):
    """An address that cannot be read; it says nothing about its images."""


class ConnectionLostError(UnreachableError):
    """An address that was read, and now fails with the `fault`; what was read so far is in the cache."""

    exit_code = 3

    def __init__(self, address: str, reason: str) -> None:
        self.fault = f"{address}: cannot be read any more: {reason}"
        super().__init__(f"{self.fault}; the parts so far are in the cache, so the same command goes on there")


class RemoteSpans:
    """The bytes of the file at `address`; raises `FileNotFoundError` if there is none, `DataError` if it cannot be read.

    `progress` is told of requests that are tried again.
    """

    buffer_bytes = 8 * BLOCK_BYTES  # that a pass over the file asks for at a time

    def __init__(self, address: str, progress: Progress | None = None) -> None:
        self._address, self._progress = address, progress
        self._system, self._path = file_system(address)
        facts = _Request(address, progress).result(lambda: self._system.info(self._path, **_limit(self._system, 0)))
        if facts.get("type") == "directory":
            raise DataError(f"{address}: a folder; name its files, such as {address.rstrip('/')}/*.tar")
        if not isinstance(facts.get("size"), int):
            raise DataError(f"{address}: the server does not tell the size of the file; download it, and name the file")
        self.size = int(facts["size"])
        self.stamp = f"{self.size}:{next((str(facts[name]) for name in _TAGS if facts.get(name)), '')}"
        self._hash = hashlib.sha256(f"{address}\0{self.stamp}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self._locks = [Lock() for _ in range(16)]

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from offset `start`; raises `UndecodableError` if there are fewer, or `ConnectionLostError`."""
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
        limit = _limit(self._system, end - start)

        def read() -> bytes:
            found: bytes = self._system.cat_file(self._path, start=start, end=end, **limit)
            if len(found) == self.size > end - start:
                raise UnreachableError(
                    f"{self._address}: the server does not serve parts of a file; download the file, and name it in --data"
                )
            if len(found) != end - start:
                raise OSError(f"the server sent {len(found):,} of {end - start:,} bytes")
            return found

        try:
            return _Request(self._address, self._progress, is_opened=True).result(read)
        except FileNotFoundError:
            raise ConnectionLostError(self._address, "the file has gone") from None

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
    _silence_loggers()
    full = with_passwords(address)
    try:
        return fsspec.url_to_fs(full, **(_web_options() if scheme.startswith("http") else {}))
    except ImportError:
        package = PACKAGES[scheme]
        wanted = "'cnnkit[remote]'" if package == "aiohttp" else package
        raise MissingExtraError(f"--data {address} needs the package {package}; type: pip install {wanted}") from None
    except Exception as error:  # noqa: BLE001 (credentials and settings of each package)
        raise DataError(
            f"--data {address}: cannot be opened: {_reason(error)}; correct the address or the settings of its package"
        ) from None


@cache
def _silence_loggers() -> None:
    """Keep the packages of addresses from printing failures, unless the user's program has set up their loggers."""
    for name in LOGGERS:
        logging.getLogger(name).addHandler(logging.NullHandler())


def _web_options() -> dict[str, Any]:
    """Return the options for web servers: a proxy and logins of the environment, and limits to the silence of a server."""
    timeout = import_module("aiohttp").ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    return {"client_kwargs": {"trust_env": True, "timeout": timeout}}


def _limit(system: Any, size: int) -> dict[str, float]:
    """Return the limit in seconds of a request for `size` bytes, as an argument of the methods of `system`."""
    return {"timeout": SILENCE_SECONDS + size / MIN_BYTES_PER_SECOND} if getattr(system, "async_impl", False) else {}


def matching(pattern: str) -> list[str]:
    """Return the addresses that fit `pattern`, which has a ``*`` or ``?``; raises `DataError` for a web server, which lists no files."""
    if pattern.lower().startswith("http"):
        raise DataError(f"--data {pattern}: a web server lists no files; write their numbers as a range, such as {{0000..0099}}.tar")
    system, path = file_system(pattern)
    return [system.unstrip_protocol(found) for found in _Request(pattern).result(lambda: system.glob(path))]


_failing: dict[str, tuple[float, float]] = {}  # the times of the first and the last failure of a server since its last success


class _Request:
    """A request to the server of `address`, which is tried again for a while; `is_opened` says that an earlier request succeeded."""

    def __init__(self, address: str, progress: Progress | None = None, *, is_opened: bool = False) -> None:
        self._address, self._progress, self._is_opened = address, progress, is_opened
        self._is_web = address.lower().startswith("http")
        self._server = "/".join(address.split("/", 3)[:3])

    def result(self, request: Callable[[], Result]) -> Result:
        """Return the result of `request`; raises `FileNotFoundError`, and `UnreachableError` without access or in the end."""
        started, pause = time.monotonic(), FIRST_PAUSE_SECONDS
        patience = READING_SECONDS if self._is_opened else OPENING_SECONDS
        while True:
            try:
                found = request()
            except (ImportError, DataError, MemoryError):
                raise
            except Exception as error:
                if isinstance(error, FileNotFoundError) and self._is_absent(error):
                    raise
                reason = _reason(error)
                if _is_denied(error):
                    raise self._refusal(reason) from None
                if max(time.monotonic() - started, self._failing_seconds(patience)) + pause > patience:
                    raise self._failure(reason) from None
            else:
                _failing.pop(self._server, None)
                return found
            _tell(self._progress, f"{self._address}: {reason}; trying again for up to {patience:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _failing_seconds(self, patience: float) -> float:
        """Return for how long all requests of this process to the server have failed; another thread may have begun to try."""
        now = time.monotonic()
        first, last = _failing.get(self._server, (now, now))
        _failing[self._server] = (first if now - last < patience else now, now)
        return now - _failing[self._server][0]

    def _refusal(self, reason: str) -> UnreachableError:
        if self._is_opened:
            return ConnectionLostError(self._address, f"access is denied: {reason}")
        way = WEB_LOGIN if self._is_web else "give the credentials as the package of the address expects them"
        return UnreachableError(f"{self._address}: access is denied: {reason}; {way}")

    def _failure(self, reason: str) -> UnreachableError:
        if self._is_opened:
            return ConnectionLostError(self._address, reason)
        return UnreachableError(f"{self._address}: cannot be read: {reason}; correct the address, or type the command again later")

    def _is_absent(self, error: FileNotFoundError) -> bool:
        """Return False if the error stands for a failed request: for a web server fsspec raises it in any case."""
        return not self._is_web or error.__cause__ is None or getattr(error.__cause__, "status", 0) in ABSENT_STATUSES


def _is_denied(error: BaseException | None) -> bool:
    """Return True if the server refuses the user, or if there are no credentials; an error may stand for its cause."""
    if error is None:
        return False
    is_refused = isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    return is_refused or getattr(error, "status", 0) in DENIED_STATUSES or _is_denied(error.__cause__)


def _reason(error: BaseException) -> str:
    """Return the first line of an error or of its cause, without passwords."""
    kind = type(error).__name__
    if kind in WEB_ERRORS:
        return WEB_ERRORS[kind]
    if error.__cause__ is not None:
        return _reason(error.__cause__)
    status, words = getattr(error, "status", 0), getattr(error, "message", "")
    text = f"{status} {words}" if isinstance(status, int) and status and words else str(error)
    return hide_passwords(text.strip().partition("\n")[0]) or kind


def _tell(progress: Progress | None, note: str) -> None:
    """Give `progress` a note on a request that is tried again, one note for the requests of several threads."""
    global _last_note  # noqa: PLW0603 (of all files of the process)
    with _recent_lock:
        is_due = time.monotonic() - _last_note >= NOTE_SECONDS
        _last_note = time.monotonic() if is_due else _last_note
    if is_due:
        say_to(progress, note)


_recent: OrderedDict[str, bytes] = OrderedDict()
_recent_lock = Lock()
_last_note = -math.inf  # seconds of the clock
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
        with suppress(OSError):  # another process may change the cache at the same time
            keep_blocks_limit()


def _remember(name: str, content: bytes) -> None:
    with _recent_lock:
        _recent[name] = content
        _recent.move_to_end(name)
        while len(_recent) > RECENT_BLOCKS:
            _recent.popitem(last=False)
