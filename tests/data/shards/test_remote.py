from __future__ import annotations

import base64
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.image import UndecodableError
from cnnkit.data.shards import remote
from cnnkit.data.shards.remote import BLOCK_BYTES, ConnectionLostError, RemoteSpans, UnreachableError, matching
from cnnkit.data.source import open_source
from cnnkit.data.store import cache
from cnnkit.data.store.cache import blocks_folder
from cnnkit.errors import DataError, MissingExtraError

fsspec = pytest.importorskip("fsspec")


class RangeServer(ThreadingHTTPServer):
    """A server of `files` by path that counts the bytes it sends.

    It may serve no ranges, want a `login`, fail with a `status`, or give a range in a wrong way: `fault` is close, stall or truncate.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.sent: list[tuple[int, int]] = []
        self.has_ranges = True
        self.failures, self.status, self.fault = 0, 503, ""
        self.login = ""
        self.requests = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002,ARG002 (of the base class)
        return

    def _reply(self, *, with_body: bool) -> None:
        server = cast("RangeServer", self.server)
        server.requests += 1
        content = server.files.get(self.path.partition("?")[0])
        is_denied = server.login and self.headers.get("Authorization") != f"Basic {base64.b64encode(server.login.encode()).decode()}"
        is_failing = server.failures > 0 and (with_body or not server.fault)
        server.failures -= is_failing
        if content is None or is_denied or (is_failing and not server.fault):
            self.send_response(404 if content is None else 401 if is_denied else server.status)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end = 0, len(content)
        asked = self.headers.get("Range")
        if asked and server.has_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        else:
            self.send_response(200)
        fault = server.fault if is_failing else ""
        end -= fault == "truncate"
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        if with_body:
            server.sent.append((start, end))
            self.wfile.write(content[start : start if fault == "stall" else end - 1 if fault == "close" else end])
        if fault == "stall":
            time.sleep(0.6)
            self.wfile.write(content[start:end])
        self.close_connection = fault == "close"


@pytest.fixture
def server() -> Iterator[RangeServer]:
    pytest.importorskip("aiohttp")
    with RangeServer() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_memory_and_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    remote._recent.clear()
    monkeypatch.setattr(remote, "_last_note", float("-inf"))
    monkeypatch.setattr(remote, "_failing", {})
    for name in ("FIRST_PAUSE_SECONDS", "OPENING_SECONDS", "READING_SECONDS"):
        monkeypatch.setattr(remote, name, 0.02)


@pytest.fixture
def memory() -> Iterator[Callable[[str, bytes], None]]:
    """Return a function that puts a file into fsspec's file system in memory."""
    system = fsspec.filesystem("memory")
    yield system.pipe_file
    system.rm("/", recursive=True)


def serve_shards(server: RangeServer, pattern: str) -> str:
    for file in Path(pattern).parent.glob("*.tar"):
        server.files[f"/{file.name}"] = file.read_bytes()
    return f"{server.address}/{pattern.rpartition('/')[2]}"


