from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from cnnkit.api.inference.info import inspect
from cnnkit.api.inference.target import Target, find_target
from cnnkit.errors import ModelFileError
from cnnkit.model.file import load_model


def test_the_document_of_a_run_describes_its_model_and_the_run(trained):
    found = inspect(find_target(trained.run))
    model = load_model(trained.run / "best.safetensors")
    assert list(found)[:8] == ["file", "format", "bytes", "parameters", "statistics", "tensors", "dtypes", "cnnkit"]
    assert (found["file"], found["format"], found["cnnkit"]) == (str(trained.run / "best.safetensors"), "safetensors", True)
    assert found["parameters"] == sum(parameter.numel() for parameter in model.module.parameters())
    assert found["statistics"] == sum(buffer.numel() for buffer in model.module.buffers())
    header = json.loads(model.header.model_dump_json(exclude={"format"}))
    assert {key: found[key] for key in header} == header
    assert (found["run"]["run"], found["run"]["status"]) == (str(trained.run), "finished")


def test_weights_without_a_header_have_only_sizes():
    save_file({"a.weight": torch.zeros(3, 4), "a.running_mean": torch.zeros(5)}, "bare.safetensors")
    found = inspect(Target(Path("bare.safetensors"), None))
    assert found == {
        "file": "bare.safetensors",
        "format": "safetensors",
        "bytes": Path("bare.safetensors").stat().st_size,
        "parameters": 12,
        "statistics": 5,
        "tensors": 2,
        "dtypes": ["F32"],
        "cnnkit": False,
    }


def test_an_onnx_file_has_inputs_outputs_and_metadata():
    value, answer = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (("x", ["N", 3]), ("y", ["N", 3]))
    )
    scale = onnx.helper.make_tensor("scale", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    node = onnx.helper.make_node("Mul", ["x", "scale"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [answer], [scale]), producer_name="me")
    onnx.save(model, "foreign.onnx")
    found = inspect(Target(Path("foreign.onnx"), None))
    assert (found["format"], found["cnnkit"], found["nodes"], found["constants"], found["producer"]) == ("onnx", False, 1, 3, "me")
    assert found["inputs"] == [{"name": "x", "dtype": "float", "shape": ("N", 3)}]
    assert found["outputs"] == [{"name": "y", "dtype": "float", "shape": ("N", 3)}]
    assert "parameters" not in found
    onnx.helper.set_model_props(model, {"classes": '["ants", "bees"]', "temperature": "1.5", "arch": "custom-cnn"})
    onnx.save(model, "own.onnx")
    own = inspect(Target(Path("own.onnx"), None))
    assert (own["cnnkit"], own["classes"], own["temperature"], own["arch"]) == (True, ["ants", "bees"], 1.5, "custom-cnn")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.pt", "x.pt: .pt: cnnkit info reads a run directory, a .safetensors file or an .onnx file"),
        ("x", "x: no suffix: cnnkit info reads"),
        ("x.onnx", "x.onnx: not an ONNX file"),
        ("x.safetensors", "x.safetensors: not a safetensors file"),
    ],
)
def test_an_unreadable_file_is_refused_by_name(name, said):
    Path(name).write_bytes(b"")
    with pytest.raises(ModelFileError, match=said):
        inspect(Target(Path(name), None))
