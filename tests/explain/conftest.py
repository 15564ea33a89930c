"""Models of hand-made networks, whose explanations are known in advance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cnnkit.model.file import Model, ModelHeader
from cnnkit.model.preprocessing import Preprocessing


@pytest.fixture
def model_of() -> Callable[..., Model]:
    """Return a function that makes a `Model` of a network; its preprocessing divides canvases by 255."""

    def make(module: nn.Module, classes: int = 2, *, size: int = 8, channels: int = 3, arch: str = "custom-cnn") -> Model:
        preprocessing = Preprocessing(image_size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)  # type: ignore[arg-type]
        names = tuple(f"class {index}" for index in range(classes))
        header = ModelHeader(arch=arch, options={}, classes=names, preprocessing=preprocessing)
        return Model(module.eval(), header, Path("hand-made.safetensors"))

    return make


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Return a function that draws canvases (images, channels, size, size)."""

    def draw(images: int, size: int, channels: int = 3, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(256, (images, channels, size, size), generator=generator, dtype=torch.uint8)

    return draw
