from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.data.csv_file import NO_COLUMN, open_csv
from cnnkit.errors import DataError


def read(content: str | bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the columns of a CSV, and the line and cells of each row."""
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_csv(Path("t.csv"), "t.csv") as file:
        return file.columns, [(file.line, list(cells)) for cells in file.rows()]


@pytest.mark.parametrize(
    "content",
    ["path,split\na,x\n", "\ufeffPATH;Split\r\na;x\r\n", " path \tsplit\ra\tx\r", 'path,split\n\n"a",x', "sep=|\npath|split\na|x\n"],
    ids=["plain", "byte order mark, semicolons, capitals, CRLF", "tabs, CR", "quotes, blank line", "Excel's sep="],
)
def test_every_way_of_writing_gives_the_same_cells(content: str) -> None:
    columns, rows = read(content)
    assert columns == ["path", "split"]
    assert [cells for _, cells in rows] == [["a", "x"]]


def test_the_line_of_a_row_counts_lines_and_not_rows() -> None:
    assert read('path\n"a\nb"\n\nc\n')[1] == [(3, ["a\nb"]), (5, ["c"])]
    assert read("sep=,\npath\na\n")[1] == [(3, ["a"])]


def test_columns_are_found_by_name() -> None:
    Path("t.csv").write_text("Path,Split\n")
    with open_csv(Path("t.csv"), "t.csv") as file:
        assert [file.column("split"), file.column("path"), file.column("label")] == [1, 0, NO_COLUMN]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path\na,b\n",
            r"^t\.csv, line 2: 2 cells, but the first line names 1 columns; put a cell that contains ',' into quotation marks$",
        ),
        ("path\n".encode("utf-16"), "UTF-16, perhaps"),
        ('path\n"' + 200_000 * "a", r"^t\.csv, line \d: field larger.*is a quotation mark left open\?"),
    ],
)
def test_a_file_that_is_no_table_is_refused(content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


def test_a_missing_file_is_refused_by_its_name() -> None:
    with pytest.raises(DataError, match=r"^x: cannot be read: No such file or directory$"), open_csv(Path("x.csv"), "x"):
        pass


def test_a_name_that_is_not_utf_8_is_refused_with_line_and_way_out() -> None:
    Path("my labels.csv").write_bytes(b"path,label\na,x\nb,caf\xe9\n")
    expected = (
        r"^my labels\.csv, line 3: the label b'caf\\xe9' is not UTF-8; in Windows-1252 it is 'café'\. Save the file as 'CSV UTF-8', "
        r"or type: iconv -f WINDOWS-1252 -t UTF-8 'my labels\.csv' > 'my labels-utf8\.csv'$"
    )
    with open_csv(Path("my labels.csv"), "my labels.csv") as file:
        labels = [label for _, label in file.rows()]
        file.check_text(labels[0], "label")
        with pytest.raises(DataError, match=expected):
            file.check_text(labels[1], "label")
