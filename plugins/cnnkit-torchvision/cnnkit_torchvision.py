"""The classifiers of torchvision for cnnkit, such as ``torchvision/resnet18``, with their ImageNet weights.

torchvision takes seconds to import, so it is imported for a member and not with this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, get_type_hints

from cnnkit import Architecture, CnnkitError, Family, Pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn

RGB = 3
AUXILIARY = "aux_logits"  # of Inception and GoogLeNet: a second classifier, whose logits train mode would return too
INIT_WEIGHTS = "init_weights"  # of the same two, which warn if it is not given
TRANSFORM_INPUT = "transform_input"  # of the same two: with weights, they undo the normalisation for this one
CENTRED = (0.5, 0.5, 0.5)
SIZE_KEYWORDS = ("image_size", "input_size")  # of vision transformers and MaxViT, whose embeddings and windows fix the size


def members() -> list[str]:
    """Return the names of all classifiers of torchvision, sorted."""
    from torchvision import models

    return models.list_models(module=models)


@cache
def get(member: str) -> Architecture:
    """Return the architecture of torchvision's classifier `member`; raises `KeyError` for another name."""
    import torchvision

    if member not in members():
        raise KeyError(member)
    published = _pretrained(member)
    return Architecture(
        build=_build_function(member, published.image_size),
        summary=f"{member} of torchvision {torchvision.__version__}",
        image_size=published.image_size,
        reference=f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.{member}.html",
        pretrained=published,
    )


def _pretrained(member: str) -> Pretrained:
    """Return torchvision's default weights of `member`, with the preprocessing of their evaluation."""
    weights = _weights(member)
    transforms = weights.transforms()
    (size,), (resized,) = transforms.crop_size, transforms.resize_size
    mean, std = ((float(red), float(green), float(blue)) for red, green, blue in (transforms.mean, transforms.std))
    if TRANSFORM_INPUT in _parameters(member):
        mean, std = CENTRED, CENTRED
    return Pretrained(
        fetch=lambda: fetch(member),
        place=weights.url,
        image_size=size,
        mean=mean,
        std=std,
        interpolation=transforms.interpolation.value,
        crop=size / resized,
    )


def fetch(member: str) -> Mapping[str, Tensor]:
    """Return the ImageNet weights of `member`, downloaded by torchvision or read from torch's cache; raises `OSError` without both."""
    from torchvision import models

    keywords = {AUXILIARY: False} if AUXILIARY in _parameters(member) else {}
    try:
        return models.get_model(member, weights=_weights(member), **keywords).state_dict()
    except Exception as error:  # the HTTP client, the check of the digest and torch each raise their own types
        raise OSError(f"{type(error).__name__}: {error}") from error


def _weights(member: str) -> Any:
    from torchvision import models

    return models.get_model_weights(member)["DEFAULT"]


def _parameters(member: str) -> Mapping[str, Parameter]:
    """Return the parameters of the class of the network, which the builder of `member` passes on to it."""
    from torchvision import models

    builder = models.get_model_builder(member)
    return inspect.signature(get_type_hints(builder)["return"]).parameters


def _build_function(member: str, full_size: int) -> Callable[..., nn.Module]:
    """Return `build` with the keywords that the network of this member takes."""
    parameters = _parameters(member)
    constant: dict[str, Any] = {name: False for name in (AUXILIARY,) if name in parameters}
    constant |= {name: True for name in (INIT_WEIGHTS,) if name in parameters}
    size_keyword = next((name for name in SIZE_KEYWORDS if name in parameters), None)
    offered: dict[str, float | int] = {}
    if "dropout" in parameters and isinstance(parameters["dropout"].default, float):
        offered["dropout"] = parameters["dropout"].default
    if size_keyword:
        offered["image_size"] = 0

    def build(num_classes: int, in_channels: int, **chosen: Any) -> nn.Module:
        values = {**offered, **chosen}
        size = values.pop("image_size", 0) or full_size
        if size_keyword:
            values[size_keyword] = size if size_keyword == "image_size" else (size, size)
        network = _create(member, num_classes=num_classes, **constant, **values)
        if in_channels != RGB:
            _set_channels(network, in_channels)
        return network

    sizes = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=int) for name in ("num_classes", "in_channels")]
    keywords = [Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=type(default)) for name, default in offered.items()]
    build.__signature__ = Signature([*sizes, *keywords])  # pyright: ignore[reportFunctionMemberAccess] (Python reads it, PEP 362)
    build.__annotations__ = {parameter.name: parameter.annotation for parameter in (*sizes, *keywords)}
    build.__doc__ = (
        f"Return torchvision's {member}; dropout is the share of the last features that are set to zero, and image_size 0 is the default "
        "of the network."
    )
    return build


def _create(member: str, **keywords: Any) -> nn.Module:
    from torchvision import models

    try:
        return models.get_model(member, weights=None, **keywords)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        listed = ", ".join(f"{name}={value}" for name, value in keywords.items())
        raise CnnkitError(
            f"torchvision/{member} cannot be built with {listed}: {type(error).__name__}: {error}; "
            f"see cnnkit archs show torchvision/{member}"
        ) from error


def _set_channels(network: nn.Module, in_channels: int) -> None:
    """Let the first convolution take `in_channels` channels; its response to equal channels stays that to equal colours."""
    from torch import nn

    first = next(each for each in network.modules() if isinstance(each, nn.Conv2d))
    weight = first.weight.detach().sum(1, keepdim=True).expand(-1, in_channels, -1, -1) / in_channels
    first.weight = nn.Parameter(weight.contiguous())
    first.in_channels = in_channels


torchvision = Family(
    members=members,
    get=get,
    summary="every classifier of torchvision with its ImageNet weights, such as torchvision/resnet18",
)
