from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnkit.cli import row_file as module
from cnnkit.cli.row_file import row_file
from cnnkit.files import json_text

ROWS = [
    {"path": "a, b.jpg", "predicted": "x", "probability": 0.25, "abstained": True, "error": None, "x": 0.25, "label_set": ["x", "ü"]},
    {"path": "c\udcff.jpg", "predicted": None, "probability": None, "abstained": False, "error": "gone", "x": None, "label_set": []},
]


def written(name: str) -> Path:
    path = Path(name)
    with row_file(path, list(ROWS[0])) as put:
        for row in ROWS:
            put(row)
        assert not path.exists()
    return path


def test_json_is_the_document_of_all_rows():
    assert written("rows.json").read_text("utf-8") == json_text(ROWS)
    with row_file(Path("none.json"), list(ROWS[0])):
        pass
    assert json.loads(Path("none.json").read_text("utf-8")) == []


def test_csv_has_plain_cells_and_escapes():
    assert written("rows.csv").read_bytes().decode("utf-8").split("\r\n") == [
        "path,predicted,probability,abstained,error,x,label_set",
        '"a, b.jpg",x,0.25,true,,0.25,"[""x"", ""ü""]"',
        r"c\udcff.jpg,,,false,gone,,[]",
        "",
    ]


def test_a_file_without_rows_has_its_columns():
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("none.csv", "none.parquet"):
        with row_file(Path(name), list(ROWS[0])):
            pass
    assert Path("none.csv").read_bytes() == b"path,predicted,probability,abstained,error,x,label_set\r\n"
    assert parquet.read_table("none.parquet").schema == parquet.read_table(written("rows.parquet")).schema


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_parquet_has_one_schema_over_all_groups(monkeypatch, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "GROUP_ROWS", rows)
    table = parquet.read_table(written("rows.parquet"))
    assert table.to_pylist() == [ROWS[0], {**ROWS[1], "path": "c\\udcff.jpg"}]
    kinds = ["string", "string", "double", "bool", "string", "double", "list<element: string>"]
    assert [str(kind) for kind in table.schema.types] == kinds


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_an_error_leaves_the_earlier_file(suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = Path(f"rows{suffix}")
    path.write_text("earlier")

    def fail() -> None:
        with row_file(path, list(ROWS[0])) as put:
            put(ROWS[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "earlier"
    assert list(Path().glob("*.part")) == []


def test_a_disk_error_names_the_file():
    with pytest.raises(OSError, match=r"No such file or directory: 'missing/rows\.csv'"), row_file(Path("missing/rows.csv"), []):
        pass
