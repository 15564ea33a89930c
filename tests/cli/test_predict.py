from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cnnkit.api.inference import class_folders
from cnnkit.api.inference.predict import Prediction
from cnnkit.cli import row_file
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature import Calibration
from cnnkit.model.file import read_header, rewrite_header


def test_one_row_per_file_in_the_order_given(cli, trained, read_rows):
    files = [
        trained.data / "wasps/wasps-001.jpg",
        trained.data / "bees/broken.jpg",
        Path("missing.jpg"),
        trained.data / "ants/ants-000.jpg",
    ]
    result = cli("predict", *files, "--out", "rows.csv")
    assert result.code == 0
    rows = read_rows("rows.csv")
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert list(rows[0]) == ["path", "predicted", "probability", "abstained", "error"]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert "truncated" in rows[1]["error"].lower()
    assert rows[1]["predicted"] == rows[1]["probability"] == ""
    assert rows[0]["abstained"] == "false"
    assert "4 rows in rows.csv, 2 of them with an error" in result.err


def test_a_folder_stands_for_its_images(cli, trained):
    result = cli("predict", trained.data / "bees")
    lines = result.out.splitlines()
    assert len(lines) == 21
    assert sum("error: " in line for line in lines) == 1


def test_predictions_equal_those_of_the_evaluation(cli, trained, read_rows):
    cli("eval", "--probabilities", "--json")
    evaluated = read_rows(trained.run / "eval/test/predictions.csv")
    predicted = cli("predict", *[trained.data / row["path"] for row in evaluated], "--probabilities", "--json").json()
    for row, prediction in zip(evaluated, predicted, strict=True):
        assert prediction["predicted"] == row["predicted"]
        for name in ("ants", "bees", "wasps"):
            assert prediction[name] == pytest.approx(float(row[name]), abs=1e-6)


def test_predict_says_whether_its_probabilities_are_calibrated(cli, trained):
    image = trained.data / "ants/ants-000.jpg"
    said = cli("predict", image)
    assert "probabilities not calibrated: val has 9 images, and a temperature needs at least 100; too few images for an ECE" in " ".join(
        said.err.split()
    )
    assert "calibrated" not in said.out


def test_model_file_and_export_have_the_same_calibrated_probabilities(cli, trained):
    image, best = trained.data / "ants/ants-000.jpg", trained.run / "best.safetensors"
    (plain,) = cli("predict", image, "--probabilities", "--json").json()
    fitted = Calibration("val", 120, 4.0, Estimate(0.041, 0.03, 0.05), Estimate(0.012, 0.0, 0.02), 0.5, 0.4)
    rewrite_header(best, read_header(best).model_copy(update={"temperature": 4.0, "calibration": fitted}))
    assert cli("export", "--onnx").code == 0
    for model in (best, trained.run / "export/model.onnx"):
        result = cli("predict", image, "--probabilities", "--json", "--model", model)
        assert "probabilities calibrated on val: temperature 4.00, ECE 4.1 -> 1.2 %" in result.err
        shares = np.array([plain[name] for name in ("ants", "bees", "wasps")]) ** (1 / 4)
        found = [result.json()[0][name] for name in ("ants", "bees", "wasps")]
        np.testing.assert_allclose(found, shares / shares.sum(), rtol=0, atol=1e-4)


def test_top_shows_the_most_probable_classes(cli, trained):
    result = cli("predict", trained.data / "ants/ants-000.jpg", "--top", 3)
    assert all(name in result.out for name in ("ants ", "bees ", "wasps "))
    document = cli("predict", trained.data / "ants/ants-000.jpg", "--top", 2, "--json").json()
    assert [len(row["top"]) for row in document] == [2]
    assert document[0]["top"][0]["probability"] == document[0]["probability"]


def test_json_file_holds_nulls_for_errors(cli, trained):
    cli("predict", trained.data / "bees/broken.jpg", "--out", "rows.json")
    assert json.loads(Path("rows.json").read_text())[0]["predicted"] is None


def test_parquet(cli, trained):
    parquet = pytest.importorskip("pyarrow.parquet")
    cli("predict", trained.data / "ants", "--out", "rows.parquet", "--probabilities")
    table = parquet.read_table("rows.parquet")
    assert table.column_names == ["path", "predicted", "probability", "abstained", "error", "ants", "bees", "wasps"]
    assert table.num_rows == 20


