from __future__ import annotations

from cnnkit.exporters.onnx import onnx_exporter
from cnnkit.exporters.onnx_graph import write_onnx
from cnnkit.registry import EXPORTERS, load


def test_the_exporter_is_registered() -> None:
    found, entry = load(EXPORTERS, "onnx")
    assert found is onnx_exporter
    assert (found.name, found.suffix, entry.package) == ("onnx", ".onnx", "cnnkit")


def test_the_exporter_writes_the_graph(model, tmp_path) -> None:
    onnx_exporter.write_file(model, tmp_path / "a.onnx", onnx_exporter.options())
    write_onnx(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
