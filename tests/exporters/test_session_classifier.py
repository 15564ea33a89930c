from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.exporters import onnx as exporter
from cnnkit.exporters import session_classifier
from cnnkit.exporters.onnx import OnnxClassifier
from cnnkit.exporters.onnx_graph import write_onnx
from cnnkit.exporters.parity import sample_photos
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocessing import Preprocessing


def refusal(path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(ModelFileError) as caught:
        OnnxClassifier(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    return str(caught.value)


def foreign(path: Path, *, name: str = "images", kind: int = TensorProto.UINT8, output: str = "probabilities", **metadata: str) -> Path:
    """Write a valid ONNX file that flattens its input."""
    shape = ["N", "H", "W", 3]
    nodes = [
        helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Identity", ["mean"], [output]),
        helper.make_node("ArgMax", ["mean"], ["labels"], axis=1, keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info(name, kind, shape)]
    outputs = [
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_images_of_differing_sizes_keep_their_order(exported, monkeypatch):
    classifier = OnnxClassifier(exported)
    photos = sample_photos(8)
    mixed = [photos[0], photos[1], photos[0][:, ::-1], photos[2], photos[1], photos[0]]
    alone = np.concatenate([classifier.probabilities([image]) for image in mixed])
    np.testing.assert_allclose(classifier.probabilities(mixed), alone, rtol=0, atol=1e-6)
    monkeypatch.setattr(session_classifier, "MAX_BATCH_PIXELS", 1)
    np.testing.assert_array_equal(classifier.probabilities(mixed), alone)


CANVASES = [
    {}, {"crop": 0.75}, {"channels": 1}, {"channels": 1, "crop": 0.75}, {"resize_mode": "pad"},
    {"resize_mode": "squash", "interpolation": "bicubic"},
]  # fmt: skip


@pytest.mark.parametrize("settings", CANVASES, ids=str)
def test_a_canvas_has_the_probabilities_of_its_image(make_model, tmp_path, settings, monkeypatch):
    write_onnx(make_model(**settings), tmp_path / "m.onnx")
    classifier, photos = OnnxClassifier(tmp_path / "m.onnx"), sample_photos(5)
    spec = classifier.canvas_spec
    assert spec is not None
    assert spec == classifier.preprocessing
    canvases = make_canvases(photos, spec)
    expected = np.concatenate([classifier.probabilities([photo]) for photo in photos])
    monkeypatch.setattr(session_classifier, "MAX_CANVAS_PIXELS", 1)
    np.testing.assert_array_equal(classifier.predict_canvases(canvases), expected)
    monkeypatch.setattr(session_classifier, "MAX_CANVAS_PIXELS", 3 * 32**2)
    np.testing.assert_allclose(classifier.predict_canvases(canvases), expected, rtol=0, atol=1e-6)


def test_a_graph_that_would_resize_a_canvas_takes_none(make_model, tmp_path):
    write_onnx(make_model(crop=0.95), tmp_path / "m.onnx")
    assert OnnxClassifier(tmp_path / "m.onnx").canvas_spec is None
    assert OnnxClassifier(foreign(tmp_path / "foreign.onnx", classes=json.dumps(["r", "g", "b"]))).canvas_spec is None


@pytest.mark.parametrize(
    ("settings", "edge"),
    [
        ({"image_size": 224}, 224),
        ({"image_size": 224, "crop": 0.875}, 256),
        ({"image_size": 224, "crop": 0.95}, None),
        ({"image_size": 9, "crop": 0.9}, None),  # 10 pixels have no middle 9
        ({"image_size": 224, "resize_mode": "pad"}, 224),
    ],
)
def test_the_graph_cuts_a_canvas_from_a_square_only_without_resizing(settings, edge):
    spec = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, **settings)
    assert session_classifier._identity_edge(spec) == edge


@pytest.mark.parametrize(("settings", "edge"), [({}, 24), ({"crop": 0.75}, 32)])
def test_a_batch_of_canvases_has_limited_pixels(make_model, tmp_path, settings, edge, monkeypatch):
    write_onnx(make_model(**settings), tmp_path / "m.onnx")
    classifier = OnnxClassifier(tmp_path / "m.onnx")
    assert classifier.batch_of(24) == session_classifier.MAX_CANVAS_PIXELS // edge**2
    monkeypatch.setattr(session_classifier, "MAX_BATCH_SIZE", 5)
    assert classifier.batch_of(24) == 5
    monkeypatch.setattr(session_classifier, "MAX_CANVAS_PIXELS", 1)
    assert classifier.batch_of(24) == 1


def test_logits_that_are_no_numbers_are_refused(exported_kind, monkeypatch):
    classifier, image = OnnxClassifier(exported_kind(output="logits")), np.zeros((2, 2, 3), np.uint8)
    for wrong in (np.full((1, 3), np.nan, np.float32), np.zeros((1, 2), np.float32), np.zeros(3, np.float32)):
        monkeypatch.setattr(classifier._session, "run", lambda _, given=wrong: given)
        with pytest.raises(ModelFileError, match=r"its graph gives no logits of 3 classes; write another with: cnnkit export --onnx$"):
            classifier.probabilities([image])


def test_no_images_give_no_rows(exported):
    classifier = OnnxClassifier(exported)
    assert classifier.classes == ("ant", "bee", "Käfer")
    assert classifier.probabilities([]).shape == (0, 3)


def test_batches_hold_images_of_one_size_and_limited_pixels():
    images = [np.zeros((size, size, 3), np.uint8) for size in (8, 9, 8, 3000, 3000)] + [np.zeros((8, 8, 3), np.uint8)] * 70
    batches = session_classifier._batches_of_one_size(images)
    assert sorted(row for batch in batches for row in batch) == list(range(75))
    assert [len(batch) for batch in batches] == [64, 8, 1, 1, 1]


def test_the_error_for_a_missing_file_names_the_command_that_writes_it(tmp_path, capfd):
    assert "no such file; write one with: cnnkit export --onnx" in refusal(tmp_path / "model.onnx", capfd)


def test_a_text_file_named_onnx_is_refused(tmp_path, capfd):
    path = tmp_path / "model.onnx"
    path.write_text("not a graph")
    assert "not an ONNX file that onnxruntime" in refusal(path, capfd)


def test_half_a_file_is_refused(exported, tmp_path, capfd):
    path = tmp_path / "half.onnx"
    path.write_bytes(exported.read_bytes()[:2000])
    assert "not an ONNX file that onnxruntime" in refusal(path, capfd)


def test_a_file_of_another_program_is_accepted_if_it_fits(tmp_path):
    classifier = OnnxClassifier(foreign(tmp_path / "m.onnx", classes=json.dumps(["r", "g", "b"])))
    np.testing.assert_array_equal(classifier.probabilities([np.full((2, 5, 3), 7, np.uint8)]), [[7, 7, 7]])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"name": "input", "kind": TensorProto.FLOAT},
            "its input is 'input' tensor(float) ['N', 'H', 'W', 3], expected 'images' tensor(uint8)",
        ),
        (
            {"name": "canvas", "kind": TensorProto.FLOAT, "input": "canvas"},
            "its input is 'canvas' tensor(float) ['N', 'H', 'W', 3], expected 'canvas' tensor(uint8) ['N', 'S', 'S', 'C']",
        ),
        ({"name": "rows", "input": "rows"}, "its metadata name the input 'rows', expected one of images, canvas, float"),
        (
            {"name": "canvas", "input": "canvas", "classes": '["r", "g", "b"]'},
            "its metadata name the input 'canvas' without",
        ),
        ({"output": "logits"}, "its outputs are 'logits', 'labels', expected 'probabilities' and 'labels'"),
        ({}, "its metadata names no 'classes'"),
        ({"classes": '["a", "b"]'}, "its metadata names 2 classes, its output has 3"),
        ({"classes": "a, b, c"}, "its metadata names 0 classes, its output has 3"),
    ],
)
def test_the_error_for_a_foreign_file_names_the_problem(tmp_path, capfd, settings, problem):
    message = refusal(foreign(tmp_path / "m.onnx", **settings), capfd)
    assert f"an ONNX file that cnnkit export did not write: {problem}" in message
    assert message.endswith("; write one with: cnnkit export --onnx")


