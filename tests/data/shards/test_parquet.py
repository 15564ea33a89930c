from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.image import UndecodableError
from cnnkit.data.shards import parquet as module
from cnnkit.data.shards.parquet import ParquetSource
from cnnkit.data.source import Record, open_source
from cnnkit.errors import DataError, MissingExtraError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, jpeg: Callable[[int], bytes]) -> Write:
    """Return a function that writes a parquet file of 6 images in row groups of 2; keyword arguments are further columns or replace one."""

    def put(name: str = "a.parquet", first: int = 0, names: list[str] | None = None, **columns: Any) -> Path:
        images = [{"bytes": jpeg(row), "path": f"{row}.jpg"} for row in range(first, first + 6)]
        table = pa.table({"image": images, "label": [0, 1] * 3, **columns})
        features: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        if names:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=2)
        return path

    return put


def labels(source: object) -> list[str]:
    assert isinstance(source, ParquetSource)
    return [record.label for record in source.records]


def test_the_layout_of_the_hub_is_read_in_any_order(write: Write, jpeg) -> None:
    source = open_source(str(write(names=["cat", "dog"])))
    assert isinstance(source, ParquetSource)
    assert source.records == [Record(f"{row}.jpg", ("cat", "dog")[row % 2]) for row in range(6)]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(source.read, reversed(source.records))) == [jpeg(row) for row in reversed(range(6))]
    assert list(source.stamp_all(source.records[::-1])) == [source.stamp(record) for record in source.records][::-1]
    assert len({source.stamp(record) for record in source.records}) == 6
    with pytest.raises(UndecodableError, match="no such image in parquet:"):
        source.read(Record("9.jpg", "cat"))


def test_a_folder_and_a_pattern_name_files_whose_names_tell_the_split(write: Write, tmp_path: Path) -> None:
    write("data/train-00000-of-00001.parquet")
    write("data/test-00000-of-00001.parquet", first=6)
    for name in (f"parquet:{tmp_path}/p", f"{tmp_path}/p/data/*.parquet", f"parquet:{tmp_path}/p/data/{{test,train}}-*"):
        source = open_source(name)
        assert {record.path: record.split for record in source.records} == {
            f"{row}.jpg": "train" if row < 6 else "test" for row in range(12)
        }
        assert source.notes[0].startswith("the names of the files tell the split: ")
    with pytest.raises(DataError, match=r"it holds 2 parquet files: type --data parquet:"):
        open_source(f"{tmp_path}/p/data")


def test_the_row_names_an_image_whose_path_is_missing_or_repeats(write: Write, jpeg) -> None:
    write("a.parquet")
    folder = write("b.parquet").parent
    source = open_source(f"parquet:{folder}")
    assert [source.records[row].path for row in (0, 6, 11)] == ["a.parquet/000000", "b.parquet/000000", "b.parquet/000005"]
    assert source.read(source.records[11]) == jpeg(5)
    write("b.parquet", image=[{"bytes": jpeg(row), "path": None} for row in range(6)])
    assert open_source(f"parquet:{folder}/b.parquet").records[1].path == "b.parquet/000001"
    write("b.parquet", image=[{"bytes": jpeg(row), "path": f"../{row}.jpg"} for row in range(6)])
    assert open_source(f"parquet:{folder}/b.parquet").records[1].path == "b.parquet/000001"


def test_columns_are_found_without_metadata(write: Write, jpeg) -> None:
    images = pa.array([jpeg(row) for row in range(6)], pa.binary())
    path = write(image=images, label=["ä", " b ", None, "", "b", "ä"], name="c.parquet")
    source = open_source(str(path))
    assert labels(source) == ["ä", "b", "b", "ä"]
    assert source.notes == ("2 images without a label were left out",)
    assert [source.read(record) for record in source.records] == [jpeg(row) for row in (0, 1, 4, 5)]
    assert labels(open_source(str(write(label=[True, False] * 3)))) == ["True", "False"] * 3
    assert labels(open_source(str(write(label=[7, -1] * 3)))) == ["7"] * 3


