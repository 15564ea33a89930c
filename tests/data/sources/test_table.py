from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, open_source
from cnnkit.data.sources.table import TableSource
from cnnkit.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Write:
    """Return a function that writes ``t.csv`` in `tmp_path` from text or bytes and returns its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_rows_become_records(table: Write) -> None:
    source = open_source(str(table("path,label,split,group\nb/1.jpg,bees,train,p1\na/2.jpg,ants,VAL,\na/3.jpg,ants,test,p2\n")))
    assert isinstance(source, TableSource)
    assert list(source.records) == [
        Record("b/1.jpg", "bees", "train", "p1"),
        Record("a/2.jpg", "ants", "val", None),
        Record("a/3.jpg", "ants", "test", "p2"),
    ]
    assert source.notes == ()


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffpath,label\n1.jpg,ants\n",
        "label,note,path\nants,x,1.jpg\n",
        "Path;Label\r\n1.jpg;ants\r\n",
        "path\tlabel\n1.jpg\tants\n",
        " path , label \n1.jpg, ants \n",
        '"path","label"\n\n"1.jpg","ants"\n\n',
        "path,label,split\n1.jpg,ants,\n",
    ],
    ids=["byte order mark", "other order", "semicolons", "tabs", "spaces", "blank lines", "empty split"],
)
def test_variants_of_a_table_give_the_same_records(table: Write, content: str) -> None:
    assert list(TableSource(table(content)).records) == [Record("1.jpg", "ants")]


def test_paths_are_relative_to_the_table_or_absolute(table: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"outside")
    base = tmp_path / "deep"
    base.mkdir()
    (base / "1.jpg").write_bytes(b"one")
    (base / "2.jpg").write_bytes(b"two")
    (base / "t.csv").write_text(f"path,label\n./1.jpg,a\n{base}/2.jpg,a\n{outside},b\n../outside.jpg,b\n")
    for where, name in ((tmp_path, "deep/t.csv"), (base, "t.csv"), (tmp_path.parent, str(base / "t.csv"))):
        monkeypatch.chdir(where)
        source = TableSource(Path(name))
        assert [record.path for record in source.records] == ["1.jpg", "2.jpg", str(outside)]
        assert source.notes == ("1 row with the content of another was left out",)
        assert [source.read(record) for record in source.records] == [b"one", b"two", b"outside"]


def test_no_image_file_is_opened_before_it_is_read(table: Write, tmp_path: Path) -> None:
    source = TableSource(table("path,label\n1.jpg,ants\n"))
    (record,) = source.records
    assert source.stamp(record) == "missing"
    with pytest.raises(UndecodableError, match="No such file or directory"):
        source.read(record)
    (tmp_path / "1.jpg").write_bytes(b"x")
    assert source.stamp(record) != "missing"


def test_an_impossible_file_name_is_unreadable(table: Write) -> None:
    source = TableSource(table("path,label\na\0b.jpg,ants\n"))
    assert source.stamp(source.records[0]) == "missing"
    with pytest.raises(UndecodableError, match="null"):
        source.read(source.records[0])


NAMES = [b"caf\xe9.jpg", b"line\nbreak.jpg", b"return\r.jpg", b'quote".jpg', b"comma,semicolon;.jpg", "ant \N{ANT}.jpg".encode(), b" s.jpg"]


def test_files_of_any_name_are_read(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for number, name in enumerate(NAMES):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(bytes([number]))
            rows.writerow([os.fsdecode(name), "café"])
    source = TableSource(tmp_path / "t.csv")
    assert [source.read(record) for record in source.records] == [bytes([number]) for number in range(len(NAMES))]
    assert {record.label for record in source.records} == {"café"}


@given(name=st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).map(lambda text: f"x{text}"))
def test_any_path_survives(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label"], [name, "ants"]])
    assert TableSource(path).records[0].path == name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv: no column 'path'\. Its first line must name the columns path,label\[,split\]\[,group\] .*; it has: nothing"),
        ("path,lable\n", r"no column 'label'; did you mean 'lable'\? .*it has: 'path', 'lable'"),
        ("a/1.jpg,ants\n", r"no column 'path'.*it has: 'a/1\.jpg', 'ants'"),
        ("path,label,label\n", "two columns are named 'label'; keep one"),
        ("path,label\n", r"t\.csv: there are no rows below the column names; add a row for each image"),
        ("path,label\n1.jpg,a\n2.jpg\n", r"t\.csv, line 3: 1 cells, but the first line names 2 columns; put a cell that contains ','"),
        ("path,label\n1,5.jpg,a\n", r"t\.csv, line 2: 3 cells, but the first line names 2 columns"),
        ("path,label\n1.jpg,a\n2.jpg, \n", "line 3: the label is empty"),
        ("path,label\n,a\n", "line 2: the path is empty"),
        ("path,label\n./,a\n", "line 2: the path is empty"),
        ("path,label,split\n1.jpg,a,trian\n", r"line 2: unknown split 'trian'; did you mean 'train'.*Allowed: train, val, test, or empty"),
        (
            "path,label,split\n1.jpg,a,train\n\n2.jpg,a,\n3.jpg,a,\n",
            "2 of 3 rows have no split, the first in line 4; fill in train, val or test in every row, or leave the column empty",
        ),
        ("path,label\n1.jpg,a\n2.jpg,b\n./1.jpg,b\n", "line 4: '1.jpg' has the label 'b', but 'a' in line 2; keep one"),
        ("path,label,split\n1.jpg,a,train\n1.jpg,a,test\n", "line 3: '1.jpg' has the split 'test', but 'train' in line 2; keep one"),
        ("path,label,group\n1.jpg,a,x\n1.jpg,a,\n", "line 3: '1.jpg' has the group '', but 'x' in line 2; keep one"),
        ('path,label\n"1.jpg,a\n' + 30_000 * "2.jpg,b\n", r"t\.csv, line \d+: field larger.*; is a quotation mark left open\?"),
        ("path,label\n1.jpg,a\n".encode("utf-16"), r"not a CSV in UTF-8 \(UTF-16, perhaps\); save it as 'CSV UTF-8'"),
    ],
)
def test_an_invalid_table_is_refused_with_its_line(table: Write, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TableSource(table(content))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data gone\.csv: no such file; expected a CSV with the columns path,label"):
        TableSource(Path("gone.csv"))
    os.mkfifo(tmp_path / "pipe.csv")  # a reader must not wait for it
    with pytest.raises(DataError, match="no such file"):
        TableSource(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"--data csv: name the file, such as --data images\.csv"):
        open_source("csv")


def test_repeated_rows_are_counted_once(table: Write) -> None:
    source = TableSource(table("path,label\n1.jpg,a\n1.jpg,a\n./1.jpg,a\n2.jpg,b\n"))
    assert [record.path for record in source.records] == ["1.jpg", "2.jpg"]
    assert source.notes == ("2 rows with the content of another were left out",)


@pytest.mark.parametrize(
    ("group_by", "groups"), [("", ["g1", "g2"]), ("patient", ["p1", "p1"]), ("Patient ", ["p1", "p1"]), (r"\d+", [None, None])]
)
def test_groups_come_from_the_given_column(table: Write, group_by: str, groups: list[str | None]) -> None:
    path = table("path,label,group,Patient\n1.jpg,a,g1,p1\n2.jpg,a,g2,p1\n")
    assert [record.group for record in open_source(str(path), group_by=group_by).records] == groups


def test_an_empty_column_of_groups_is_refused_if_given(table: Write) -> None:
    path = table("path,label,group\n1.jpg,a,\n")
    assert TableSource(path).records[0].group is None
    with pytest.raises(DataError, match=r"t\.csv: --group-by group: the column is empty in every row"):
        TableSource(path, "group")


def test_a_tsv_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("path\tlabel\n1.jpg\tants\n")
    assert isinstance(open_source("t.tsv"), TableSource)


def test_one_file_under_two_spellings_counts_once_or_is_refused(table: Write, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    source = TableSource(table("path,label\na/1.jpg,x\na//1.jpg,x\na/./1.jpg,x\na/../a/1.jpg,x\nlink.jpg,x\n"))
    assert [record.path for record in source.records] == ["a/1.jpg"]
    assert source.notes == ("4 rows with the content of another were left out",)
    with pytest.raises(DataError, match=r"line 3: 'a/1\.jpg' has the label 'y', but 'x' in line 2; keep one"):
        TableSource(table("path,label\na/1.jpg,x\na//1.jpg,y\n"))
    with pytest.raises(
        DataError, match=r"line 3: 'link\.jpg' has the label 'y', but 'x' in line 2, where the same file is called 'a/1\.jpg'; keep one"
    ):
        TableSource(table("path,label\na/1.jpg,x\nlink.jpg,y\n"))


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        (
            "im/1.jpg",
            r"No such file or directory: meta/im/1\.jpg; paths are relative to the folder of the CSV, meta, and this one fits the",
        ),
        ("im/2.jpg", r"No such file or directory: meta/im/2\.jpg; paths are relative to the folder of the CSV, meta$"),
        (r"im\\1.jpg", r"No such file or directory: .*; the path has backslashes: write / between folders$"),
        ("https://x.org/1.jpg", r"; this is an address: download the images first$"),
        ("~/1.jpg", r"; ~ has no meaning in a table: write the whole path$"),
        ("/im/1.jpg", r"No such file or directory: /im/1\.jpg$"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_was_looked_for_and_why(path: str, cause: str) -> None:
    for folder in ("im", "meta"):
        Path(folder).mkdir()
    Path("im/1.jpg").write_bytes(b"x")
    Path("meta/t.csv").write_text(f"path,label\n{path},a\n")
    source = TableSource(Path("meta/t.csv"))
    with pytest.raises(UndecodableError, match=cause):
        source.read(source.records[0])


def test_labels_and_paths_have_one_unicode_form(table: Write, tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.jpg").write_bytes(b"x")
    source = TableSource(table("path,label\ncaf\u00e9.jpg,caf\u00e9\n2.jpg,cafe\u0301\n"))
    assert {record.label for record in source.records} == {"caf\u00e9"}
    assert source.read(source.records[0]) == b"x"
    assert source.stamp(source.records[0]) != "missing"


@pytest.mark.parametrize("column", ["label", "group"])
def test_a_name_that_is_not_utf_8_is_refused_with_its_line(table: Write, column: str) -> None:
    cells = {"label": b"caf\xe9,g", "group": b"a,caf\xe9"}
    with pytest.raises(DataError, match=rf"t\.csv, line 3: the {column} b'caf\\xe9' is not UTF-8; in Windows-1252 it is 'café'"):
        TableSource(table(b"path,label,group\n1.jpg,a,g\n2.jpg," + cells[column] + b"\n"))