class OnGpu:
    """The session of a file, which says that the provider `name` computes."""

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._session, self._name = session, name

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [self._name, "CPUExecutionProvider"]


def with_gpu(monkeypatch: pytest.MonkeyPatch, took: str = "CUDAExecutionProvider") -> None:
    """Let onnxruntime offer its provider for CUDA, and sessions say that `took` computes."""
    make = exporter._make_session
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(exporter, "_make_session", lambda path, *, on_gpu: OnGpu(make(path), took if on_gpu else "CPUExecutionProvider"))


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_of_onnxruntime_is_taken_and_named(exported, monkeypatch, device):
    expected = OnnxClassifier(exported).probabilities(sample_photos(4))
    with_gpu(monkeypatch)
    classifier = OnnxClassifier(exported, device)
    assert classifier.provider == "CUDAExecutionProvider"
    assert classifier.note == f"{exported} runs on the GPU, by the CUDAExecutionProvider of onnxruntime"
    np.testing.assert_array_equal(classifier.probabilities(sample_photos(4)), expected)
    on_cpu = OnnxClassifier(exported, "cpu")
    assert (on_cpu.provider, on_cpu.note) == ("CPUExecutionProvider", "")


def test_a_gpu_that_does_not_start_leaves_the_cpu_on_auto_and_is_an_error_on_cuda(exported, monkeypatch):
    with_gpu(monkeypatch, took="CPUExecutionProvider")
    classifier = OnnxClassifier(exported, "auto")
    reason = "the CUDAExecutionProvider of onnxruntime cannot start: it needs a GPU, and CUDA and cuDNN of its version"
    assert classifier.note == f"{exported} runs on the CPU, because {reason}"
    with pytest.raises(ConfigError) as refused:
        OnnxClassifier(exported, "cuda")
    assert str(refused.value) == f"--device cuda: {reason}; leave out --device to run {exported} on the CPU"


def test_a_gpu_computes_in_true_fp32(exported, monkeypatch):
    made: list[object] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, providers: made.append(providers))
    for on_gpu in (False, True):
        exporter._make_session(exported, on_gpu=on_gpu)
    assert made == [["CPUExecutionProvider"], [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]]


def test_a_gpu_gets_many_canvases_at_a_time(exported, monkeypatch):
    canvases = np.zeros((70, 3, 16, 16), np.uint8)
    monkeypatch.setattr(session_classifier, "MAX_CANVAS_PIXELS", 2 * 16 * 16)
    sizes: dict[str, list[int]] = {}
    with_gpu(monkeypatch)
    for device in ("cpu", "cuda"):
        classifier = OnnxClassifier(exported, device)
        run = classifier._run
        monkeypatch.setattr(
            classifier, "_run", lambda batch, run=run, device=device: sizes.setdefault(device, []).append(len(batch)) or run(batch)
        )
        spec = classifier.canvas_spec
        assert spec is not None
        classifier.predict_canvases(np.resize(canvases, (70, 3, spec.image_size, spec.image_size)))
    assert max(sizes["cpu"]) <= 2
    assert sizes["cuda"] == [64, 6]
