"""Grad-CAM (Selvaraju et al., arXiv:1610.02391): where in the image the evidence for a class stands."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cnnkit.errors import CnnkitError
from cnnkit.explain.heat import class_numbers, heat
from cnnkit.explain.layers import SpatialLayer, last_spatial, named_layer
from cnnkit.explain.network import Network
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import true_fp32
from cnnkit.registry import load_architecture

BATCH = 64  # canvases in one pass; the layers up to the one that is explained keep nothing for the gradients


class GradCam:
    """Heat maps of `model` for any of its classes.

    `layer` is a module of the network by its dotted name. Left out, it is the one that the architecture names
    (`Architecture.cam_layer`), else the last that still has a grid of places the logits depend on, before any pooling; it is
    found by running two images of noise. The model's module is put in eval mode and otherwise left untouched.

    Raises `CnnkitError` if the network has no such layer, `ConfigError` if `layer` is none.
    """

    def __init__(self, model: Model, layer: str | None = None) -> None:
        self._network = Network(model)
        self.layer = _find(self._network, layer)

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1].

        0 is no evidence for the class, 1 the most in that image; a map without any evidence is zero all over.
        """
        return heat(self.maps(canvases, classes), self._network.spec.image_size)

    def maps(self, canvases: Tensor, classes: ArrayLike) -> Tensor:
        """Map canvases (N, C, S, S) and classes (N,) to the map of `layer`, (N, side, side), in units of logit; never negative.

        The layer's channels are summed with the weights of equation 1 of the paper, the mean over the places of the
        gradient of the class's logit, and cut off at zero (equation 2).
        """
        wanted = class_numbers(classes, len(canvases), len(self._network.classes))
        parts = [self._part(*part) for part in zip(canvases.split(BATCH), wanted.split(BATCH), strict=True) if len(part[0])]
        return torch.cat([torch.empty(0, self.layer.grid.side, self.layer.grid.side), *parts])

    def _part(self, canvases: Tensor, classes: Tensor) -> Tensor:
        module = self._network.module
        with true_fp32(), torch.inference_mode(mode=False):
            with torch.no_grad(), _kept(module.get_submodule(self.layer.name)) as outputs:
                logits = module(self._network.images(canvases))
            with torch.enable_grad():
                chosen = logits.gather(1, classes.to(logits.device, copy=True)[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, outputs)
        grid = self.layer.grid
        weights = grid.maps(gradient).mean((2, 3), keepdim=True)
        return (weights * grid.maps(outputs[0].detach())).sum(1).clamp(min=0).cpu()


def _find(network: Network, layer: str | None) -> SpatialLayer:
    if layer is not None:
        return named_layer(layer, network.module, network.layers, "--layer")
    named = load_architecture(network.arch)[0].cam_layer
    if named is not None:
        return named_layer(named, network.module, network.layers, f"cam_layer of the architecture {network.arch}")
    found = last_spatial(network.layers)
    if found is None:
        raise CnnkitError(
            f"Grad-CAM needs a layer that knows where in the image something is, and {network.arch!r} has none: no module of "
            f"{type(network.module).__name__} gives a square grid of 2 x 2 places or more from {network.spec.image_size} px images. "
            "What needs no such layer: --method occlusion"
        )
    return found


@contextmanager
def _kept(layer: nn.Module) -> Generator[list[Tensor]]:
    """Yield a list that has the output of `layer` once an image went through, as the start of the gradients.

    Nothing before the layer is recorded, so that part costs what prediction costs. The layers behind get a copy, as they
    may work in place; what was kept is the layer's own output.
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
