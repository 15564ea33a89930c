from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cnnkit.data.store import cache
from cnnkit.data.store.locks import _held
from cnnkit.data.store.scan import scan
from cnnkit.data.store.store import cache_folder, stores_folder
from cnnkit.data.store.writer import open_writer
from cnnkit.errors import ConfigError


class Usage(NamedTuple):
    """The result of `shutil.disk_usage`, in bytes."""

    total: int
    used: int
    free: int


def made(source, *, used: int, held: bool = False) -> Path:
    """Return the store of `source`, last used at the time `used`; unless `held`, as if another process had made it."""
    folder = scan(source, source.records).folder
    assert folder is not None
    os.utime(folder, (used, used))
    if not held:
        os.close(_held.pop(folder))
    return folder


def left() -> list[str]:
    return sorted(info.source for info in cache.stores())


def test_stores_are_listed_by_last_use_with_their_size_and_cleared(noise_source) -> None:
    assert cache.stores() == []
    assert cache.clear() == ([], 0)
    old, new = made(noise_source(2, name="old"), used=1000), made(noise_source(3, name="new"), used=2000)
    foreign = stores_folder() / "x-y.part-1-abc"
    foreign.mkdir()
    os.utime(foreign, (10, 10))
    listed = cache.stores()
    assert [(info.path, info.source, info.images, info.used) for info in listed] == [
        (new, "new", 3, 2000), (old, "old", 2, 1000), (foreign, "", 0, 10),
    ]  # fmt: skip
    assert listed[0].bytes >= sum(file.stat().st_size for file in new.iterdir()) > 3 * 64 * 64
    stay, freed = cache.clear()
    assert (stay, freed) == ([], sum(info.bytes for info in listed))
    assert cache.stores() == []


def test_a_store_that_is_being_written_stays(noise_source) -> None:
    folder = made(noise_source(2), used=1000)
    with open_writer("noise", {"a/0", "b/1"}):
        assert cache.clear() == ([folder], 0)
    assert folder.exists()


def test_the_limit_is_that_of_the_variable_else_of_the_settings_else_a_share_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(4000, 0, 0))
    assert cache.limit() == cache.default_limit() == 1000
    cache.set_limit(500)
    assert cache.limit() == 500
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "1.5 kB")
    assert cache.limit() == 1500
    monkeypatch.delenv("CNNKIT_CACHE_LIMIT")
    (cache_folder() / "settings.json").write_text("[]")
    assert cache.limit() == 1000
    cache.set_limit(None)
    assert cache.limit() == 1000
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize(("text", "size"), [("20GB", 20 * 10**9), ("1.5 tb", 15 * 10**11), ("100", 100), ("0", 0), ("3MB", 3 * 10**6)])
def test_sizes_are_numbers_with_a_unit(text: str, size: int) -> None:
    assert cache.parse_size(text, "--limit") == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "20 GiB", "many", "1e9", "nan"])
def test_other_sizes_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--limit \(=.*\) must be a number of bytes with a unit, .* such as 20GB"):
        cache.parse_size(text, "--limit")


def test_a_scan_removes_the_stores_beyond_the_limit_that_were_not_used_for_the_longest_time(noise_source) -> None:
    for number, name in enumerate(("first", "second", "third")):
        made(noise_source(20, name=name), used=1000 + number)
    size = max(info.bytes for info in cache.stores())
    cache.set_limit(3 * size + size // 2)
    made(noise_source(20, name="fourth"), used=1)  # the newest one stays although it has the oldest time
    assert left() == ["fourth", "second", "third"]
    cache.set_limit(size)
    assert [info.source for info in cache.keep_limit()] == ["fourth", "second"]
    assert left() == ["third"]
    cache.set_limit(0)
    scan(noise_source(20, name="third"), noise_source(20).records)  # nothing is written, so nothing is removed
    assert left() == ["third"]


USING = """
import sys
from cnnkit.data.sources.folder import FolderSource
from pathlib import Path
from cnnkit.data.store.scan import scan
source = FolderSource(Path("images"))
found = scan(source, source.records)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_store_in_use_stays_beyond_the_limit(image_folder, noise_source) -> None:
    image_folder(images=2)
    with subprocess.Popen([sys.executable, "-c", USING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        made(noise_source(2), used=1, held=True)
        cache.set_limit(0)
        assert cache.keep_limit() == []
        other.communicate("")
    assert [info.source for info in cache.keep_limit()] == ["images"]
    assert left() == ["noise"]


def test_blocks_that_another_process_removes_meanwhile_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.blocks_folder().mkdir(parents=True)
    for name in "abc":
        (cache.blocks_folder() / name).write_bytes(bytes(100_000))
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([*listed(folder), folder / "gone"]))
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "250kB")
    cache.keep_blocks_limit()
    assert len(list(listed(cache.blocks_folder()))) == 2
    monkeypatch.setattr(Path, "iterdir", lambda folder: listed(folder / "gone"))
    cache.keep_blocks_limit()
    assert cache.stores() == []
