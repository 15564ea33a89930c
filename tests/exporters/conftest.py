"""A small model with the statistics of a trained one, and its exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Return a function that makes a model with non-trivial BatchNorm statistics and outputs.

    Its keywords are those of `Preprocessing`, `classes` and `temperature`: ``make_model(channels=1, resize_mode="pad")``.
    """
    import torch
    from torch import nn

    from cnnkit.metrics.intervals import Estimate
    from cnnkit.metrics.temperature import Calibration
    from cnnkit.model.file import Model, ModelHeader
    from cnnkit.model.preprocessing import Preprocessing

    def make(*, classes: tuple[str, ...] = ("ant", "bee", "wasp"), temperature: float = 1.7, **preprocessing: Any) -> Model:
        channels = preprocessing.get("channels", 3)
        settings: dict[str, Any] = {
            "image_size": 24,
            "mean": (0.45, 0.5, 0.4)[:channels],
            "std": (0.2, 0.3, 0.25)[:channels],
            **preprocessing,
        }
        random = torch.Generator().manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, len(classes)),
        )  # fmt: skip
        with torch.no_grad():
            for tensor in module.parameters():
                tensor.normal_(0, 0.4, generator=random)
            for name, tensor in module.named_buffers():
                if name.endswith("running_mean"):
                    tensor.normal_(0, 0.5, generator=random)
                elif name.endswith("running_var"):
                    tensor.uniform_(0.3, 3, generator=random)
        header = ModelHeader(
            arch="tiny",
            options={"width": 16},
            classes=classes,
            preprocessing=Preprocessing(**settings),
            temperature=temperature,
            calibration=Calibration("val", 200, temperature, Estimate(0.05, 0.03, 0.08), Estimate(0.02, 0.01, 0.04), 0.5, 0.4),
            training={"epoch": 3, "monitor": "val_loss"},
        )
        return Model(module.eval(), header, Path("best.safetensors"))

    return make


@pytest.fixture(scope="session")
def model(make_model):
    """Return a model of three classes, one with an umlaut, three channels, 24 pixels and temperature 1.7."""
    return make_model(classes=("ant", "bee", "Käfer"))


@pytest.fixture(scope="session")
def exported(model, made_once) -> Path:
    """Return the path of the ONNX file of `model`."""
    from cnnkit.exporters.onnx_graph import write_onnx

    return made_once("onnx", lambda folder: write_onnx(model, folder / "model.onnx")) / "model.onnx"


@pytest.fixture(scope="session")
def exported_kind(model, made_once) -> Callable[..., Path]:
    """Return a function that exports `model` once with the given options, and returns the path of the file."""
    from cnnkit.exporters.onnx import onnx_exporter

    def export(**choices: Any) -> Path:
        name = "-".join(["onnx", *(f"{key}={value}" for key, value in choices.items())])
        options = onnx_exporter.options(**choices)
        return made_once(name, lambda folder: onnx_exporter.write_file(model, folder / "model.onnx", options)) / "model.onnx"

    return export
