from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_export_is_checked_on_validation_images_and_kept(cli, trained):
    result = cli("export", "--onnx")
    assert result.code == 0, result.err
    assert "top-1 agreement 100.00 %" in result.out
    parity = json.loads((trained.run / "export/parity.json").read_text())
    assert parity["n"] == 9
    assert parity["top1_agreement"] == 1.0
    assert parity["max_abs_probability_difference"] < 1e-4
    assert sorted(path.name for path in (trained.run / "export").iterdir()) == [
        "golden",
        "infer.py",
        "model.json",
        "model.onnx",
        "parity.json",
    ]
    assert result.err.splitlines() == [
        "loading runs/001-custom-cnn/best.safetensors",
        "writing model.onnx",
        "comparing model.onnx with the model",
        "model runs/001-custom-cnn/best.safetensors (the newest finished run)",
    ]


def test_the_file_runs_without_cnnkit(cli, trained):
    import onnxruntime

    cli("export", "--onnx", "--out", "leaf.onnx")
    session = onnxruntime.InferenceSession("leaf.onnx")
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    file = trained.data / "wasps/wasps-001.jpg"
    images = np.asarray(Image.open(file))[None]
    probabilities, labels = map(np.asarray, session.run(["probabilities", "labels"], {"images": images}))
    row = cli("predict", file, "--json").json()[0]
    assert classes[labels[0]] == row["predicted"]
    assert abs(probabilities.max() - row["probability"]) < 1e-5


def test_a_model_file_without_a_run_is_checked_on_sample_photographs(cli, trained, tmp_path):
    (tmp_path / "alone").mkdir()
    alone = Path(shutil.copy(trained.run / "best.safetensors", tmp_path / "alone/m.safetensors"))
    document = cli("export", "--onnx", "--model", alone, "--json").json()
    assert document["images"] == "crops of scikit-learn's sample photographs"
    assert document["top1_agreement"] == 1.0
    assert (tmp_path / "alone/model.onnx").is_file()


def test_usage_errors(cli, trained_export):
    assert "cnnkit export --onnx" in cli("export").err
    result = cli("export", "--onnx", "--model", trained_export)
    assert result.code == 2
    assert "this file is exported already" in result.err


def test_the_help_lists_the_exporters(cli):
    shown = cli("export", "--help").out
    assert "one ONNX file: uint8 images of any size in, probabilities out" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "cnnkit export needs a format: cnnkit export --onnx, or --to NAME. Known: onnx"),
        (("--to", "onx"), "no exporter named 'onx' is installed; did you mean 'onnx'? Known: onnx"),
        (("--onnx", "--to", "lite"), "--onnx --to lite: two formats; leave out one of the two"),
        (("--onnx", "--input", "canvs"), "--input canvs: no such kind; did you mean 'canvas'? Allowed: images, canvas, float"),
        (("--onnx", "--opset", "12"), "--opset 12: the exporter 'onnx' writes opsets 18 to 21; leave out --opset"),
        (("--onnx", "--max-loss", "0.02"), "--max-loss 0.02: it belongs to --int8; add --int8, or leave out --max-loss"),
    ],
)
def test_errors_name_the_allowed_values(cli, trained, flags, message):
    done = cli("export", *flags)
    assert done.code == 2
    assert message in " ".join(done.err.split())
    assert not (trained.run / "export").exists() or not list((trained.run / "export").iterdir())


@pytest.mark.slow
def test_a_file_of_canvases_works_in_every_command(cli, trained):
    done = cli("export", "--onnx", "--input", "canvas", "--output", "logits", "--triton", "models", "--json")
    assert done.code == 0, done.err
    assert done.json()["input"] == "canvas"
    exported = trained.run / "export/model.onnx"
    repository = Path("models/001-custom-cnn")
    assert (repository / "1/model.onnx").read_bytes() == exported.read_bytes()
    for command in (("eval", "--split", "val"), ("predict", trained.data / "bees"), ("benchmark", "--seconds", "0.1")):
        assert cli(*command, "--model", exported, "--json").code == 0
    ours, theirs = (cli("predict", trained.data / "bees", "--model", each, "--json").json() for each in (trained.run, exported))
    assert [row["predicted"] for row in ours] == [row["predicted"] for row in theirs]
    assert all(abs(one["probability"] - other["probability"]) < 1e-5 for one, other in zip(ours, theirs, strict=True) if not one["error"])