def test_hidden_labels_of_the_hub_are_left_out(write: Write) -> None:
    source = open_source(str(write(names=["cat", "dog"], label=[-1, 1, 0, None, 1, 0])))
    assert (labels(source), source.notes) == (["dog", "cat", "dog", "cat"], ("2 images without a label were left out",))
    with pytest.raises(DataError, match="no image has a label in the column 'label'"):
        open_source(str(write(names=["cat"], label=[-1] * 6)))


def test_a_column_of_groups_keeps_images_together(write: Write) -> None:
    source = open_source(str(write(patient=["x", "y"] * 3)), group_by="patient")
    assert [record.group for record in source.records] == ["x", "y"] * 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [1] * 6}, r"a\.parquet: no column of images, which are bytes or structs with a field bytes; it has: image, label"),
        ({"label": [0.5] * 6}, r"a\.parquet: labels of the type double; expected whole numbers or texts"),
    ],
)
def test_columns_of_other_types_are_refused(write: Write, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(str(write(**columns)))


def test_a_file_without_labels_and_a_number_without_name_are_errors(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the label 1 has no name: the metadata of the file names 1 classes"):
        open_source(str(write(names=["cat"])))
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"n\.parquet: no column of labels; expected label, labels, class; it has: image"):
        open_source(f"{tmp_path}/n.parquet")


def test_an_image_without_bytes_is_unreadable(write: Write, jpeg) -> None:
    path = write(image=[{"bytes": None if row == 1 else jpeg(row), "path": f"{row}.jpg"} for row in range(6)])
    source = open_source(str(path))
    with pytest.raises(UndecodableError, match="this row has no bytes of an image"):
        source.read(source.records[1])


def test_missing_and_damaged_files_are_errors_that_name_them(write: Write, tmp_path: Path) -> None:
    path = write()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.parquet: damaged, or no parquet file: .*; fetch or write it again"):
        open_source(str(path))
    with pytest.raises(DataError, match="the file is missing: "):
        open_source(f"parquet:{tmp_path}/gone.parquet")
    with pytest.raises(DataError, match=r"the folder holds no \.parquet file"):
        open_source(f"parquet:{(tmp_path / 'empty').mkdir() or tmp_path / 'empty'}")
    with pytest.raises(DataError, match="--data parquet: name a file, a folder or a pattern"):
        open_source("parquet:")


def test_damage_inside_a_file_is_an_unreadable_image_and_a_change_too(write: Write) -> None:
    path = write()
    source = open_source(str(path))
    stored = bytearray(path.read_bytes())
    stored[4:300] = bytes(296)
    status = path.stat()
    path.write_bytes(bytes(stored))
    os.utime(path, ns=(0, status.st_mtime_ns))
    with pytest.raises(UndecodableError, match=r"a\.parquet: damaged, or no parquet file"):
        source.read(source.records[0])
    os.utime(path, ns=(0, 1))
    with pytest.raises(UndecodableError, match="the archive has changed since it was listed"):
        source.read(source.records[-1])


def test_memory_holds_the_last_row_groups_up_to_a_limit(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(write()))
    assert isinstance(source, ParquetSource)
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 1)
    for record in source.records:
        source.read(record)
    assert list(source._groups) == [(0, 2)]


def test_a_row_group_too_large_for_memory_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GROUP_BYTES", 100)
    with pytest.raises(DataError, match=r"a\.parquet: a row group has .* GB of images, .*; write it in smaller row groups"):
        open_source(str(write()))


def test_without_pyarrow_the_error_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"needs the package pyarrow; type: pip install 'cnnkit\[parquet\]'"):
        open_source(str(path))


def test_parquet_scans_and_splits_as_the_folder_of_the_same_images(image_folder, tmp_path: Path, geometry) -> None:
    folder = open_source(str(image_folder(images=12)))
    rows = [{"bytes": folder.read(record), "path": record.path} for record in folder.records]
    pq.write_table(
        pa.table({"image": rows, "label": [record.label for record in folder.records]}), tmp_path / "a.parquet", row_group_size=5
    )
    source = open_source(f"{tmp_path}/a.parquet")
    assert source.records == folder.records
    datasets = [load_dataset(each, DataConfig(data=each.name), geometry, 0) for each in (folder, source)]
    assert datasets[0].fingerprint == datasets[1].fingerprint
    assert datasets[0].split_csv == datasets[1].split_csv
