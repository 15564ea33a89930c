from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cnnkit.api.inference.predict import Prediction
from cnnkit.cli import row_file
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
    assert calls == [0, *range(2, 21)]  # the header and the rows before


def test_a_black_image_is_named_as_unlike_the_validation_images(cli, trained, tmp_path):
    PIL.Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    result = cli("predict", tmp_path / "black.png", "-m", trained.run)
    assert "this image is unlike the validation images: " in " ".join(result.err.split())
