"""Stems for small images: removing the reductions at the start of networks made for 224-pixel photos.

A ResNet reduces by 4 before its first block (a convolution of stride 2, a max-pooling), so a 32-pixel image becomes 8x8. Without
both reductions it stays 32x32, as in the CIFAR ResNets of arXiv:1512.03385, section 4.2. Only strides change: every weight
keeps its name and shape, so published weights still load.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

# Names of the stem's pooling in ResNet, SENet, DenseNet, DPN, and networks with a module `stem`.
POOL_NAMES = ("maxpool", "pool0", "features.pool0", "features.conv1_pool", "stem.pool")


def keep_resolution(network: nn.Module, first_convs: Iterable[str]) -> bool:
    """Remove the reductions from the stem of `network`, in place; return whether there was one.

    `first_convs` names the convolutions that read the image. A network does not change if its first convolution does not
    reduce, or cuts the image into patches for attention.
    """
    convs = [network.get_submodule(name) for name in first_convs if "patch_embed" not in name]
    strided = [conv for conv in convs if isinstance(conv, nn.Conv2d) and max(conv.stride) > 1]
    for conv in strided:
        _unstride(conv)
    if strided and not _drop_pool(network):
        _unstride_first_block(network)
    return bool(strided)


def _unstride(conv: nn.Conv2d) -> None:
    if conv.kernel_size == conv.stride:  # patches, as in ConvNeXt; overlapping ones need padding (32 pixels become 33, then 16)
        conv.padding = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
    conv.stride = (1, 1)


def _drop_pool(network: nn.Module) -> bool:
    """Remove the max-pooling of the stem, unless it has weights that a file may hold; return whether it was removed."""
    modules = dict(network.named_modules())
    name = next((name for name in POOL_NAMES if name in modules), None)
    if name is None or any(True for _ in modules[name].parameters()):
        return False
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return True


def _unstride_first_block(network: nn.Module) -> None:
    """Keep the resolution through the first reducing block of a MobileNet or EfficientNet, which have no pooling.

    These networks reduce by 32. With the stem and this block at stride 1, a 32-pixel image ends as 4x4, as in the ResNet.
    """
    blocks = getattr(network, "blocks", None)
    if not (isinstance(blocks, nn.Sequential) and isinstance(getattr(network, "conv_stem", None), nn.Conv2d)):
        return
    for block in (block for stage in blocks for block in stage.children()):
        strided = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1]
        for conv in strided:
            conv.stride = (1, 1)
        if strided:
            return
