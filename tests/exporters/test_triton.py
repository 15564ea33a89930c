from __future__ import annotations

from typing import Any

import pytest

from cnnkit.exporters.protocol import ExportOptions
from cnnkit.exporters.triton import configuration, write_repository

CASES = [("images", [-1, -1, 3], "TYPE_UINT8"), ("canvas", [24, 24, 3], "TYPE_UINT8"), ("float", [3, 24, 24], "TYPE_FP32")]


def test_a_repository_has_the_layout_of_triton(model, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    folder = write_repository(tmp_path / "models", "001 leaf/net", tmp_path / "m.onnx", model.header, ExportOptions())
    assert folder == tmp_path / "models/001-leaf-net"
    assert (folder / "1/model.onnx").read_bytes() == b"graph"
    assert (folder / "labels.txt").read_text("utf-8") == "ant\nbee\nKäfer\n"
    assert 'name: "001-leaf-net"' in (folder / "config.pbtxt").read_text()


def test_a_class_name_is_one_line_of_the_labels(make_model, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    header = make_model(classes=("two\nlines", "tab\tbed")).header
    folder = write_repository(tmp_path, "m", tmp_path / "m.onnx", header, ExportOptions())
    assert (folder / "labels.txt").read_text() == "two lines\ntab bed\n"


@pytest.mark.parametrize(("kind", "dims", "dtype"), CASES)
def test_the_configuration_is_a_message_of_triton(model, kind, dims, dtype):
    pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2  # pyright: ignore[reportMissingImports]

    parsed: Any = text_format.Parse(configuration("leaf", model.header, ExportOptions(kind, "logits")), model_config_pb2.ModelConfig())
    (given,) = parsed.input
    assert (given.name, list(given.dims), model_config_pb2.DataType.Name(given.data_type)) == (kind, dims, dtype)
    logits, labels = parsed.output
    assert (logits.name, list(logits.dims), logits.label_filename) == ("logits", [3], "labels.txt")
    assert (labels.name, list(labels.dims), list(labels.reshape.shape), labels.HasField("reshape")) == ("labels", [1], [], True)
    assert (parsed.name, parsed.backend, parsed.max_batch_size) == ("leaf", "onnxruntime", 64)
    assert parsed.HasField("dynamic_batching")


def test_braces_of_the_configuration_match(model):
    text = configuration("leaf", model.header, ExportOptions())
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    assert "dims: [ 1 ] reshape { shape: [ ] }" in text