def test_ranges_are_fetched_once_by_blocks(server: RangeServer) -> None:
    content = bytes(range(256)) * (BLOCK_BYTES * 3 // 256) + b"tail"
    server.files["/a.tar"] = content
    spans = RemoteSpans(f"{server.address}/a.tar")
    assert spans.size == len(content)
    assert spans.read(10, 5) == content[10:15]
    assert server.sent == [(0, BLOCK_BYTES)]
    assert spans.read(BLOCK_BYTES - 2, 2 * BLOCK_BYTES + 6) == content[BLOCK_BYTES - 2 :]
    assert server.sent[1:] == [(BLOCK_BYTES, len(content))]
    remote._recent.clear()
    assert RemoteSpans(f"{server.address}/a.tar").read(5, BLOCK_BYTES) == content[5 : BLOCK_BYTES + 5]
    assert len(server.sent) == 2
    with pytest.raises(UndecodableError, match="the archive is truncated here"):
        spans.read(len(content) - 1, 2)


def test_a_damaged_block_is_fetched_again(server: RangeServer) -> None:
    server.files["/a.tar"] = b"content"
    spans = RemoteSpans(f"{server.address}/a.tar")
    spans.read(0, 7)
    remote._recent.clear()
    (block,) = blocks_folder().iterdir()
    block.write_bytes(block.read_bytes()[:-1] + b"X")
    assert spans.read(0, 7) == b"content"
    assert len(server.sent) == 2


def test_another_content_at_the_address_has_another_stamp(server: RangeServer) -> None:
    server.files["/a.tar"] = b"content"
    first = RemoteSpans(f"{server.address}/a.tar")
    assert first.read(0, 7) == b"content"
    server.files["/a.tar"] = b"CONTENT"
    second = RemoteSpans(f"{server.address}/a.tar")
    assert second.read(0, 7) == b"CONTENT"
    assert first.stamp != second.stamp


def test_the_cache_of_bytes_keeps_the_limit_of_the_cache(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LIMIT_CHECK_BYTES", BLOCK_BYTES)
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "2.2MB")
    server.files["/a.tar"] = bytes(6 * BLOCK_BYTES)
    spans = RemoteSpans(f"{server.address}/a.tar")
    for number in range(6):
        spans.read(number * BLOCK_BYTES, 8)
        assert sum(file.stat().st_size for file in blocks_folder().iterdir()) <= 2_200_000
    assert sorted(file.name[-1] for file in blocks_folder().iterdir()) == ["4", "5"]
    (info,) = cache.stores()
    assert (info.source, info.images) == ("(bytes of addresses)", 0)
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "1MB")
    (removed,) = cache.keep_limit()
    assert removed.bytes > 2 * BLOCK_BYTES
    remote._recent.clear()
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "3MB")
    spans.read(0, 8)
    _, freed = cache.clear()
    assert freed > 8
    assert not blocks_folder().exists()


def test_failures_are_tried_again_and_then_name_the_address(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/a.tar"] = b"content"
    spans = RemoteSpans(f"{server.address}/a.tar")
    monkeypatch.setattr(remote, "READING_SECONDS", 5.0)
    server.failures = 2
    assert spans.read(0, 7) == b"content"
    remote._recent.clear()
    cache.clear()
    server.failures = 100
    with pytest.raises(UnreachableError, match=r"http://127.*a\.tar: cannot be read any more: 503 .*; the parts so far"):
        spans.read(0, 7)
    with pytest.raises(UnreachableError, match=r"a\.tar: cannot be read: 503"):
        RemoteSpans(f"{server.address}/a.tar")


class Said:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.listed: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        raise AssertionError(done, total)

    def say(self, text: str) -> None:
        self.notes.append(text)

    def files(self, done: int, total: int) -> None:
        self.listed.append((done, total))


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        ("", "503 Service Unavailable"),
        ("close", "the server closed the connection in the middle"),
        ("truncate", "the server sent 6 of 7 bytes"),
        ("stall", "the server does not answer in time"),
    ],
)
def test_a_passing_fault_is_a_note(server: RangeServer, monkeypatch: pytest.MonkeyPatch, fault: str, note: str) -> None:
    monkeypatch.setattr(remote, "READING_SECONDS", 5.0)
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 0.3)
    server.files["/a.tar"] = b"content"
    said = Said()
    spans = RemoteSpans(f"{server.address}/a.tar", said)
    server.failures, server.fault = 2, fault
    assert spans.read(0, 7) == b"content"
    assert said.notes == [f"{server.address}/a.tar: {note}; trying again for up to 5 s"]


