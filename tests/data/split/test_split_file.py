from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cnnkit.data.columns import Codes
from cnnkit.data.source import Record
from cnnkit.data.split.split import Sample
from cnnkit.data.split.split_file import read_pins, split_csv
from cnnkit.errors import DataError

RECORDS = [Record(f"a/{name}", "a") for name in ("1.jpg", "2.jpg", "3.jpg", "\udcff.jpg")]
HASHES = [hashlib.sha256(record.path.encode("utf-8", "surrogateescape")).hexdigest() for record in RECORDS]


def pins(file: Path, text: str | bytes, records: list[Record] = RECORDS) -> tuple[Codes, tuple[str, ...]]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_pins(file, records, HASHES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "split.csv"


def test_images_are_found_by_path_and_other_images_are_free(file: Path) -> None:
    assert pins(file, "path,label,split\na/2.jpg,a,test\na/1.jpg,b,train\n") == (
        ["train", "test", None, None],
        (f"2 images are not in {file}; they were assigned by --split",),
    )


def test_a_renamed_image_is_found_by_its_content(file: Path) -> None:
    found, notes = pins(file, f"path,split,sha256\nold.jpg,val,{HASHES[2]}\na/1.jpg,train,\n")
    assert found == ["train", None, "val", None]
    assert notes[1] == f"1 image of {file} is missing or renamed in the data"


def test_aliases_bom_and_names_of_any_bytes(file: Path) -> None:
    for name in (b"\xff", b"\\udcff"):  # the bytes of the name, and the escape that cnnkit writes
        assert pins(file, b"\xef\xbb\xbfpath,split\na/" + name + b".jpg,Validation\n")[0] == [None, None, None, "val"]


def test_the_file_may_come_from_a_spreadsheet_of_any_system(file: Path) -> None:
    content = f"\ufeffSHA256;Split;Path\r\n{HASHES[1]};test;b/x.jpg\r\n;Eval;a/1.jpg\r\n\r\n"
    assert pins(file, content)[0] == ["val", "test", None, None]


def test_composed_and_decomposed_paths_are_one_path(file: Path) -> None:
    records = [Record("cafe\u0301/1.jpg", "a"), Record("tea/1.jpg", "b")]
    file.write_text("path,split\ncaf\u00e9/1.jpg,test\ntea/1.jpg,train\n", "utf-8")
    assert read_pins(file, records, ["", ""]) == (["test", "train"], ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na/1.jpg,a\n", r"no column split; it has: path, label; cnnkit split DATA writes such a file"),
        ("", r"no column path or split; it has: nothing"),
        ("path,split\na/1.jpg,train\na/2.jpg,hold-out\n", r"line 3: 'hold-out' is no split; allowed: train, val, test"),
        ("path,split\na/1.jpg\n", r"line 2: 1 cells, but the first line names 2 columns"),
        ("path,split,split\na/1.jpg,train,val\n", r"two columns are named 'split'; keep one"),
        ("path,split\nb/1.jpg,train\n", r"none of its 1 paths is in the data, such as b/1.jpg; the data has paths such as a/1.jpg"),
    ],
)
def test_a_table_that_does_not_fit_the_data_is_refused(file: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pins(file, text)


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("a\\1.jpg", r"; write / between folders, and no \./ at the beginning$"),
        ("./a/1.jpg", r"; write / between folders, and no \./ at the beginning$"),
        ("images/a/1.jpg", r"; remove 'images/' from the beginning of every path$"),
        ("b/1.jpg", r"the data has paths such as a/1\.jpg$"),
    ],
)
def test_paths_of_another_system_or_folder_are_refused_with_the_repair(file: Path, path: str, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        pins(file, f"path,split\n{path},train\n")


def test_a_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match=r"split\.csv: cannot be read: No such file or directory"):
        read_pins(file, RECORDS, HASHES)


def test_a_split_of_the_source_is_not_overruled(file: Path) -> None:
    records = [Record(record.path, "a", "test") for record in RECORDS]
    assert pins(file, "path,split\na/1.jpg,test\n", records)[0] == ["test", None, None, None]
    with pytest.raises(DataError, match=r"it puts a/1\.jpg into train, but the data into test; leave --split-file out, or move the image"):
        pins(file, "path,split\na/1.jpg,train\n", records)


def test_a_written_table_is_read_again(file: Path) -> None:
    samples = [Sample("a,b/1.jpg", "a,b", "test", "0" * 64, 0, "p1"), Sample('c"/2.jpg', 'c"', "train", "1" * 64, 1, "p2")]
    file.write_bytes(split_csv(samples))
    records = [Record(sample.path, sample.label) for sample in samples]
    assert read_pins(file, records, ["", ""]) == (["test", "train"], ())
    assert read_pins(file, [Record("new", "x")], ["1" * 64])[0] == ["train"]
