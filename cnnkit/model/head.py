"""The last layer, the one that gives the logits: which it is, and how it starts when the rest comes from weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from cnnkit.errors import ConfigError


def head_parameters(module: nn.Module, num_classes: int) -> set[str]:
    """Return the names of the parameters of the layer that gives the logits: all that trains while the rest is frozen.

    It is what the network's own `get_classifier()` says (timm's convention), or else the last `nn.Linear` or `nn.Conv2d`
    with `num_classes` outputs. Raises `ConfigError` if there is none.
    """
    heads = head_layers(module, num_classes)
    if not heads:
        raise ConfigError(
            f"{type(module).__name__} has no Linear or Conv2d layer with {num_classes} outputs, so its head cannot be told from the rest: "
            "use --freeze-epochs 0, or give the network a get_classifier() method that returns its last layer"
        )
    wanted = {id(parameter) for head in heads for parameter in head.parameters()}
    return {name for name, parameter in module.named_parameters() if id(parameter) in wanted}


def head_layers(module: nn.Module, num_classes: int) -> list[nn.Module]:
    """Return the layers that give the logits, usually one; empty if none can be told."""
    return _classifiers(module) or _last_layer(module, num_classes)


def start_head(
    module: nn.Module, num_classes: int, fresh: frozenset[str], old: Mapping[str, Tensor], examples: Iterable[tuple[Tensor, Tensor]]
) -> str | None:
    """Give the last layer the best start that the weights allow; returns a sentence on it, None if the layer was loaded.

    `fresh` names the parameters of `module` that were not loaded. `old` holds, under the last layer's names, tensors of the
    file that did not fit because it told other classes apart. `examples` are training images (n, C, H, W), normalised,
    with labels (n,). Every new class starts as a mixture of the old ones: row c is the mean of the old rows k, weighted
    by how often the old layer sees k in images of class c and by how much k speaks for c rather than for another class.
    Such a start beats a layer trained from zero before the first step: see docs/benchmarks/LOG.md, "New last layer".

    Without an old layer of the same input the new one starts at zero, every class as likely, as in Big Transfer
    (arXiv:1912.11370): a random one starts with confident nonsense whose errors the first steps carry into the loaded
    layers.
    """
    names = {id(layer): name for name, layer in module.named_modules()}
    layers = head_layers(module, num_classes)
    parameters = {f"{names[id(layer)]}.{name}" for layer in layers for name, _ in layer.named_parameters()} & fresh
    if not parameters:
        return None
    if len(layers) == 1 and _mix(module, layers[0], old, names[id(layers[0])], examples):
        return "the new last layer starts as a mixture of the old one's classes, by what it sees in the training images"
    with torch.no_grad():
        for name in parameters:
            module.get_parameter(name).zero_()
    return "the new last layer starts at zero"


def _mix(module: nn.Module, layer: nn.Module, old: Mapping[str, Tensor], name: str, examples: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Set `layer` to mixtures of the old classes; False, and nothing changed, if there is no old layer to mix from."""
    weight = old.get(f"{name}.weight")
    if not isinstance(layer, nn.Linear) or weight is None or weight.ndim != 2 or weight.shape[1] != layer.in_features:  # noqa: PLR2004
        return False
    device = layer.weight.device
    weight = weight.to(device, torch.float32)
    bias = old.get(f"{name}.bias", torch.zeros(len(weight))).to(device, torch.float32)
    seen = torch.zeros(layer.out_features, len(weight), device=device)
    images_of = torch.zeros(layer.out_features, 1, device=device)
    for features, labels in _inputs(module, layer, examples):
        if features.ndim != 2:  # noqa: PLR2004 (one vector per image; a layer that sees maps or tokens is another matter)
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
    """Yield what reaches `layer` from the images of each batch, with their labels; `module` is left in train mode."""
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
    """What `get_classifier()` returns, as a list of layers that have parameters (a distilled network has two)."""
    ask = getattr(module, "get_classifier", None)
    answer = ask() if callable(ask) else None
    layers = answer if isinstance(answer, tuple | list) else [answer]
    return [layer for layer in layers if isinstance(layer, nn.Module) and any(True for _ in layer.parameters())]


def _last_layer(module: nn.Module, num_classes: int) -> list[nn.Module]:
    fitting: list[nn.Module] = [
        layer
        for layer in module.modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == num_classes)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == num_classes)
    ]
    return fitting[-1:]
