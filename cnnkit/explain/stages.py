"""Feature maps of a network by stage: from edges in the first to parts of objects in the last.

Zeiler and Fergus described this hierarchy in "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.explain.layers import SpatialLayer
from cnnkit.explain.network import ExplainedNetwork
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import true_fp32

BATCH_SIZE = 16  # canvases whose feature maps are in memory: 60 MB each for a wide network at 224 px
MAX_CHANNELS = 8  # of a stage: one row of a picture
DEPTHS = 4  # stages of a network whose maps keep their size
MIN_SIZES = 3  # of maps; with fewer sizes, the depth of a layer says more than its resolution


@dataclass(frozen=True, eq=False)
class FeatureStage:
    """The feature maps of one `layer` for one image: `maps`, float32 (n, size, size), of the channels `shown`.

    Of all `channels`, these have the largest standard deviation over the image, in descending order; a constant channel
    shows nothing.
    """

    layer: str
    channels: int
    shown: tuple[int, ...]
    maps: NDArray[np.float32]

    @property
    def size(self) -> int:
        """The height and width of the maps."""
        return self.maps.shape[-1]


class FeatureMaps:
    """The feature maps of `model` by stage, the finest first; `layers` is empty if the network has no maps."""

    def __init__(self, model: Model) -> None:
        self._network = ExplainedNetwork(model)
        self.layers = stage_layers(self._network.layers)

    def stages(self, canvases: Tensor) -> list[tuple[FeatureStage, ...]]:
        """Map canvases, uint8 (N, C, S, S), to the stages of each canvas."""
        return [stages for batch in canvases.split(BATCH_SIZE) if len(batch) for stages in self._batch_stages(batch)]

    def _batch_stages(self, canvases: Tensor) -> list[tuple[FeatureStage, ...]]:
        kept: dict[str, Tensor] = {}
        with true_fp32(), torch.inference_mode(), ExitStack() as hooks:
            for layer in self.layers:
                module = self._network.module.get_submodule(layer.name)
                hooks.callback(_keep(module, layer, kept).remove)
            self._network.module(self._network.images(canvases))
        return [tuple(_stage(layer.name, kept[layer.name][image]) for layer in self.layers) for image in range(len(canvases))]


def stage_layers(layers: Sequence[SpatialLayer]) -> list[SpatialLayer]:
    """Return one layer per stage of a network: the last block before the maps get smaller.

    For a network whose maps keep their size, as in most transformers, return `DEPTHS` blocks at evenly spaced depths.
    """
    stages: dict[int, list[SpatialLayer]] = {}
    for layer in layers:
        if not layer.pooled and not layer.inner:
            stages.setdefault(layer.grid.size, []).append(layer)
    by_size = [_last_block(stages[size]) for size in sorted(stages, reverse=True)]
    if len(by_size) >= MIN_SIZES or not stages:
        return by_size
    longest = max(stages.values(), key=len)
    numbered = [layer for layer in longest if layer.block and layer.name.rpartition(".")[2].isdecimal()]
    blocks = [layer for layer in numbered if _depth(layer) == min(map(_depth, numbered))]
    if len(blocks) <= len(by_size):
        return by_size
    chosen = np.unique(np.linspace(0, len(blocks) - 1, DEPTHS).round().astype(int))
    return [blocks[index] for index in chosen]


def _last_block(stage: Sequence[SpatialLayer]) -> SpatialLayer:
    """Return the last block of a stage, or its last layer if it has no block.

    A more deeply nested one may be inside the block that reduces the maps.
    """
    blocks = [layer for layer in stage if layer.block]
    found = blocks or stage
    outermost = min(map(_depth, found)) + (1 if blocks else 0)  # a stem is often a block itself, while stages are in a list
    return [layer for layer in found if _depth(layer) <= outermost][-1]


def _depth(layer: SpatialLayer) -> int:
    return layer.name.count(".")


def _keep(module: nn.Module, layer: SpatialLayer, kept: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        kept[layer.name] = layer.grid.maps(output).clone()  # the next layer may work in place

    return module.register_forward_hook(keep)


def _stage(layer: str, maps: Tensor) -> FeatureStage:
    """Return the stage of one image from its `maps` (C, size, size)."""
    shown = maps.flatten(1).std(1).argsort(descending=True, stable=True)[:MAX_CHANNELS]
    return FeatureStage(layer, len(maps), tuple(shown.tolist()), maps[shown].float().cpu().numpy())
