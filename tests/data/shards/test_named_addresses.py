from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnkit.data.shards import named_addresses
from cnnkit.data.shards.named_addresses import ADDRESSES_FILE, check_named, name_address
from cnnkit.data.store.store import cache_folder
from cnnkit.errors import DataError
from cnnkit.files import read_json

RUN = Path("runs/001")


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    named_addresses._named.clear()
    yield
    named_addresses._named.clear()


def test_an_address_is_named_once_for_all_commands() -> None:
    with pytest.raises(
        DataError, match=r"^runs/001: its images are at s3://b/\{0\.\.1\}\.tar, an address that no command on this machine has"
    ):
        check_named("s3://b/{0..1}.tar", RUN)
    name_address("s3://b/{0..1}.tar")
    named_addresses._named.clear()  # another command
    check_named("s3://b/{0..1}.tar", RUN)
    with pytest.raises(DataError, match=r"add --data s3://b/2\.tar, or read it once with: cnnkit doctor s3://b/2\.tar$"):
        check_named("s3://b/2.tar", RUN)


def test_the_kind_before_an_address_makes_no_difference() -> None:
    name_address("https://h/a.parquet")
    check_named("parquet:https://h/a.parquet", RUN)
    name_address("shards:https://h/a")
    check_named("https://h/a", RUN)


@pytest.mark.parametrize("location", ["/data/images", "digits", "hf:cats", "parquet:/data/a.parquet"])
def test_other_data_needs_no_name(location: str) -> None:
    name_address(location)
    check_named(location, RUN)
    assert not (cache_folder() / ADDRESSES_FILE).exists()


def test_the_file_holds_the_last_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_addresses, "MAX_ADDRESSES", 2)
    for name in "abca":
        named_addresses._named.clear()
        name_address(f"s3://{name}")
    assert read_json(cache_folder() / ADDRESSES_FILE) == ["s3://c", "s3://a"]


@pytest.mark.parametrize("content", ["", "{}", "[1"])
def test_a_damaged_file_names_nothing_and_is_replaced(content: str) -> None:
    file = cache_folder() / ADDRESSES_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, "utf-8")
    with pytest.raises(DataError):
        check_named("s3://a", RUN)
    name_address("s3://a")
    assert read_json(file) == ["s3://a"]


def test_without_a_place_for_the_file_an_address_is_named_for_this_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "file"))
    name_address("s3://a")
    check_named("s3://a", RUN)
