from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from cnnkit.model.file import load_model


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_run_has_its_model_and_its_training(cli, trained):
    result = cli("info")
    assert result.code == 0, result.err
    shown = words(result.out)
    model = load_model(trained.run / "best.safetensors")
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    assert f"parameters {parameters:,} (F32)" in shown
    assert "custom-cnn with width=8, blocks=2, dense=32, dropout=0.1" in shown
    assert "classes 3: ants, bees, wasps" in shown
    assert "preprocessing 32 px; channels 3, resize_mode crop" in shown
    assert "(train 42, val 9, test 9)" in shown
    assert "recipe default, seed 0" in shown
    assert "runs/001-custom-cnn: finished" in shown
    assert "the newest finished run" in result.err


def test_json_has_the_header_and_the_sizes(cli, trained):
    document = cli("info", trained.run, "--json").json()
    header = load_model(trained.run / "best.safetensors").header
    assert document["classes"] == list(header.classes)
    assert document["options"] == header.options
    assert document["training"] == header.training
    assert document["preprocessing"]["image_size"] == 32
    assert document["bytes"] == (trained.run / "best.safetensors").stat().st_size
    assert document["run"]["status"] == "finished"


def test_unknown_keys_of_the_header_are_shown(cli, trained, monkeypatch):
    from cnnkit.model import facts as model_facts

    whole = model_facts.parse_json
    monkeypatch.setattr(model_facts, "parse_json", lambda text, **given: _with_more(whole(text, **given)))
    shown = words(cli("info", trained.run).out)
    assert "newer rule threshold 0.8123, risk 0.02" in shown
    assert "edges (3 entries, see --json) long (9 entries, see --json) short [1, 2]" in shown


def _with_more(value):
    edges = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    return (
        value | {"newer rule": {"threshold": 0.81234, "risk": 0.02}, "edges": edges, "long": list(range(9)), "short": [1, 2]}
        if "classes" in value
        else value
    )


def test_weights_without_a_header_are_shown_with_their_sizes(cli):
    save_file({"a.weight": torch.zeros(3, 4)}, "bare.safetensors")
    shown = words(cli("info", "bare.safetensors").out)
    assert "parameters 12 (F32); 1 tensors" in shown
    assert "made by not cnnkit" in shown


def test_an_onnx_file_of_another_program(cli):
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", 8, 8, 3])
    answer = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 8, 8, 3])
    scale = onnx.helper.make_tensor("scale", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    nodes = [onnx.helper.make_node("Cast", ["images"], ["x"], to=1), onnx.helper.make_node("Mul", ["x", "scale"], ["y"])]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [value], [answer], [scale]), producer_name="me")
    onnx.save(model, "foreign.onnx")
    shown = words(cli("info", "foreign.onnx").out)
    assert "2 nodes; me" in shown
    assert "constants 3 numbers" in shown
    assert "inputs images uint8 (N, 8, 8, 3)" in shown
    assert "made by not cnnkit" in shown
    onnx.helper.set_model_props(
        model, {"classes": '["ants", "bees"]', "temperature": "1.5", "arch": "custom-cnn", "cnnkit_version": "0.1.0"}
    )
    onnx.save(model, "own.onnx")
    document = cli("info", "own.onnx", "--json").json()
    assert (document["classes"], document["temperature"], document["inputs"][0]["shape"]) == (["ants", "bees"], 1.5, ["N", 8, 8, 3])
    assert "opset" in document
    shown = words(cli("info", "own.onnx").out)
    assert "temperature 1.5" in shown
    assert "not calibrated" not in shown


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.onnx", b"", "x.onnx: not an ONNX file"),
        ("x.onnx", b"\x99garbage", "x.onnx: not an ONNX file"),
        ("x.pt", b"", "cnnkit info reads a run directory, a .safetensors file or an .onnx file"),
        ("x.safetensors", b"{}", "x.safetensors: not a complete safetensors file"),
    ],
)
def test_an_unreadable_file_is_an_error_that_names_it(cli, name, content, said):
    Path(name).write_bytes(content)
    result = cli("info", name)
    assert result.code == 2
    assert said in words(result.err)
    assert "--model nowhere: no such file or run directory" in words(cli("info", "nowhere").err)
