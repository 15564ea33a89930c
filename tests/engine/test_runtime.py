from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnkit.engine.runtime import Runtime, choose_device, start_gpu
from cnnkit.errors import ConfigError

CPU = torch.device("cpu")


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=rf"^--device {name}: torch .* finds no such device here; usable: cpu$"):
            choose_device(name)


def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu").type == "cpu"


def test_a_thread_starts_a_gpu_and_leaves_its_errors_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def zeros(count: int, *, device: torch.device) -> None:
        asked.append((device.type, threading.current_thread() is threading.main_thread()))
        raise RuntimeError("no CUDA-capable device is detected")

    monkeypatch.setattr(torch, "zeros", zeros)
    assert start_gpu(CPU) is None
    thread = start_gpu(torch.device("cuda"))
    assert thread is not None
    thread.join(10)
    assert asked == [("cuda", False)]


def test_no_test_finds_a_gpu_even_where_there_is_one() -> None:
    assert torch.cuda._parse_visible_devices() == []  # so torch counts none, whatever the driver knows
    assert not torch.cuda.is_available()


def test_preparing_moves_the_model_into_the_memory_format() -> None:
    model = nn.Conv2d(3, 4, 3)
    assert Runtime(CPU).prepare(model) is model
    assert not model.weight.is_contiguous(memory_format=torch.channels_last)
    Runtime(CPU, channels_last=True).prepare(model)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_autocast_computes_in_the_precision() -> None:
    layer, images = nn.Linear(3, 2), torch.ones(1, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Runtime(CPU, precision).autocast():
            assert layer(images).dtype == dtype


def test_a_runtime_describes_itself() -> None:
    assert Runtime(CPU).describe() == "cpu, fp32"
    assert Runtime(CPU, "bf16", channels_last=True, reason="asked for").describe() == "cpu, bf16, channels last (asked for)"
    assert Runtime(CPU, replicas=2).describe() == "cpu, fp32, 2 replicas"
    assert Runtime(CPU, compiled=True).describe() == "cpu, fp32, compiled"


def test_the_runtime_is_restored_from_its_facts() -> None:
    runtime = Runtime(CPU, "bf16", channels_last=True, reason="in the probe", replicas=2, threads=3, compiled=True)
    back = Runtime.from_facts(json.loads(json.dumps(runtime.facts())), "as before")
    assert back == replace(runtime, reason="as before")
    old = {"device": "cpu", "precision": "fp32", "channels_last": True}  # of a run of a version without replicas
    assert Runtime.from_facts(old, "as before") == Runtime(CPU, channels_last=True, reason="as before")


def test_a_runtime_that_compiles_has_one_replica() -> None:
    found = Runtime(CPU, "bf16", channels_last=True, reason="probed", replicas=2, threads=3).with_compilation().with_reason("compiled")
    assert found == Runtime(CPU, "bf16", channels_last=True, reason="probed; compiled", compiled=True)
    assert Runtime(CPU).with_reason("compiled").reason == "compiled"
