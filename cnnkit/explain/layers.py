"""Spatial layers of a network: layers whose output is a grid of image positions, found by a forward pass of two images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnkit.errors import ConfigError, closest
from cnnkit.explain.grid import Grid, GridReader

MAX_LAYERS_NAMED = 8  # in a message
IGNORED_MODULES = (nn.Identity, nn.Dropout, nn.Softmax)  # add nothing; inside attention their outputs may look like maps


@dataclass(frozen=True)
class SpatialLayer:
    """A module whose output is a grid of image positions.

    `block` is True if the module consists of layers, among them convolutions or dense layers. `inner` is True for tokens
    inside a block, such as the queries, keys and values of attention. `pooled` is True if the module only summarises the
    previous layer, which has the same content at more positions. `matters` is True if the logits depend on the output.
    """

    name: str
    grid: Grid
    block: bool
    inner: bool
    pooled: bool
    matters: bool


def spatial_layers(module: nn.Module, images: Tensor) -> list[SpatialLayer]:
    """Return the spatial layers of `module` in the order in which they finish, found with normalised `images` (N, C, S, S).

    N = 2 is enough. N = 1 is not, because an output with one row may be independent of the images. A block finishes after its
    last layer, and the result contains both. `module` must be in eval mode; neither the module nor its gradients change.
    """
    recorder = _CallRecorder(module, GridReader(len(images), images.shape[-1]))
    with torch.inference_mode(mode=False), torch.enable_grad():
        try:
            logits = module(images.clone().requires_grad_())
        finally:
            recorder.remove_hooks()
        calls = [call for call in recorder.calls.values() if call.output.requires_grad]
        # Not the plain sum: the gradients of a last layer that started at zero sum to zero over the classes.
        target = (logits * torch.linspace(1, 2, logits.shape[-1], device=logits.device)).sum()
        gradients = torch.autograd.grad(target, [call.output for call in calls], allow_unused=True) if calls else ()
    return [
        SpatialLayer(call.name, call.grid, call.block, call.inner, call.pooled, matters=bool(call.grid.maps(gradient).any()))
        for call, gradient in zip(calls, gradients, strict=True)
        if gradient is not None  # pyright: ignore[reportUnnecessaryComparison] (allow_unused)
    ]


def last_spatial(layers: Sequence[SpatialLayer]) -> SpatialLayer | None:
    """Return the last layer before any pooling that the logits depend on; None if there is no spatial layer.

    In a transformer with a class token, the other tokens no longer matter after the last attention. The result is then the
    normalisation before the queries, keys and values of that attention.
    """
    mattering = [layer for layer in layers if layer.matters]
    before_pooling = [layer for layer in mattering if not layer.pooled]
    whole = [layer for layer in before_pooling if not layer.inner]
    found = whole or before_pooling or mattering or layers  # an untrained network may have no gradient at all
    return found[-1] if found else None


def named_layer(name: str, module: nn.Module, layers: Sequence[SpatialLayer], flag: str) -> SpatialLayer:
    """Return the spatial layer `name`; raises `ConfigError`, which names `flag`, if it is not one of `layers`."""
    found = next((layer for layer in layers if layer.name == name), None)
    if found is not None:
        return found
    modules = dict(module.named_modules())
    names = [layer.name for layer in layers]
    if name not in modules:
        raise ConfigError(f"{flag} {name}: {type(module).__name__} has no such layer{closest(name, modules)} {_layers_with_maps(names)}")
    raise ConfigError(
        f"{flag} {name}: the output of this layer is not a map of the image that the logits depend on. {_layers_with_maps(names)}"
    )


def _layers_with_maps(names: Sequence[str]) -> str:
    if not names:
        return "No layer of this network has maps of the image."
    more = f" and {len(names) - MAX_LAYERS_NAMED} earlier ones" if len(names) > MAX_LAYERS_NAMED else ""
    return f"Layers with maps: {', '.join(reversed(names[-MAX_LAYERS_NAMED:]))}{more}"


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    output: Tensor
    grid: Grid
    block: bool
    inner: bool
    pooled: bool


class _CallRecorder:
    """A recorder of the grids that the modules of a network output in a forward pass: `calls`, by name, in order."""

    def __init__(self, network: nn.Module, reader: GridReader) -> None:
        self._reader = reader
        self.calls: dict[str, _Call] = {}
        self._pooled: dict[int, Tensor] = {}  # by id; the tensors stay alive, so that no later tensor gets the same id
        named = [(name, module) for name, module in network.named_modules() if name and not isinstance(module, IGNORED_MODULES)]
        self._names = {id(module): name for name, module in named}
        self._hooks = [module.register_forward_hook(self._record) for _, module in named]

    def remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _record(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        name = self._names[id(module)]
        self.calls.pop(name, None)  # of several calls, the last counts
        grid = self._reader.read(output) if isinstance(output, Tensor) else None
        if grid is None or not isinstance(output, Tensor):
            return
        if _has_no_state(module) and inputs and (id(inputs[0]) in self._pooled or _is_larger(inputs[0], grid)):
            self._pooled[id(output)] = output
        inner = grid.layout == "tokens" and not _is_block(module) and not _is_norm(module)
        self.calls[name] = _Call(name, output, grid, _is_block(module), inner, pooled=id(output) in self._pooled)


def _is_block(module: nn.Module) -> bool:
    return next(module.children(), None) is not None and any(weight.ndim > 1 for weight in module.parameters())


def _is_norm(module: nn.Module) -> bool:
    """Return whether the only parameters of a module are vectors, such as a scale and a shift."""
    weights = list(module.parameters())
    return len(weights) > 0 and all(weight.ndim <= 1 for weight in weights)


def _has_no_state(module: nn.Module) -> bool:
    """Return whether a module has neither parameters nor buffers, so that its output is a summary of its input."""
    return next(module.parameters(), None) is None and next(module.buffers(), None) is None


def _is_larger(given: object, grid: Grid) -> bool:
    """Return whether `given`, the input of a module, has more positions than `grid`, its output."""
    if not isinstance(given, Tensor) or given.ndim != 4:  # noqa: PLR2004 (maps, in either layout)
        return False
    return min(given.shape[1:3] if grid.layout == "last" else given.shape[2:]) > grid.size
