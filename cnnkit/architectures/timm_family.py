"""The family of timm's classifiers, such as ``timm/resnet18`` or ``timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k``.

Only this file and `stem` depend on timm's models. timm takes seconds to import, so it is imported for a member and not with
this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any

from cnnkit import Architecture, CnnkitError, Family, Pretrained

if TYPE_CHECKING:
    from timm.models import PretrainedCfg
    from torch import Tensor, nn

RGB = 3
ENCODER_SUFFIX = "_enc"  # of timm's vision encoders, which have no classifier


def members() -> list[str]:
    """Return the names of all classifiers that timm can build, sorted."""
    import timm

    return timm.list_models(exclude_filters=f"*{ENCODER_SUFFIX}")


@cache
def get(member: str) -> Architecture:
    """Return the architecture of the timm model `member`, whose name may include weights (``resnet18.a1_in1k``).

    Raises `KeyError` if timm does not have the classifier or the weights.
    """
    import timm

    try:
        settings = timm.get_pretrained_cfg(member) if _is_classifier(member) else None
    except RuntimeError as error:  # timm raises it for an unknown tag
        raise KeyError(member) from error
    if settings is None:
        raise KeyError(member)
    return Architecture(
        build=_build_function(member, settings),
        summary=f"{member} of timm {timm.__version__}",
        image_size=settings.input_size[-1],
        reference=f"https://huggingface.co/{settings.hf_hub_id}"
        if settings.hf_hub_id
        else "https://github.com/huggingface/pytorch-image-models",
        pretrained=_pretrained(member, settings),
    )


def _is_classifier(member: str) -> bool:
    import timm

    return timm.is_model(member) and not member.partition(".")[0].endswith(ENCODER_SUFFIX)


def _build_function(member: str, settings: PretrainedCfg) -> Callable[..., nn.Module]:
    """Return `build` with the keywords that the network of this member takes."""
    defaults = _options(member, settings)

    def build(num_classes: int, in_channels: int, **chosen: Any) -> nn.Module:
        values = {**defaults, **chosen}
        small_images = values.pop("small_images", False)
        if image_size := values.pop("image_size", 0):
            values["img_size"] = image_size
        network = _create(member, num_classes=num_classes, in_chans=in_channels, **values)
        if image_size and not getattr(getattr(network, "patch_embed", None), "num_patches", 1):
            raise CnnkitError(f"timm/{member} cuts images into patches larger than {image_size} px; use a larger --image-size")
        if small_images:
            _keep_resolution(network, settings)
        return network

    sizes = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=int) for name in ("num_classes", "in_channels")]
    keywords = [Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=type(default)) for name, default in defaults.items()]
    build.__signature__ = Signature([*sizes, *keywords])  # pyright: ignore[reportFunctionMemberAccess] (Python reads it, PEP 362)
    build.__annotations__ = {parameter.name: parameter.annotation for parameter in (*sizes, *keywords)}
    build.__doc__ = f"""Return timm's {member}.

    `drop_rate` is the dropout before the last layer, `drop_path_rate` that of whole blocks. `small_images` leaves out the reductions
    of a stem made for 224 px. `image_size` is the size of the images in pixels; 0 is the default of the network.
    """
    return build


def _options(member: str, settings: PretrainedCfg) -> dict[str, bool | int | float]:
    """Return the options of a member with their defaults, read from a build without memory for weights (0.05-1 s)."""
    import torch

    with torch.device("meta"):
        network = _create(member)
    accepted = _accepted_keywords(type(network))
    offered: dict[str, bool | int | float] = {name: 0.0 for name in ("drop_rate", "drop_path_rate") if name in accepted}
    if not settings.fixed_input_size and _keep_resolution(network, settings):
        offered["small_images"] = False
    if settings.fixed_input_size and "img_size" in accepted:
        offered["image_size"] = 0
    return offered


def _accepted_keywords(network: type) -> set[str]:
    """Return the keywords that a class takes, including the keywords that it passes to its parents."""
    names: set[str] = set()
    for parent in network.__mro__[:-1]:
        parameters = signature(parent.__init__).parameters.values()
        names |= {parameter.name for parameter in parameters}
        if all(parameter.kind is not Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names


def _create(member: str, **keywords: Any) -> nn.Module:
    import timm

    try:
        return timm.create_model(member, pretrained=False, **keywords)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        options = ", ".join(f"{name}={value}" for name, value in keywords.items())
        raise CnnkitError(
            f"timm/{member} cannot be built with {options}: {type(error).__name__}: {error}; see cnnkit archs show timm/{member}"
        ) from error


def _keep_resolution(network: nn.Module, settings: PretrainedCfg) -> bool:
    from cnnkit.architectures.stem import keep_resolution

    names = settings.first_conv or ()
    return keep_resolution(network, [names] if isinstance(names, str) else names)


def _pretrained(member: str, settings: PretrainedCfg) -> Pretrained | None:
    """Return the published weights of a member, or None if timm has none for RGB images."""
    if not settings.has_weights or len(settings.mean) != RGB:
        return None
    mean, std = ((float(values[0]), float(values[1]), float(values[2])) for values in (settings.mean, settings.std))
    return Pretrained(
        fetch=lambda: _fetch(member),
        place=f"model.safetensors of https://huggingface.co/{settings.hf_hub_id}"
        if settings.hf_hub_id
        else str(settings.url or settings.file),
        image_size=settings.input_size[-1],
        mean=mean,
        std=std,
        interpolation="bilinear" if settings.interpolation == "bilinear" else "bicubic",
        crop=settings.crop_pct,
    )


def _fetch(member: str) -> Mapping[str, Tensor]:
    """Return the weights by the names of the network, downloaded by timm or read from its cache."""
    import timm

    try:
        return timm.create_model(member, pretrained=True).state_dict()
    except Exception as error:  # the hub client, the HTTP client and timm each raise their own types
        raise OSError(f"{type(error).__name__}: {error}") from error


timm_family = Family(
    members=members,
    get=get,
    summary="every classifier of timm, such as timm/resnet18",
)
