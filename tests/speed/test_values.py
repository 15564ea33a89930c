from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cnnkit.speed.values import Benchmark, FileAccuracy, Latency, Memory, ModelSpeed, StageSpeed, TrainingSpeed

MEMORY = Memory(900_000_000, 800_000_000)


def stage(rate: float, wait: float = 0.0) -> StageSpeed:
    return StageSpeed(images=int(2 * rate), seconds=2.0, cpu_seconds=4.0, memory=MEMORY, wait_seconds=2 * wait)


def training(device: str = "cpu") -> TrainingSpeed:
    stages = {"step": stage(1000), "train": stage(800, wait=0.15)}
    return TrainingSpeed("custom-cnn", "images", 5000, 32, 128, device, "fp32", "disk", 15_360_000, interpolates=True, stages=stages)


def test_rates_are_quotients():
    assert stage(500).images_per_second == 500
    assert stage(500).cpu_seconds_per_1000_images == 4


def test_efficiency_is_training_over_its_step():
    assert training().efficiency == pytest.approx(0.8)
    assert training().share("step") == pytest.approx(0.8)


def test_the_wait_of_a_cpu_is_measured_and_that_of_a_gpu_follows_from_the_efficiency():
    assert training().data_wait_share == pytest.approx(0.15)
    assert training("cuda").data_wait_share == pytest.approx(0.2)


def test_json_has_every_figure_with_its_unit():
    model = ModelSpeed("onnx", "model.onnx", "images", stage(700), stage(900), Latency(120, 1.5, 2.5, 3.5, 0.5), 4_000_000)
    document = Benchmark({"cores": 2}, 2.0, training(), (model,), 0.25, ("a note",)).to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["training"]["data_wait_share"] == pytest.approx(0.15)
    assert document["training"]["stages"]["train"] == {
        "images_per_second": 800,
        "cpu_seconds_per_1000_images": 2.5,
        "images": 1600,
        "seconds": 2.0,
        "cpu_seconds": 4.0,
        "wait_seconds": 0.3,
        "peak_rss_bytes": 900_000_000,
        "pss_bytes": 800_000_000,
        "gpu_peak_bytes": None,
    }
    assert document["models"][0]["stages"]["classify"]["images_per_second"] == 900
    assert document["models"][0]["latency"] == {"images": 120, "p50_ms": 1.5, "p95_ms": 2.5, "p99_ms": 3.5, "decode_p50_ms": 0.5}
    assert (document["models"][0]["size_bytes"], document["models"][0]["accuracy"]) == (4_000_000, None)
    measured = replace(model, accuracy=FileAccuracy(0.9, 0.8, 0.95, 100, "val"))
    assert measured.to_dict()["accuracy"] == {"value": 0.9, "low": 0.8, "high": 0.95, "images": 100, "split": "val"}
    assert Benchmark({}, 2.0, None, (model,)).to_dict()["training"] is None


@pytest.mark.parametrize(
    ("kind", "file", "name"),
    [
        ("torch", "runs/001/best.safetensors", "torch"),
        ("onnx", "runs/001/export/model.onnx", "onnx"),
        ("onnx", "runs/001/export/model-int8.onnx", "onnx int8"),
        ("onnx", "leaf.onnx", "onnx leaf"),
        ("onnx", "", "onnx"),
    ],
)
def test_exported_files_of_one_format_have_their_own_names(kind, file, name):
    assert ModelSpeed(kind, file, "images", stage(1), stage(1), Latency(120, 1, 2, 3, 0.5)).name == name