def test_a_server_that_has_gone_is_tried_by_all_threads_together(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READING_SECONDS", 0.4)
    server.files |= {"/a.tar": b"content", "/b.tar": b"content"}
    spans = [RemoteSpans(f"{server.address}/{name}.tar") for name in "ab"]
    server.failures = 1000
    opened = server.requests
    with pytest.raises(ConnectionLostError):
        spans[0].read(0, 7)
    tried = server.requests
    with pytest.raises(ConnectionLostError):
        spans[1].read(0, 7)
    assert server.requests - tried < tried - opened  # the time in which the first read tried counts for the second
    server.failures = 0
    assert spans[1].read(0, 7) == b"content"


def test_the_packages_of_addresses_print_no_failure(server: RangeServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.files["/a.tar"] = b"content"
    for _ in range(2):
        RemoteSpans(f"{server.address}/a.tar")
    logging.getLogger("fsspec.http").warning("a failure")
    assert sum(isinstance(each, logging.NullHandler) for each in logging.getLogger("gcsfs").handlers) == 1
    assert capfd.readouterr() == ("", "")


def test_an_address_that_was_read_and_fails_stops_a_command_in_the_middle(server: RangeServer) -> None:
    server.files["/a.tar"] = b"content"
    spans = RemoteSpans(f"{server.address}/a.tar")
    server.failures = 100
    with pytest.raises(ConnectionLostError) as lost:
        spans.read(0, 7)
    with pytest.raises(UnreachableError, match="correct the address, or type the command again later") as refused:
        RemoteSpans(f"{server.address}/a.tar")
    assert (lost.value.exit_code, refused.value.exit_code) == (3, 2)
    server.failures, server.login = 0, "me:secret"
    with pytest.raises(ConnectionLostError, match="cannot be read any more: access is denied: 401 Unauthorized; the parts so far"):
        spans.read(0, 7)
    server.login = ""
    server.files.clear()
    with pytest.raises(ConnectionLostError, match="the file has gone"):
        spans.read(0, 7)


def test_redirects_without_an_end_name_themselves(server: RangeServer) -> None:
    server.files["/a.tar"] = b"content"
    server.failures, server.status = 10_000, 302
    with pytest.raises(UnreachableError, match=r"a\.tar: cannot be read: the server redirects without an end"):
        RemoteSpans(f"{server.address}/a.tar")


def test_a_login_is_in_the_address_or_in_netrc_and_is_never_shown(
    server: RangeServer, shards: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = open_source(shards(2))
    pattern = serve_shards(server, local.name)
    server.login = "me:open sesame"
    with pytest.raises(DataError, match=r"0000\.tar: access is denied: 401 Unauthorized; put the login into ~/\.netrc, or as NAME"):
        open_source(pattern)
    assert server.requests <= 4  # a refusal is not tried again
    typed = pattern.replace("://", "://me:open%20sesame@")
    source = open_source(f"{typed}?token=sesame")
    assert source.records == local.records
    assert source.name == f"{pattern.replace('://', '://me:***@')}?token=***"
    load_dataset(source, DataConfig(data=typed), None, 0)
    stored = [file for file in cache.cache_folder().rglob("*") if file.is_file()]
    assert len(stored) > 5
    assert not [file for file in stored if b"sesame" in file.read_bytes()]
    netrc = tmp_path / "netrc"
    netrc.write_text('machine 127.0.0.1 login me password "open sesame"', "ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert open_source(pattern).records == local.records


def test_the_listing_of_files_is_counted(server: RangeServer, shards: Callable[..., str]) -> None:
    said = Said()
    open_source(serve_shards(server, shards(3)), progress=said)
    assert said.listed == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_server_without_ranges_is_refused(server: RangeServer) -> None:
    server.files["/a.tar"] = bytes(BLOCK_BYTES + 5)
    server.has_ranges = False
    spans = RemoteSpans(f"{server.address}/a.tar")
    with pytest.raises(UnreachableError, match="the server does not serve parts of a file; download the file, and name it in --data"):
        spans.read(0, 7)


def test_missing_files_of_a_web_server_are_counted(server: RangeServer, shards: Callable[..., str]) -> None:
    pattern = serve_shards(server, shards(2))
    with pytest.raises(DataError, match=r"2 of 4 files are missing: http://.*/0002\.tar, http://.*/0003\.tar; correct the range"):
        open_source(pattern.replace("0001}", "0003}"))
    with pytest.raises(DataError, match=r"a web server lists no files; write their numbers as a range, such as \{0000"):
        open_source(f"{server.address}/*.tar")


def test_shards_of_a_web_server_are_those_of_the_folder(server: RangeServer, shards: Callable[..., str], geometry) -> None:
    local = open_source(shards(3))
    source = open_source(serve_shards(server, local.name))
    assert source.records == local.records
    assert [source.read(record) for record in source.records] == [local.read(record) for record in local.records]
    datasets = [load_dataset(each, DataConfig(data=each.name, split=(0.5, 0.25, 0.25)), geometry, 0) for each in (local, source)]
    assert datasets[0].fingerprint == datasets[1].fingerprint
    sent = len(server.sent)
    again = open_source(source.name)
    assert [again.stamp(record) for record in again.records] == [source.stamp(record) for record in source.records]
    assert len(server.sent) == sent  # the index and the bytes are in the cache
    assert open_source(f"{source.name}?token=1").records == local.records


def test_files_in_memory_are_listed_by_a_star_and_have_class_names(memory, shards: Callable[..., str]) -> None:
    local = open_source(shards(2))
    for file in Path(local.name).parent.glob("*.tar"):
        memory(f"/bucket/s/{file.name}", file.read_bytes())
    memory("/bucket/classes.txt", b"wolf\nape\n")
    assert matching("memory://bucket/s/*.tar") == ["memory:///bucket/s/0000.tar", "memory:///bucket/s/0001.tar"]
    source = open_source("memory://bucket/s/*.tar")
    assert [record.label for record in source.records] == ["wolf", "ape"] * 4
    assert source.read(source.records[-1]) == local.read(local.records[-1])
    with pytest.raises(DataError, match=r"memory://bucket/s: a folder; name its files, such as memory://bucket/s/\*\.tar"):
        open_source("memory://bucket/s")


def test_parquet_files_are_read_at_an_address(memory, tmp_path: Path, jpeg) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    table = arrow.table({"image": [jpeg(row) for row in range(4)], "label": ["a", "b"] * 2})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    memory("/a.parquet", (tmp_path / "a.parquet").read_bytes())
    for name in ("memory://a.parquet", "parquet:memory://a.parquet"):
        source = open_source(name)
        assert [source.read(record) for record in source.records] == [jpeg(row) for row in range(4)]


def test_a_lost_network_ends_a_scan_and_makes_no_image_unreadable(memory, tmp_path: Path, jpeg, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    table = arrow.table({"image": [jpeg(row) for row in range(4)], "label": ["a", "b"] * 2})
    parquet.write_table(table, tmp_path / "a.parquet")
    memory("/a.parquet", (tmp_path / "a.parquet").read_bytes())
    source = open_source("memory://a.parquet")
    remote._recent.clear()
    cache.clear()
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("no route")))
    with pytest.raises(
        UnreachableError, match=r"memory://a\.parquet: cannot be read any more: no route; the parts so far are in the cache"
    ):
        source.read(source.records[0])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://x/{0..1}.tar", r"--data ftp://x/0\.tar: unknown kind of address; allowed: http://, https://, s3://, .*, or a path"),
        ("zip::memory://x.tar", "no such file or folder, and no source of that name"),
        ("simplecache://x.tar", "unknown kind of address"),
    ],
)
def test_other_kinds_of_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(address)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "fsspec.core", None)
        with pytest.raises(MissingExtraError, match=r"needs the package fsspec; type: pip install 'cnnkit\[remote\]'"):
            open_source("memory://x.tar")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"--data s3://x/a\.tar needs the package s3fs; type: pip install s3fs"):
        open_source("s3://x/a.tar")
