from __future__ import annotations

import numpy as np
import onnx
import pytest

from cnnkit.errors import ModelFileError
from cnnkit.exporters.onnx import OnnxClassifier
from cnnkit.exporters.parity import sample_photos
from cnnkit.exporters.protocol import ExportOptions
from cnnkit.exporters.quantisation import add_rules, cpu_milliseconds, write_int8
from cnnkit.model.canvas import make_canvases
from cnnkit.model.torch_classifier import TorchClassifier


@pytest.fixture(scope="session")
def quantised(model, made_once):
    """Return the path of `model` in 8 bits, with the ranges of 24 photographs and the output logits."""
    canvases = make_canvases(sample_photos(24), model.header.preprocessing).transpose(0, 2, 3, 1)
    options = ExportOptions("canvas", opset=18)
    return made_once("int8", lambda folder: write_int8(model, folder / "m.onnx", np.split(canvases, 3), options)) / "m.onnx"


def test_weights_and_activations_have_8_bits(quantised):
    proto = onnx.load(quantised)
    kinds = [node.op_type for node in proto.graph.node]
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]  # any program of ONNX runs it
    weights = [tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4]
    assert [list(tensor.dims[:2]) for tensor in weights] == [[16, 3], [16, 16]]
    levels = np.abs(onnx.numpy_helper.to_array(weights[0]).astype(int))
    assert levels.max() <= 64  # 7 bits
    assert (levels.reshape(16, -1).max(1) >= 63).all()  # each channel has a scale of its own


def test_the_predictions_stay_close(quantised, model, tmp_path):
    header = model.header.model_copy(update={"temperature": 2.5})
    options = ExportOptions("canvas", opset=18, int8=True)
    add_rules(quantised, tmp_path / "m.onnx", header, options)
    opened = OnnxClassifier(tmp_path / "m.onnx")
    photos = sample_photos(40)
    reference = TorchClassifier(type(model)(model.module, header, model.path)).probabilities(photos)
    found = opened.probabilities(photos)
    assert opened.rules.temperature == 2.5
    assert 0 < np.abs(found - reference).mean() < 0.03
    np.testing.assert_allclose(opened.predict_canvases(make_canvases(photos, header.preprocessing)), found, rtol=0, atol=1e-6)
    known = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert (known["int8"], known["input"], known["output"]) == ("true", "canvas", "probabilities")


def test_the_logits_are_not_rounded_to_levels(quantised):
    scores = OnnxClassifier(quantised).probabilities(sample_photos(40))
    odds = np.log(scores[:, 0] / scores[:, 1])
    assert len(np.unique(odds.round(4))) > 35
    producers = {name: node.op_type for node in onnx.load(quantised).graph.node for name in node.output}
    assert producers["logits"] == "Gemm"


def test_cpu_time_is_measured_for_each_file(quantised, exported_kind):
    canvases = np.zeros((2, 24, 24, 3), np.uint8)
    milliseconds = cpu_milliseconds([quantised, exported_kind(input="canvas")], canvases)
    assert len(milliseconds) == 2
    assert all(0 < value < 1000 for value in milliseconds)


def test_a_file_that_onnx_refuses_is_one_sentence_with_the_way_out(quantised, model, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise onnx.checker.ValidationError("Nodes must be sorted\n==> Context: Loop")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(ModelFileError, match=r"^--int8: onnxruntime .* refuses \(Nodes must be sorted\); type: pip install --upgrade "):
        add_rules(quantised, tmp_path / "m.onnx", model.header, ExportOptions("canvas", opset=18, int8=True))
    assert not list(tmp_path.glob("*.part"))
