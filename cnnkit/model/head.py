"""The head of a network, the last layer that outputs the logits: finding it, and initialising it when the rest is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from cnnkit.errors import ConfigError


def head_parameters(module: nn.Module, num_classes: int) -> set[str]:
    """Return the names of the head's parameters, which train while the rest is frozen.

    The network's own `get_classifier()` (timm's convention) names the head, else it is the last `nn.Linear` or
    `nn.Conv2d` with `num_classes` outputs. Raises `ConfigError` if there is none.
    """
    heads = head_layers(module, num_classes)
    if not heads:
        raise ConfigError(
            f"{type(module).__name__} has no Linear or Conv2d layer with {num_classes} outputs, so its head cannot be found; "
            "use --freeze-epochs 0, or give the network a get_classifier() method that returns its last layer"
        )
    wanted = {id(parameter) for head in heads for parameter in head.parameters()}
    return {name for name, parameter in module.named_parameters() if id(parameter) in wanted}


def head_layers(module: nn.Module, num_classes: int) -> list[nn.Module]:
    """Return the layers that output the logits, usually one; empty if none can be found."""
    return _classifiers(module) or _last_layer(module, num_classes)


def start_head(
    module: nn.Module, num_classes: int, fresh: frozenset[str], old: Mapping[str, Tensor], examples: Iterable[tuple[Tensor, Tensor]]
) -> str | None:
    """Initialise the last layer if it was not loaded; return a sentence about it, or None if the layer was loaded.

    `fresh` names the parameters of `module` that were not loaded. `old` holds the tensors of the file's last layer, by
    their names, which did not fit because the file has other classes. `examples` are normalised training images
    (n, C, H, W) with labels (n,).

    Every new class starts as a mixture of the old classes. Row c is a weighted mean of the old rows k.
    The weight grows with the probability of k for images of class c, and with how specific k is to c. This start beats a layer trained from
    zero before the first step: see docs/benchmarks/LOG.md, "New last layer".

    Without an old layer of the same input, the new layer starts at zero, as in Big Transfer (arXiv:1912.11370): all
    classes are equally probable. A random layer would start with confident errors, which the first steps would carry into
    the loaded layers.
    """
    names = {id(layer): name for name, layer in module.named_modules()}
    layers = head_layers(module, num_classes)
    parameters = {f"{names[id(layer)]}.{name}" for layer in layers for name, _ in layer.named_parameters()} & fresh
    if not parameters:
        return None
    if len(layers) == 1 and _mix(module, layers[0], old, names[id(layers[0])], examples):
        return "the new last layer starts as a mixture of the old classes, by their probabilities on training images"
    with torch.no_grad():
        for name in parameters:
            module.get_parameter(name).zero_()
    return "the new last layer starts at zero"


def _mix(module: nn.Module, layer: nn.Module, old: Mapping[str, Tensor], name: str, examples: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Set `layer` to mixtures of the old classes; return False without a change if no old layer fits."""
    weight = old.get(f"{name}.weight")
    if not isinstance(layer, nn.Linear) or weight is None or weight.ndim != 2 or weight.shape[1] != layer.in_features:  # noqa: PLR2004
        return False
    device = layer.weight.device
    weight = weight.to(device, torch.float32)
    bias = old.get(f"{name}.bias", torch.zeros(len(weight))).to(device, torch.float32)
    seen = torch.zeros(layer.out_features, len(weight), device=device)
    images_of = torch.zeros(layer.out_features, 1, device=device)
    for features, labels in _inputs(module, layer, examples):
        if features.ndim != 2:  # noqa: PLR2004 (one vector per image, not maps or tokens)
            return False
        seen.index_add_(0, labels, torch.softmax(features.float() @ weight.T + bias, dim=1))
        images_of.index_add_(0, labels, torch.ones(len(labels), 1, device=device))
    often = seen / images_of.clamp(min=1)
    share = often * often / often.sum(0, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    share = share / share.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    with torch.no_grad():
        layer.weight.copy_(share @ weight)
        if "bias" in dict(layer.named_parameters()):
            layer.bias.copy_(share @ bias)
    return True


def _inputs(module: nn.Module, layer: nn.Module, examples: Iterable[tuple[Tensor, Tensor]]) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield the inputs of `layer` and the labels of each batch; `module` is in train mode afterwards."""
    caught: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach()))
    module.eval()
    try:
        with torch.no_grad():
            for images, labels in examples:
                module(images)
                yield caught.pop(), labels
    finally:
        hook.remove()
        module.train()


def _classifiers(module: nn.Module) -> list[nn.Module]:
    """Return the layers with parameters that `get_classifier()` names; a distilled network has two."""
    get_classifier = getattr(module, "get_classifier", None)
    found = get_classifier() if callable(get_classifier) else None
    layers = found if isinstance(found, tuple | list) else [found]
    return [layer for layer in layers if isinstance(layer, nn.Module) and any(True for _ in layer.parameters())]


def _last_layer(module: nn.Module, num_classes: int) -> list[nn.Module]:
    fitting: list[nn.Module] = [
        layer
        for layer in module.modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == num_classes)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == num_classes)
    ]
    return fitting[-1:]
