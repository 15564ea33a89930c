from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image


def test_each_image_has_a_picture_and_a_row_and_all_share_a_sheet(cli, trained):
    files = [trained.data / "ants/ants-000.jpg", trained.data / "bees/broken.jpg", Path("missing.jpg"), trained.data / "bees/bees-001.jpg"]
    result = cli("explain", *files)
    assert result.code == 0
    folder = trained.run / "explain"
    document = json.loads((folder / "explain.json").read_text())
    assert document["method"] == "gradcam"
    assert document["layer"]
    assert document["occlusion"] == {"patch": 8, "step": 4, "correlation": "Spearman"}
    rows = document["images"]
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    names = [row[key] for row in rows for key in ("picture", "features") if row[key]]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "explain.json", "sheet.png"])
    for name in (*names, "sheet.png"):
        with Image.open(folder / name) as image:
            assert image.format == "PNG"
    lines = result.out.splitlines()
    assert len(lines) == 4
    assert f"{100 * rows[0]['probability']:.1f} %" in lines[0]
    assert f"agreement {rows[0]['agreement']:.2f}" in lines[0]
    assert lines[0].endswith(rows[0]["picture"])
    assert "error: " in lines[1]
    assert f"4 images explained by layer {document['layer']}, {document['places']} x {document['places']} positions" in result.err
    wrong = sum(row["predicted"] != row["true"] for row in rows if not row["error"])
    assert f", 2 with an error, {wrong} wrong of 2 with a known class" in result.err
    assert [row["true"] for row in rows] == ["ants", None, None, "bees"]
    assert "the newest finished run" in result.err


def test_files_of_one_name_have_separate_pictures(cli, trained, tmp_path):
    for folder in ("one", "two", "one/deep", "two/deep"):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(trained.data / "ants/ants-000.jpg", tmp_path / folder / "x.jpg")
    files = ["one/x.jpg", "two/x.jpg", "one/deep/x.jpg", "two/deep/x.jpg"]
    document = cli("explain", *files, "--no-check", "--no-features", "--json", "--out", "shown").json()
    assert len({row["picture"] for row in document["images"]}) == 4
    assert {row["features"] for row in document["images"]} == {None}
    assert {row["agreement"] for row in document["images"]} == {None}
    assert document == json.loads(Path("shown/explain.json").read_text())
    again = cli("explain", "one/deep/../x.jpg", *files[1:], "--no-check", "--no-features", "--json", "--out", "shown").json()
    assert [row["picture"] for row in again["images"]][1:] == [row["picture"] for row in document["images"]][1:]


def test_a_model_file_without_a_run_writes_to_the_working_directory(cli, trained):
    shutil.copy(trained.run / "best.safetensors", "lone.safetensors")
    document = cli("explain", trained.data / "ants/ants-000.jpg", "--model", "lone.safetensors", "--class", "bees", "--json").json()
    (row,) = document["images"]
    assert (document["class"], row["class"]) == ("bees", "bees")
    assert row["class_probability"] <= row["probability"]
    assert sorted(path.name for path in Path("explain").iterdir()) == sorted([row["picture"], row["features"], "explain.json"])


def test_usage_errors(cli, trained, monkeypatch):
    image = trained.data / "ants/ants-000.jpg"
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    for arguments, said in (
        (["--class", "wasp"], "did you mean 'wasps'"),
        (["--layer", "99"], "--layer 99: Sequential has no such layer"),
        (["--method", "integrated-gradients"], "pip install 'cnnkit[explain]'"),
        (["--method", "occlusion", "--layer", "1"], "uses no layer"),
        (["--model", "missing"], "no such file or run directory"),
    ):
        result = cli("explain", image, *arguments)
        assert result.code == 2
        assert said in result.err
    assert not (trained.run / "explain").exists()


def test_integrated_gradients_have_no_layer(cli, trained):
    pytest.importorskip("captum.attr")
    document = cli("explain", trained.data / "ants/ants-000.jpg", "--method", "integrated-gradients", "--json").json()
    assert document["layer"] is None
    assert document["images"][0]["evidence"]
    assert document["images"][0]["agreement"] is not None
