from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cnnkit.cli.cache import size
from cnnkit.data.store.journal import encode


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Return a cache with one store of 3 images and about 1,000,000 bytes, and 50 bytes of another version."""
    stores = tmp_path / "cache" / "stores"
    whole, left = stores / "aaaa-0001", stores / "cccc-dddd"
    for folder in (whole, left):
        folder.mkdir(parents=True)
    lines = [{"source": "pictures/[red]"}, {"start": 0, "stop": 3}]
    (whole / "journal.jsonl").write_bytes(b"".join(map(encode, lines)))
    (whole / "thumbnails.u8").write_bytes(bytes(range(250)) * 4000)
    (left / "thumbnails.npy").write_bytes(bytes(50))
    return stores


def test_an_empty_cache_names_its_folder_and_limit(cli, tmp_path):
    result = cli("cache")
    assert result.code == 0
    assert result.out.startswith(f"{tmp_path / 'cache'}: no stores; limit ")
    assert cli("cache", "--clear").out.endswith("no stores to remove\n")


def test_stores_are_listed_with_their_size(cli, filled):
    out = cli("cache").out
    assert "2 stores, 1.0 MB; limit" in out
    assert "pictures/[red]" in out
    assert "of another version" in out
    assert filled.is_dir()


def test_json_has_the_bytes_and_the_limit(cli, filled, monkeypatch):
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "5GB")
    shown = cli("cache", "--json").json()
    assert (shown["folder"], shown["limit"], shown["freed"]) == (str(filled.parent), 5 * 10**9, 0)
    assert shown["bytes"] == sum(store["bytes"] for store in shown["stores"]) >= 1_000_050
    assert [(store["path"], store["source"], store["images"]) for store in shown["stores"] if store["images"]] == [
        (str(filled / "aaaa-0001"), "pictures/[red]", 3)
    ]


def test_clear_removes_the_stores_and_nothing_else(cli, filled):
    beside = filled.parent / "other"
    beside.write_text("mine")
    result = cli("cache", "--clear")
    assert "removed 2 stores, 1.0 MB" in result.out
    assert list(filled.glob("*-*")) == []
    assert beside.read_text() == "mine"
    assert cli("cache", "--json").json()["stores"] == []


def test_clear_has_the_freed_bytes_in_json(cli, filled):
    assert cli("cache", "--clear", "--json").json()["freed"] >= 1_000_050


def test_a_limit_is_remembered_and_kept(cli, filled):
    assert "limit 2.0 MB" in cli("cache", "--limit", "2MB").out
    assert "2 stores, 1.0 MB; limit 2.0 MB" in cli("cache").out
    assert "removed 1.0 MB, to keep the limit" in cli("cache", "--limit", "100kB").out
    assert [store["images"] for store in cli("cache", "--json").json()["stores"]] in ([], [0])
    default = cli("cache", "--limit", "auto", "--json").json()["limit"]
    assert default > 2_000_000


def test_a_limit_that_is_no_size_is_refused(cli, filled):
    refused = cli("cache", "--limit", "much")
    assert refused.code == 2
    assert "--limit (=much) must be a number of bytes with a unit" in refused.err
    assert len(list(filled.iterdir())) == 2


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_340_000_000, "2.3 GB"), (10**16, "10000.0 TB")]
)
def test_sizes_use_decimal_units(count, text):
    assert size(count) == text


def test_the_command_loads_no_torch():
    script = "import sys; from cnnkit.cli.app import main; assert main(['cache']) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)
