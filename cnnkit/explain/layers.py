"""Which layers of a network still know where in the image something is: found by running two images through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnkit.errors import ConfigError, closest
from cnnkit.explain.grid import Grid, GridReader

LISTED = 8  # layers that a message names
PASSED_OVER = (nn.Identity, nn.Dropout, nn.Softmax)  # they add nothing, and what attention gives them may look like maps


@dataclass(frozen=True)
class SpatialLayer:
    """A module whose output is a grid of places.

    `block`: it is made of layers, convolutions or dense ones among them. `inner`: tokens on their way through a block, such as
    the queries, keys and values of attention. `pooled`: it only summarises the layer before, which has the same to say at more
    places. `matters`: the logits depend on what stands at its places.
    """

    name: str
    grid: Grid
    block: bool
    inner: bool
    pooled: bool
    matters: bool


def spatial_layers(module: nn.Module, images: Tensor) -> list[SpatialLayer]:
    """Return the spatial layers of `module` in the order in which they finish, from a few `images` (N, C, S, S), normalised.

    Two are enough, and one is not: what has N = 1 rows may have nothing to do with the image.

    A block finishes after its last layer, and both are here. `module` must be in eval mode; it is left as it was, and no
    gradient of a parameter is touched.
    """
    watch = _Watch(module, GridReader(len(images), images.shape[-1]))
    with torch.inference_mode(mode=False), torch.enable_grad():
        try:
            logits = module(images.clone().requires_grad_())
        finally:
            watch.stop()
        calls = [call for call in watch.calls.values() if call.output.requires_grad]
        # Not the plain sum: a last layer that started at zero has gradients that sum to zero over the classes.
        toward = (logits * torch.linspace(1, 2, logits.shape[-1], device=logits.device)).sum()
        gradients = torch.autograd.grad(toward, [call.output for call in calls], allow_unused=True) if calls else ()
    return [
        SpatialLayer(call.name, call.grid, call.block, call.inner, call.pooled, matters=bool(call.grid.maps(gradient).any()))
        for call, gradient in zip(calls, gradients, strict=True)
        if gradient is not None  # pyright: ignore[reportUnnecessaryComparison] (allow_unused)
    ]


def last_spatial(layers: Sequence[SpatialLayer]) -> SpatialLayer | None:
    """Return the last layer whose places the logits depend on, before any pooling; None if there is no spatial layer.

    After the last attention of a transformer with a class token the other tokens no longer matter: its layer is what
    this attention reads, the normalisation before its queries, keys and values.
    """
    mattering = [layer for layer in layers if layer.matters]
    before_pooling = [layer for layer in mattering if not layer.pooled]
    whole = [layer for layer in before_pooling if not layer.inner]
    found = whole or before_pooling or mattering or layers  # no gradient at all: an untrained network
    return found[-1] if found else None


def named_layer(name: str, module: nn.Module, layers: Sequence[SpatialLayer], flag: str) -> SpatialLayer:
    """Return the spatial layer `name`; raises `ConfigError`, which calls it by `flag`, if it is none of `layers`."""
    found = next((layer for layer in layers if layer.name == name), None)
    if found is not None:
        return found
    modules = dict(module.named_modules())
    names = [layer.name for layer in layers]
    if name not in modules:
        raise ConfigError(f"{flag} {name}: {type(module).__name__} has no such layer{closest(name, modules)} {_listed(names)}")
    raise ConfigError(f"{flag} {name}: the output of this layer is no map of places that the class depends on. {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "No layer of it has maps of the image."
    more = f" and {len(names) - LISTED} earlier ones" if len(names) > LISTED else ""
    return f"Layers with maps: {', '.join(reversed(names[-LISTED:]))}{more}"


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    output: Tensor
    grid: Grid
    block: bool
    inner: bool
    pooled: bool


class _Watch:
    """Notes what every module of a network gives while images go through it: `calls`, by name in order."""

    def __init__(self, network: nn.Module, reader: GridReader) -> None:
        self._reader = reader
        self.calls: dict[str, _Call] = {}
        self._pooled: dict[int, Tensor] = {}  # kept, so that no later tensor gets the id of one
        named = [(name, module) for name, module in network.named_modules() if name and not isinstance(module, PASSED_OVER)]
        self._names = {id(module): name for name, module in named}
        self._hooks = [module.register_forward_hook(self._note) for _, module in named]

    def stop(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _note(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        name = self._names[id(module)]
        self.calls.pop(name, None)  # called more than once: a hook later sees the last
        grid = self._reader.read(output) if isinstance(output, Tensor) else None
        if grid is None or not isinstance(output, Tensor):
            return
        if _adds_nothing(module) and inputs and (id(inputs[0]) in self._pooled or _is_larger(inputs[0], grid)):
            self._pooled[id(output)] = output
        inner = grid.layout == "tokens" and not _is_block(module) and not _is_norm(module)
        self.calls[name] = _Call(name, output, grid, _is_block(module), inner, pooled=id(output) in self._pooled)


def _is_block(module: nn.Module) -> bool:
    return next(module.children(), None) is not None and any(weight.ndim > 1 for weight in module.parameters())


def _is_norm(module: nn.Module) -> bool:
    """Whether a module has a scale and a shift at most."""
    weights = list(module.parameters())
    return len(weights) > 0 and all(weight.ndim <= 1 for weight in weights)


def _adds_nothing(module: nn.Module) -> bool:
    """Whether a module has nothing learned: what it gives is a summary of its input."""
    return next(module.parameters(), None) is None and next(module.buffers(), None) is None


def _is_larger(given: object, grid: Grid) -> bool:
    """Whether `given`, the input of a module, has more places than `grid`, its output."""
    if not isinstance(given, Tensor) or given.ndim != 4:  # noqa: PLR2004 (maps, in either layout)
        return False
    return min(given.shape[1:3] if grid.layout == "last" else given.shape[2:]) > grid.side
