from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import cnnkit
import cnnkit.api
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig, by_section
from cnnkit.model.file import load_model

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
MAX_PROBABILITY_ERROR = 1e-4  # between a GPU and the CPU, both in true fp32


@pytest.fixture
def config(image_folder) -> Any:
    """Return a function that configures a small training on the GPU: ``config(seed=3)``."""
    data = image_folder(images=20)
    small = {"data": str(data), "device": DEVICE, "set": ("width=8", "blocks=2", "dense=32"), "batch_size": 16, "epochs": 3, "patience": 0}

    def make(**flags: Any) -> TrainConfig:
        return resolve(by_section({**small, **flags}))

    return make


def trained_weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    job = prepare(config)
    for _ in job.epochs():
        pass
    assert job.run is not None
    return load_model(job.run.best).module.state_dict()


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_deterministic_trainings_have_equal_bits(config, optimizer: str) -> None:
    flags = {"randaugment": (2, 9), "mixup": 0.2, "cutmix": 1.0, "erase": 0.25, "color": 0.4}
    one, other = (trained_weights(config(deterministic=True, optimizer=optimizer, **flags)) for _ in range(2))
    assert_equal(one, other)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(config, precision: str) -> None:
    job = prepare(config(deterministic=True, precision=precision))
    epochs = job.epochs()
    next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    resumed = cnnkit.api.resume()
    assert bool(resumed.state.scaler) is (precision == "fp16")
    for _ in resumed.epochs():
        pass
    assert resumed.run is not None
    assert_equal(trained_weights(config(deterministic=True, precision=precision)), load_model(resumed.run.best).module.state_dict())


def test_predictions_equal_those_of_the_cpu(trained) -> None:
    files = sorted(str(path) for path in trained.data.glob("*/*.jpg") if path.name != "broken.jpg")
    on_gpu, on_cpu = (cnnkit.load_model(trained.run, device=device).predict(files) for device in (DEVICE, "cpu"))
    gpu, cpu = (np.array([prediction.probabilities for prediction in found]) for found in (on_gpu, on_cpu))
    assert np.abs(gpu - cpu).max() < MAX_PROBABILITY_ERROR
    second, first = np.sort(cpu, axis=1)[:, -2:].T
    clear = first - second > 10 * MAX_PROBABILITY_ERROR
    assert np.array_equal(gpu.argmax(1)[clear], cpu.argmax(1)[clear])


def test_the_benchmark_states_the_peak_memory_of_the_gpu(cli, image_folder) -> None:
    done = cli("benchmark", "--data", image_folder(images=20), "--device", DEVICE, "--set", "width=8", "--seconds", "0.2", "--json")
    assert done.code == 0, done.err
    assert min(stage["gpu_peak_bytes"] for stage in done.json()["training"]["stages"].values()) > 0


def test_auto_takes_the_gpu(config) -> None:
    job = prepare(config(device="auto"), dry_run=True)
    assert (job.runtime.device.type, job.runtime.channels_last) == ("cuda", True)
