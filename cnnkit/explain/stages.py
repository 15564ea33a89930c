"""What the layers of a network see in an image: from edges in the first to parts of things in the last.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901), named that hierarchy; here are
the feature maps themselves.
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
from cnnkit.explain.network import Network
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import true_fp32

BATCH = 16  # canvases whose feature maps are in memory: at 224 px 60 MB each for a wide network
CHANNELS = 8  # shown of a stage: one row of a picture
BLOCKS = 4  # stages of a network that never reduces its maps
FEW = 3  # sides: below, depth tells more than resolution


@dataclass(frozen=True, eq=False)
class Stage:
    """The feature maps of one `layer` for one image: `maps`, float32 (n, side, side), of the channels `shown`.

    These are the channels of its `channels` that differ most from place to place (by standard deviation), most first: one
    that is the same everywhere shows nothing.
    """

    layer: str
    channels: int
    shown: tuple[int, ...]
    maps: NDArray[np.float32]

    @property
    def side(self) -> int:
        """Places a side."""
        return self.maps.shape[-1]


class FeatureMaps:
    """The feature maps of `model`, stage by stage, the finest first; `layers` has none where the network has no maps."""

    def __init__(self, model: Model) -> None:
        self._network = Network(model)
        self.layers = stage_layers(self._network.layers)

    def stages(self, canvases: Tensor) -> list[tuple[Stage, ...]]:
        """Map canvases, uint8 (N, C, S, S), to the stages of each."""
        return [stages for part in canvases.split(BATCH) if len(part) for stages in self._part(part)]

    def _part(self, canvases: Tensor) -> list[tuple[Stage, ...]]:
        kept: dict[str, Tensor] = {}
        with true_fp32(), torch.inference_mode(), ExitStack() as hooks:
            for layer in self.layers:
                module = self._network.module.get_submodule(layer.name)
                hooks.callback(_keep(module, layer, kept).remove)
            self._network.module(self._network.images(canvases))
        return [tuple(_stage(layer.name, kept[layer.name][image]) for layer in self.layers) for image in range(len(canvases))]


def stage_layers(layers: Sequence[SpatialLayer]) -> list[SpatialLayer]:
    """Return a layer for each stage of a network: the last block before its maps get smaller.

    A network that keeps one size, as most transformers do, is shown at `BLOCKS` depths, evenly spaced.
    """
    stages: dict[int, list[SpatialLayer]] = {}
    for layer in layers:
        if not layer.pooled and not layer.inner:
            stages.setdefault(layer.grid.side, []).append(layer)
    by_side = [_last_block(stages[side]) for side in sorted(stages, reverse=True)]
    if len(by_side) >= FEW or not stages:
        return by_side
    longest = max(stages.values(), key=len)
    numbered = [layer for layer in longest if layer.block and layer.name.rpartition(".")[2].isdecimal()]
    blocks = [layer for layer in numbered if _depth(layer) == min(map(_depth, numbered))]
    if len(blocks) <= len(by_side):
        return by_side
    chosen = np.unique(np.linspace(0, len(blocks) - 1, BLOCKS).round().astype(int))
    return [blocks[place] for place in chosen]


def _last_block(stage: Sequence[SpatialLayer]) -> SpatialLayer:
    """The last block of a stage, of its layers if it has no block; what lies deeper may be inside the block that reduces."""
    blocks = [layer for layer in stage if layer.block]
    found = blocks or stage
    outermost = min(map(_depth, found)) + (1 if blocks else 0)  # a stem is often a block of its own, and stages stand in a list
    return [layer for layer in found if _depth(layer) <= outermost][-1]


def _depth(layer: SpatialLayer) -> int:
    return layer.name.count(".")


def _keep(module: nn.Module, layer: SpatialLayer, kept: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        kept[layer.name] = layer.grid.maps(output).clone()  # what comes next may work in place

    return module.register_forward_hook(keep)


def _stage(layer: str, maps: Tensor) -> Stage:
    """The stage of one image; `maps` (C, side, side)."""
    varied = maps.flatten(1).std(1).argsort(descending=True, stable=True)[:CHANNELS]
    return Stage(layer, len(maps), tuple(varied.tolist()), maps[varied].float().cpu().numpy())
