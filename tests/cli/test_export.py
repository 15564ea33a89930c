from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def test_export_is_checked_on_validation_images_and_kept(cli, trained):
    result = cli("export", "--onnx")
    assert result.code == 0, result.err
    assert "top-1 agreement 100.00 %" in result.out
    parity = json.loads((trained.run / "export/parity.json").read_text())
    assert parity["n"] == 9
    assert parity["top1_agreement"] == 1.0
    assert parity["max_abs_probability_difference"] < 1e-4
    assert sorted(path.name for path in (trained.run / "export").iterdir()) == ["model.onnx", "parity.json"]


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
