from __future__ import annotations

import re

import pytest
import torch

import cnnkit
from cnnkit.api.inference.device import device_notes, open_on_device
from cnnkit.api.inference.target import Target, find_target
from cnnkit.engine import runtime
from cnnkit.errors import ConfigError
from cnnkit.exporters.onnx import OnnxClassifier
from cnnkit.model.torch_classifier import TorchClassifier


@pytest.fixture
def meta(monkeypatch) -> torch.device:
    """Make `meta` the device that auto finds: it knows shapes and computes nothing."""
    monkeypatch.setattr(runtime, "usable_devices", lambda: {"meta": True, "cpu": True})
    return torch.device("meta")


def test_auto_takes_the_device_that_is_there(trained, meta):
    target = find_target(trained.run)
    found = open_on_device(target, "auto")
    assert isinstance(found, TorchClassifier)
    assert found.device == meta
    assert {weight.device for weight in found.model.module.parameters()} == {meta}
    on_cpu = open_on_device(target, "cpu")
    assert isinstance(on_cpu, TorchClassifier)
    assert on_cpu.device.type == "cpu"
    assert "on meta" in repr(cnnkit.load_model(trained.run))


def test_a_loaded_model_moves_only_to_a_named_device(trained, meta):
    model = cnnkit.load_model(trained.run, device="cpu")
    assert cnnkit.load_model(model) is model
    assert "on cpu" in repr(cnnkit.load_model(model))
    assert "on meta" in repr(cnnkit.load_model(model, device="meta"))


def test_an_unusable_device_is_refused_with_the_usable_ones(trained, monkeypatch):
    monkeypatch.setattr(runtime, "usable_devices", lambda: {"cuda": False, "mps": False, "cpu": True})
    with pytest.raises(ConfigError, match=r"--device cuda: torch \S+ finds no such device here; usable: cpu$"):
        open_on_device(find_target(trained.run), "cuda")
    with pytest.raises(ConfigError, match=r"^--device tpu: unknown; expected auto, cuda, mps, cpu$"):
        cnnkit.evaluate(trained.run, device="tpu")


def test_an_exported_file_runs_on_the_cpu_unless_onnxruntime_has_a_gpu(trained, trained_export, meta):
    target = find_target(trained_export)
    for device in ("auto", "cpu"):
        found = open_on_device(target, device)
        assert isinstance(found, OnnxClassifier)
        assert (found.provider, device_notes(found)) == ("CPUExecutionProvider", ())
    with pytest.raises(ConfigError) as refused:
        open_on_device(target, "cuda")
    assert re.fullmatch(
        r"--device cuda: onnxruntime \S+ here has no CUDAExecutionProvider; type: pip install --force-reinstall --no-deps onnxruntime-gpu; "
        rf"or leave out --device; to run the original model: --model {trained.run}",
        str(refused.value),
    )
    with pytest.raises(
        ConfigError, match=rf"--device mps: {trained_export} is an exported file, which runs on cpu or cuda; .*{trained.run}$"
    ):
        open_on_device(target, "mps")


def test_predict_and_eval_say_which_part_of_onnxruntime_they_took(cli, trained, trained_export, monkeypatch):
    def faked(target: Target, device: str) -> object:
        found = open_on_device(target, "cpu")
        found.note = f"{target.path} runs on the GPU, asked for {device}"  # pyright: ignore[reportAttributeAccessIssue]
        return found

    monkeypatch.setattr("cnnkit.api.inference.predict.open_on_device", faked)
    monkeypatch.setattr("cnnkit.api.inference.trained_model.open_on_device", faked)
    for command in (("predict", trained.data / "ants"), ("eval",)):
        done = cli(*command, "--model", trained_export)
        assert done.code == 0, done.err
        assert "runs on the GPU, asked for auto" in " ".join(done.err.split())
        assert "GPU" not in done.out
