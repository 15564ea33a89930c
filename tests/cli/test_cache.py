from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnnkit.cli.cache import size


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Return a cache with one store of 3 images and 1,000,000 bytes, and the 50 bytes of an interrupted scan."""
    stores = tmp_path / "cache" / "stores"
    whole, left = stores / "aaaa-bbbb", stores / "cccc-dddd.part-1-x"
    for folder in (whole, left):
        folder.mkdir(parents=True)
    text = json.dumps({"source": "pictures/[red]", "path": ["a", "b", "c"]})
    (whole / "facts.json").write_text(text)
    (whole / "thumbnails.npy").write_bytes(bytes(1_000_000 - len(text)))
    (left / "thumbnails.npy").write_bytes(bytes(50))
    return stores


def test_an_empty_cache_names_its_folder(cli, tmp_path):
    result = cli("cache")
    assert result.code == 0
    assert result.out == f"{tmp_path / 'cache'}: no stores\n"
    assert cli("cache", "--clear").out.endswith("no stores to remove\n")


def test_stores_are_listed_with_their_size(cli, filled):
    out = cli("cache").out
    assert "2 stores, 1.0 MB" in out
    assert "pictures/[red]" in out
    assert "interrupted" in out
    assert filled.is_dir()


def test_json_has_the_bytes(cli, filled):
    shown = cli("cache", "--json").json()
    assert (shown["folder"], shown["bytes"], shown["freed"]) == (str(filled.parent), 1_000_050, 0)
    assert {"path": str(filled / "aaaa-bbbb"), "source": "pictures/[red]", "images": 3, "bytes": 1_000_000} in shown["stores"]


def test_clear_removes_the_stores_and_nothing_else(cli, filled):
    beside = filled.parent / "other"
    beside.write_text("mine")
    result = cli("cache", "--clear")
    assert "removed 2 stores, 1.0 MB" in result.out
    assert not filled.exists()
    assert beside.read_text() == "mine"
    assert cli("cache", "--json").json()["stores"] == []


def test_clear_has_the_freed_bytes_in_json(cli, filled):
    assert cli("cache", "--clear", "--json").json()["freed"] == 1_000_050


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_340_000_000, "2.3 GB"), (10**16, "10000.0 TB")]
)
def test_sizes_use_decimal_units(count, text):
    assert size(count) == text


def test_the_command_loads_no_torch():
    script = "import sys; from cnnkit.cli.app import main; assert main(['cache']) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)
