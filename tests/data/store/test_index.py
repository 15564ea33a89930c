from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.store.facts import Facts
from cnnkit.data.store.index import (
    ROW,
    ROWS_FILE,
    TEXTS_FILE,
    FactColumns,
    HashColumns,
    KeyColumns,
    Words,
    checksum,
    mapped_texts,
    pack,
    read_index,
)

FACTS = [
    Facts("ab" * 32, "", 123, 7, 9, 0.1, 1 / 3, 2.5e-7, "JPEG", "I;16", 6, True, 93, 5, 1.5e9),
    Facts(error="the file is truncated", bytes=2**40),
    Facts("00" * 31 + "01", format="PNG", mode="RGB"),
]


def test_facts_come_back_from_their_columns() -> None:
    columns = FactColumns.of(FACTS)
    assert columns == FACTS
    assert [columns[row] for row in range(3)] == FACTS
    assert columns.take(np.array([2, 0]))[0] == FACTS[2]
    assert columns.readable.tolist() == [True, False, True]
    assert columns.take(np.array([1])).readable.tolist() == [False]
    assert columns.hashes == ["ab" * 32, "", "00" * 31 + "01"]
    assert columns.take(np.array([2, 1])).column("bytes").tolist() == [0, 2**40]


def test_a_row_has_the_fields_of_facts_in_their_order() -> None:
    assert ROW.names == ("end", *Facts._fields)


def test_hashes_are_made_of_digests() -> None:
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    assert HashColumns.of(digests)[1:] == [digest.hex() for digest in digests[1:]]


def test_rows_are_found_by_key_and_the_later_of_two_counts() -> None:
    keys = KeyColumns.of([("a", "1"), ("b", "1"), ("a", "2"), ("b", "1")])
    assert keys.rows_of(KeyColumns.of([("b", "1"), ("a", "1"), ("c", "1"), ("a", "3")])).tolist() == [3, 0, -1, -1]
    assert KeyColumns.of([]).rows_of(keys).tolist() == [-1] * 4
    unique = keys[:3]
    assert unique.rows_of(KeyColumns.of(list(unique))).tolist() == [0, 1, 2]
    whole = KeyColumns.of(list(unique))
    assert whole.rows_of(KeyColumns.of(list(unique))).tolist() == [0, 1, 2]
    assert list(keys) == [("a", "1"), ("b", "1"), ("a", "2"), ("b", "1")]


def write(folder: Path, keys: list[tuple[str, str]], facts: list[Facts]) -> int:
    texts = KeyColumns.of(keys).texts
    rows = pack(facts, texts.bounds[1:], Words())
    (folder / ROWS_FILE).write_bytes(rows.tobytes())
    (folder / TEXTS_FILE).write_bytes(texts.blob.tobytes())
    return checksum(rows.tobytes(), texts.blob.tobytes())


def test_an_index_is_mapped_and_checked(tmp_path: Path) -> None:
    keys = [("ä/1.jpg", "5:6"), ("b", ""), ("c", "x")]
    found = write(tmp_path, keys, FACTS)
    array, bounds = read_index(tmp_path, [(0, 3, found)])
    assert isinstance(array, np.memmap)
    assert KeyColumns(mapped_texts(tmp_path, bounds)) == keys
    assert array["bytes"].tolist() == [123, 2**40, 0]
    for damage in (found + 1, found ^ 1):
        with pytest.raises(ValueError, match="a part of the index is damaged"):
            read_index(tmp_path, [(0, 3, damage)])
    (tmp_path / TEXTS_FILE).write_bytes(b"x")
    with pytest.raises(ValueError, match="the texts are truncated"):
        read_index(tmp_path, [(0, 3, found)])
    empty, bounds = read_index(tmp_path, [])
    assert (len(empty), bounds.tolist(), len(mapped_texts(tmp_path, bounds))) == (0, [0], 0)


def test_rows_of_one_content_have_its_first_row() -> None:
    contents = ["ab" * 32, "", "cd" * 32, "ab" * 32, "", "cd" * 32, "ab" * 32]
    columns = HashColumns.of(bytes.fromhex(content.ljust(64, "0")) for content in contents)
    assert columns.first_rows().tolist() == [0, 1, 2, 0, 4, 2, 0]
    assert HashColumns.of([]).first_rows().tolist() == []


def test_contents_of_one_start_are_told_apart() -> None:
    start = bytes(8)  # an unreadable image has it, too
    ends = [1, 2, 1, 0, 2, 0]
    columns = HashColumns.of(start + bytes(23) + bytes([end]) for end in ends)
    assert columns.first_rows().tolist() == [0, 1, 0, 3, 1, 5]
