"""Grad-CAM (Selvaraju et al., arXiv:1610.02391): heat maps of the evidence for a class, from the gradients of a layer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cnnkit.errors import CnnkitError
from cnnkit.explain.heat import heat, to_class_indices
from cnnkit.explain.layers import SpatialLayer, last_spatial, named_layer
from cnnkit.explain.network import ExplainedNetwork
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import true_fp32
from cnnkit.registry import load_architecture

BATCH_SIZE = 64  # canvases in one pass; the layers before the explained one keep nothing for gradients


class GradCam:
    """Heat maps of `model` for any of its classes.

    `layer` is the dotted name of a module. By default, it is the layer that the architecture names
    (`Architecture.cam_layer`). Without such a name, it is the last layer before any pooling whose output is a grid and
    matters for the logits. Two images of noise find it. The module of the model is put into eval mode and does not change otherwise.

    Raises `CnnkitError` if the network has no such layer, `ConfigError` if `layer` does not fit.
    """

    def __init__(self, model: Model, layer: str | None = None) -> None:
        self._network = ExplainedNetwork(model)
        self.layer = _find_layer(self._network, layer)

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1].

        0 is no evidence for the class, 1 the most evidence in that image; a map without any evidence is zero everywhere.
        """
        return heat(self.maps(canvases, classes), self._network.spec.image_size)

    def maps(self, canvases: Tensor, classes: ArrayLike) -> Tensor:
        """Map canvases (N, C, S, S) and classes (N,) to maps of `layer` (N, G, G), where G is the size of its grid.

        The values are in units of the logit. The weight of a channel is the mean gradient of the class's logit (equation 1
        of the paper). The weighted sum of the channels is cut off at zero (equation 2).
        """
        indices = to_class_indices(classes, len(canvases), len(self._network.classes))
        batches = zip(canvases.split(BATCH_SIZE), indices.split(BATCH_SIZE), strict=True)
        parts = [self._batch_maps(*batch) for batch in batches if len(batch[0])]
        return torch.cat([torch.empty(0, self.layer.grid.size, self.layer.grid.size), *parts])

    def _batch_maps(self, canvases: Tensor, classes: Tensor) -> Tensor:
        module = self._network.module
        with true_fp32(), torch.inference_mode(mode=False):
            with torch.no_grad(), _capture_output(module.get_submodule(self.layer.name)) as outputs:
                logits = module(self._network.images(canvases))
            with torch.enable_grad():
                chosen = logits.gather(1, classes.to(logits.device, copy=True)[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, outputs)
        grid = self.layer.grid
        weights = grid.maps(gradient).mean((2, 3), keepdim=True)
        return (weights * grid.maps(outputs[0].detach())).sum(1).clamp(min=0).cpu()


def _find_layer(network: ExplainedNetwork, layer: str | None) -> SpatialLayer:
    if layer is not None:
        return named_layer(layer, network.module, network.layers, "--layer")
    named = load_architecture(network.arch)[0].cam_layer
    if named is not None:
        return named_layer(named, network.module, network.layers, f"cam_layer of the architecture {network.arch}")
    found = last_spatial(network.layers)
    if found is None:
        raise CnnkitError(
            f"Grad-CAM needs a layer whose output is a map of the image, and {network.arch!r} has none: no module of "
            f"{type(network.module).__name__} outputs a square grid of 2 x 2 or more positions for images of {network.spec.image_size} px; "
            "use --method occlusion, which works for every network"
        )
    return found


@contextmanager
def _capture_output(layer: nn.Module) -> Generator[list[Tensor]]:
    """Yield a list for the output of `layer`, which a forward pass fills; the gradients start at that output.

    Nothing before the layer is recorded, so that part is as fast as prediction. The later layers get a copy of the output,
    as they may work in place.
    """
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> Tensor:
        outputs[:] = [output.detach().requires_grad_()]
        torch.set_grad_enabled(True)  # the caller's no_grad ends with it
        return outputs[0].clone()

    hook = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        hook.remove()
