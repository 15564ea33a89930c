"""The head of a network, the last layer that outputs the logits: finding it, its inputs, and setting it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cnnkit.errors import ConfigError

Head = nn.Linear | nn.Conv2d


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


def fresh_head_parameters(module: nn.Module, num_classes: int, fresh: frozenset[str]) -> set[str]:
    """Return the names of the head's parameters among `fresh`, the parameters that no file filled; empty without a head."""
    return head_parameters(module, num_classes) & fresh if head_layers(module, num_classes) else set()


def linear_head(module: nn.Module, num_classes: int) -> Head | None:
    """Return the head if it is one linear map of one vector per image, as a 1 x 1 convolution may be, else None."""
    layers = head_layers(module, num_classes)
    layer = layers[0] if len(layers) == 1 else None
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1):
        return layer
    return None


@contextmanager
def caught_features(module: nn.Module, layer: Head) -> Generator[Callable[[Tensor], Tensor | None]]:
    """Put `module` into eval mode, and into train mode at the end; give a function from images (n, C, H, W) to their features (n, D).

    The features are the inputs of `layer`. The function returns None if they are maps or tokens, or if the logits are not the outputs
    of `layer` alone. The weight of `layer` is overwritten.
    """
    caught: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda _, inputs, output: caught.append((inputs[0].detach(), output.detach().clone())))
    module.eval()
    with torch.no_grad():  # outputs of a layer at zero would equal logits that are a multiple of them
        layer.weight.copy_(torch.linspace(-1, 1, layer.weight.numel()).view(layer.weight.shape))

    def features(images: Tensor) -> Tensor | None:
        caught.clear()
        with torch.no_grad():
            logits = module(images)
        if len(caught) != 1:
            return None
        (found, output), count = caught[0], len(images)
        if found.numel() != count * layer.weight.shape[1] or output.numel() != logits.numel():
            return None
        return found.reshape(count, -1).float() if torch.allclose(output.reshape(logits.shape), logits) else None

    try:
        yield features
    finally:
        hook.remove()
        module.train()


def set_head(layer: Head, weight: Tensor, bias: Tensor) -> None:
    """Copy `weight` (K, D) and `bias` (K,) into `layer`; a layer without a bias keeps none."""
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        if "bias" in dict(layer.named_parameters()):
            layer.bias.copy_(bias)  # pyright: ignore[reportOptionalMemberAccess]  # the line above


def old_head(module: nn.Module, layer: Head, old: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return weight (K, D) and bias (K,) of the head `layer` in the `old` tensors, by name; None if they have no such layer.

    The tensors are float32 on the device of `layer`, a missing bias is zero.
    """
    name = next(name for name, each in module.named_modules() if each is layer)
    weight = old.get(f"{name}.weight")
    if weight is None or weight[:1].numel() != layer.weight[:1].numel():
        return None
    weight = weight.flatten(1).to(layer.weight.device, torch.float32)
    return weight, old.get(f"{name}.bias", torch.zeros(len(weight))).to(weight)


def mixture_of_old_classes(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) of a new head: every new class is a mixture of the old classes.

    `weight` and `bias` are those of the old head; `features` (N, D) and `labels` (N,) are training images. Row c is a weighted mean
    of the old rows k. The weight grows with the probability of k for images of class c, and with how specific k is to c. With few
    images this start may beat a regression: see docs/benchmarks/LOG.md, "New last layer".
    """
    seen = torch.zeros(num_classes, len(weight), device=features.device)
    seen.index_add_(0, labels, torch.softmax(features @ weight.T + bias, dim=1))
    often = seen / torch.bincount(labels, minlength=num_classes).clamp(min=1)[:, None]
    tiny = torch.finfo(torch.float32).tiny
    share = often * often / often.sum(0, keepdim=True).clamp(min=tiny)
    share = share / share.sum(1, keepdim=True).clamp(min=tiny)
    return share @ weight, share @ bias


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
