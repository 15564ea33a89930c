from __future__ import annotations

import pickle

import numpy as np
import pytest

from cnnkit.data.columns import BLOCK_ROWS, Codes, PathIndex, RecordColumns, Texts, TextsBuilder
from cnnkit.data.source import Record

RECORDS = [Record("a/ä\udcff.jpg", "a"), Record("", "b", "train", "g"), Record("c/3.jpg", "a", "val", "g"), Record("d", "c", None, "h")]


def test_records_come_back_from_their_columns() -> None:
    columns = RecordColumns.of(RECORDS)
    assert columns == RECORDS
    assert columns == RECORDS
    assert list(columns) == RECORDS
    assert [columns[row] for row in (0, -1, 2)] == [RECORDS[0], RECORDS[3], RECORDS[2]]
    assert RecordColumns.of(columns) is columns
    assert columns != RECORDS[:3]
    assert columns != "text"
    with pytest.raises(IndexError):
        columns[4]
    assert (RecordColumns.of([]), len(RecordColumns.of([]))) == ([], 0)


def test_views_are_taken_of_views() -> None:
    columns = RecordColumns.of(RECORDS)
    view = columns[::-1].take(np.array([0, 3, 3]))
    assert view == [RECORDS[3], RECORDS[0], RECORDS[0]]
    assert view[1] == RECORDS[0]
    assert view.paths.blob is columns.paths.blob
    assert view.labels.present() == ["a", "c"]
    assert pickle.loads(pickle.dumps(view)) == view  # noqa: S301 (our own bytes)


def test_an_iteration_goes_over_the_borders_of_blocks() -> None:
    texts = [str(number) for number in range(2 * BLOCK_ROWS + 3)]
    columns = Texts.of(texts)
    assert list(columns) == texts
    assert list(columns.take(np.arange(len(texts))[::-1])) == texts[::-1]
    assert Texts.join([columns, Texts.of(["x"]), columns]) == [*texts, "x", *texts]


def test_codes_are_as_small_as_their_names_allow() -> None:
    assert Codes.of(["a", None, "a"]).codes.dtype == np.uint8
    many = Codes.of(map(str, range(300)))
    assert (many.codes.dtype, many[299]) == (np.uint16, "299")
    assert Codes.of([]) == []


def test_a_row_is_found_by_its_path() -> None:
    paths = Texts.of([f"{number}.jpg" for number in range(1000)])
    index = PathIndex(paths)
    assert [index.row(f"{number}.jpg") for number in (0, 999, 500)] == [0, 999, 500]
    assert not index.has_repeats()
    with pytest.raises(KeyError):
        index.row("1000.jpg")


def test_paths_of_one_checksum_are_told_apart_and_repeats_are_seen() -> None:
    same = ["plumless", "buckeroo"]  # of one CRC-32
    index = PathIndex(Texts.of(same))
    assert [index.row(path) for path in same] == [0, 1]
    assert not index.has_repeats()
    assert PathIndex(Texts.of([*same, "x", "plumless"])).has_repeats()


def test_a_view_made_compact_keeps_its_texts_alone() -> None:
    texts = Texts.of(str(number) for number in range(2 * BLOCK_ROWS))
    view = texts.take(np.arange(len(texts))[::-3])
    assert view.compact() == list(view)
    assert (view.compact().rows, len(view.compact().blob)) == (None, sum(map(len, view)))
    assert texts.compact() is texts
    assert Texts.of("abc").take(np.empty(0, np.int64)).compact() == []


def test_texts_are_added_one_by_one() -> None:
    made = TextsBuilder()
    for text in ("a", "", "\udcff"):
        made.append(text)
    made.extend(["ä", "b"])
    assert made.build() == ["a", "", "\udcff", "ä", "b"]


def test_texts_are_found_among_others_and_the_later_one_of_equal_ones_counts() -> None:
    texts = Texts.of(["a", "b", "a", ""])
    assert texts.rows_of(Texts.of(["a", "x", "", "b"])).tolist() == [2, -1, 3, 1]
    assert Texts.of(()).rows_of(texts).tolist() == [-1] * 4


def test_rows_of_a_view_are_known_and_others_are_looked_up() -> None:
    paths = Texts.of([f"{number}.jpg" for number in range(9)])
    index = PathIndex(paths)
    assert index.rows(paths).tolist() == list(range(9))
    assert index.rows(paths.take(np.array([4, 2]))).tolist() == [4, 2]
    assert "_sorted" not in vars(index)
    assert index.rows(Texts.of(["7.jpg", "0.jpg"])).tolist() == [7, 0]
    assert PathIndex(Texts.of(["a", "b", "a", "a"])).repeats() == {2: 0, 3: 0}


def test_a_mask_of_codes_knows_names_and_none() -> None:
    codes = Codes.of(["a", None, "b", "a"])
    assert codes.isin({"a", None}).tolist() == [True, True, False, True]
    assert Codes.of(()).isin({None}).tolist() == []
    assert Codes.of(codes) is codes
