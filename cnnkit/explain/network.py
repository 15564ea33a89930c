"""The network of a model, prepared for explanations: in eval mode, with canvases as input, and its spatial layers."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from cnnkit.explain.layers import SpatialLayer, spatial_layers
from cnnkit.model.file import Model
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.torch_classifier import device_of


class ExplainedNetwork:
    """The module of `model`, which stays on its device and changes only to eval mode."""

    def __init__(self, model: Model) -> None:
        self.module = model.module.eval()
        self.arch = model.header.arch
        self.classes = model.header.classes
        self.spec = model.header.preprocessing
        self.device = device_of(self.module)
        self._normalise = Preprocess(self.spec).to(self.device).normalise

    def images(self, canvases: Tensor) -> Tensor:
        """Map canvases, uint8 (N, C, S, S), to the input of the module, on its device."""
        return self._normalise(canvases.to(self.device))

    @cached_property
    def layers(self) -> list[SpatialLayer]:
        """The spatial layers in the order in which they finish, found with two canvases of noise."""
        shape = (2, self.spec.channels, self.spec.image_size, self.spec.image_size)
        noise = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return spatial_layers(self.module, self.images(noise))