def test_parquet_without_its_package_says_what_to_install(cli, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = cli("predict", trained.data / "ants", "--out", "rows.parquet")
    assert result.code == 2
    assert "pip install 'cnnkit[parquet]'" in result.err


def test_usage_errors(cli, trained, tmp_path):
    (tmp_path / "void").mkdir()
    assert "no images in this folder" in cli("predict", tmp_path / "void").err
    assert "--out rows.xlsx: the ending must be one of .csv, .json, .parquet" in cli("predict", trained.data, "--out", "rows.xlsx").err
    assert "--top applies to the screen and --json" in cli("predict", trained.data, "--top", 2, "--out", "rows.csv").err
    assert "--probabilities needs an output with columns" in cli("predict", trained.data, "--probabilities").err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only Unix has named pipes")
def test_a_named_pipe_is_a_row_with_its_error(cli, trained, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    result = cli("predict", tmp_path / "pipe.jpg", "--json")
    assert result.json()[0]["error"] == "not a regular file"


def test_files_of_a_folder_without_a_row_are_named(cli, trained, image_folder):
    folder = image_folder(["ants"], 1, folder="mixed")
    for name in ("a.tga", "b"):
        (folder / name).write_bytes((folder / "ants/ants-000.jpg").read_bytes())
    result = cli("predict", folder, "--json")
    assert len(result.json()) == 1
    said = " ".join(result.err.split())
    assert (
        f"{folder}: left out 2 files without the suffix of an image: a.tga, b; to try such a file, name it: cnnkit predict {folder}/a.tga"
        in said
    )
    assert not cli("predict", folder / "a.tga", "--json").json()[0]["error"]


def test_not_one_path_that_exists_is_refused(cli, trained):
    result = cli("predict", "nothing.jpg")
    assert (result.code, result.out) == (2, "")
    assert "nothing.jpg: no such file or folder; name image files, or folders of images" in result.err


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no names that are not UTF-8")
def test_every_format_takes_names_that_are_not_utf_8(cli, trained):
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("f").mkdir()
    name = os.fsdecode(b"f/caf\xe9.jpg")
    Path(name).write_bytes((trained.data / "ants/ants-000.jpg").read_bytes())
    for ending in ("csv", "json", "parquet"):
        assert cli("predict", "f", "--out", f"rows.{ending}").code == 0
    assert Path("rows.csv").read_text("utf-8").splitlines()[1].startswith("f/caf\\udce9.jpg,")
    assert json.loads(Path("rows.json").read_text("utf-8"))[0]["path"] == name
    assert parquet.read_table("rows.parquet")["path"].to_pylist() == ["f/caf\\udce9.jpg"]


def test_patterns_and_standard_input_name_files(cli, trained, monkeypatch):
    ants = trained.data / "ants"
    assert [Path(row["path"]).name for row in cli("predict", ants / "*-00[12].jpg", "--json").json()] == ["ants-001.jpg", "ants-002.jpg"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{ants / 'ants-003.jpg'}\n".encode())))
    assert [Path(row["path"]).name for row in cli("predict", "-", "--json").json()] == ["ants-003.jpg"]


def test_a_url_is_refused(cli, trained):
    result = cli("predict", "https://example.org/cat.jpg")
    assert (result.code, result.out) == (2, "")
    assert (
        "https://example.org/cat.jpg: a URL, and cnnkit reads only files; download it first, then type: cnnkit predict cat.jpg"
        in " ".join(result.err.split())
    )


def test_a_row_is_written_before_the_next_image_is_predicted(cli, trained, monkeypatch):
    """The rows of a hundred thousand files need no more memory than those of a few."""
    seen: list[int] = []
    put = row_file.csv.writer

    class Spy:
        def __init__(self, file) -> None:
            self.writer = put(file)

        def writerow(self, cells) -> None:
            seen.append(len(list(cells)))
            self.writer.writerow(cells)

    monkeypatch.setattr(row_file.csv, "writer", Spy)
    calls: list[int] = []
    row = Prediction.row
    monkeypatch.setattr(Prediction, "row", lambda *given, **flags: calls.append(len(seen)) or row(*given, **flags))
    cli("predict", trained.data / "ants", "--out", "rows.csv")
    assert calls == list(range(21))  # the names of the columns, then each row after the header and the rows before


def joined(parts: list[Path]) -> bytes:
    """Return the CSV files `parts` as the program of the help joins them."""
    program = ["awk", "FNR > 1 || NR == 1", *map(str, parts)]
    return subprocess.run(program, check=True, capture_output=True).stdout


def predict_in_parts(cli, files, count: int, suffix: str = ".csv", *flags) -> list[Path]:
    parts = [Path(f"part-{number}-of-{count}{suffix}") for number in range(1, count + 1)]
    for number, part in enumerate(parts, 1):
        assert cli("predict", *files, "--shard", f"{number}/{count}", "--out", part, *flags).code == 0
    return parts


@pytest.mark.skipif(shutil.which("awk") is None, reason="the command of the help needs awk")
@pytest.mark.parametrize(
    ("suffix", "images", "counts"), [(".safetensors", 10, (1, 2, 3, 7)), (".safetensors", 150, (2, 3)), (".onnx", 150, (2,))]
)
def test_joined_parts_equal_the_whole_byte_for_byte(cli, trained, trained_export, suffix, images, counts):
    model = trained_export if suffix == ".onnx" else trained.run / "best.safetensors"
    files = (sorted(trained.data.rglob("*.jpg"), key=lambda path: path.name[-7:]) * 3)[:images]  # the classes are mixed
    files[3] = trained.data / "bees/broken.jpg"
    flags = ("--probabilities", "--model", model)
    assert cli("predict", *files, "--out", "whole.csv", *flags).code == 0
    for count in counts:
        assert joined(predict_in_parts(cli, files, count, ".csv", *flags)) == Path("whole.csv").read_bytes()


def test_parts_of_other_formats_have_the_rows_of_the_whole(cli, trained, read_rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    files = (sorted(trained.data.rglob("*.jpg")) * 2)[:100]
    whole = cli("predict", *files, "--json").json()
    rows = [{name: value for name, value in row.items() if name != "top"} for row in whole]
    parts = predict_in_parts(cli, files, 3, ".json")
    assert [len(json.loads(part.read_text())) for part in parts] == [64, 36, 0]
    assert [row for part in parts for row in json.loads(part.read_text())] == rows
    tables = [parquet.read_table(part) for part in predict_in_parts(cli, files, 3, ".parquet")]
    assert len({str(table.schema) for table in tables}) == 1
    assert [row for table in tables for row in table.to_pylist()] == rows
    shown = [row for number in (1, 2) for row in cli("predict", *files, "--shard", f"{number}/2", "--json").json()]
    assert shown == whole


def test_an_empty_part_has_the_header(cli, trained):
    result = cli("predict", trained.data / "ants", "--shard", "3/3", "--out", "part-3.csv")
    assert result.code == 0
    assert "0 rows in part-3.csv" in result.err
    assert Path("part-3.csv").read_bytes() == b"path,predicted,probability,abstained,error\r\n"
    assert cli("predict", trained.data / "ants", "--shard", "3/3").out == ""


def test_an_interrupted_part_leaves_no_file_and_can_be_repeated(cli, trained, monkeypatch):
    files, row = list((trained.data / "ants").iterdir()), Prediction.row
    calls: list[Prediction] = []

    def fail(self, **flags):
        calls.append(self)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device", "part.csv")
        return row(self, **flags)

    with monkeypatch.context() as patch:
        patch.setattr(Prediction, "row", fail)
        result = cli("predict", *files, "--shard", "1/2", "--out", "part.csv")
    assert (result.code, sorted(Path().glob("part*"))) == (3, [])
    assert "part.csv: No space left on device; free some space, and type the command again" in " ".join(result.err.split())
    cli("predict", *files, "--out", "whole.csv")
    assert cli("predict", *files, "--shard", "1/2", "--out", "part.csv").code == 0
    assert Path("part.csv").read_bytes() == Path("whole.csv").read_bytes()


def names_of(root: Path) -> dict[str, list[str]]:
    return {folder.name: sorted(path.name for path in folder.iterdir()) for folder in root.iterdir()}


def test_images_are_copied_by_class_and_the_data_stays(cli, trained, read_rows):
    before = {path: path.read_bytes() for path in trained.data.rglob("*") if path.is_file()}
    result = cli("predict", trained.data, "--move-by-class", "sorted", "--out", "rows.csv")
    assert result.code == 0
    assert "60 copies in sorted; the originals are unchanged" in result.err
    expected: dict[str, list[str]] = {}
    for row in read_rows("rows.csv"):
        if not row["error"]:
            expected.setdefault(row["predicted"], []).append(Path(row["path"]).name)
    assert names_of(Path("sorted")) == {name: sorted(files) for name, files in expected.items()}
    assert {path: path.read_bytes() for path in trained.data.rglob("*") if path.is_file()} == before
    again = cli("predict", trained.data / "ants", "--move-by-class", "sorted")
    assert "0 copies in sorted, 20 more were there already" in again.err
    assert len(list(Path("sorted").rglob("*.jpg"))) == 60


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_abstained_images_are_linked_into_a_folder_of_their_own(cli, trained):
    best = trained.run / "best.safetensors"
    rule = Abstention(1.0, risk=0.05, bound=0.04, confidence=0.95, coverage=0.0, answered=0, errors=0, n=100, split="val")
    rewrite_header(best, read_header(best).model_copy(update={"abstention": rule}))
    assert cli("predict", trained.data / "ants", "--move-by-class", "sorted", "--link").code == 0
    (folder,) = Path("sorted").iterdir()
    assert folder.name == "abstained"
    assert all(path.is_symlink() and path.resolve().parent == (trained.data / "ants").resolve() for path in folder.iterdir())


def test_a_full_disk_keeps_the_copies_and_says_so(cli, trained, monkeypatch):
    copy, done = class_folders._copy, []

    def fill(source: Path, target: Path) -> None:
        if len(done) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        done.append(target)
        copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(class_folders, "_copy", fill)
        result = cli("predict", trained.data / "ants", "--move-by-class", "sorted", "--out", "rows.csv")
    assert result.code == 3
    said = " ".join(result.err.split())
    assert "3 copies in sorted stay; the same command adds the others" in said
    assert "No space left on device; free some space, and type the command again" in said
    assert sorted(Path("sorted").rglob("*.jpg")) == sorted(done)
    assert not Path("rows.csv").exists()
    assert "17 copies in sorted, 3 more were there already" in cli("predict", trained.data / "ants", "--move-by-class", "sorted").err


def test_folders_that_cannot_be_filled_are_refused_before_the_work(cli, trained):
    Path("file").write_text("")
    for arguments, message in (
        (("--move-by-class", trained.data / "sorted"), "whose images are predicted; name a folder outside"),
        (("--move-by-class", trained.data.parent), "with images to predict lies inside; name a folder without them"),
        (("--move-by-class", "file/sorted"), "--move-by-class file/sorted: cannot write there"),
        (("--link",), "--link needs a folder for the links: add --move-by-class DIR"),
        (("--shard", "3/2"), "--shard 3/2: must be I/N, part I of N with I from 1 to N"),
    ):
        result = cli("predict", trained.data, *arguments)
        assert (result.code, result.out) == (2, "")
        assert message in " ".join(result.err.split())
    assert not (trained.data / "sorted").exists()


def test_a_black_image_is_named_as_unlike_the_validation_images(cli, trained, tmp_path):
    PIL.Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    result = cli("predict", tmp_path / "black.png", "-m", trained.run)
    assert "this image is unlike the validation images: " in " ".join(result.err.split())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_line_break_in_a_name_begins_no_line_and_the_next_command_names_the_file(cli, trained):
    name = Path("new\nnext: line.jpg")
    shutil.copy(trained.data / "ants/ants-000.jpg", name)
    result = cli("predict", name, "--model", trained.run)
    assert result.out.startswith(r"new\nnext: line.jpg  ")
    assert result.out.count("\n") == 1
    assert result.err.splitlines()[-1].startswith(r"next: cnnkit explain $'new\x0anext: line.jpg' --model ")
