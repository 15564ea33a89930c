from __future__ import annotations

from torch import nn

from cnnkit import Architecture
from cnnkit.model.size import measure
from cnnkit.registry import Entry

ENTRY = Entry("cnnkit.architectures", "one", "one:one", "cnnkit-one", "0.3")


def build(num_classes: int, in_channels: int, *, image_size: int = 0) -> nn.Module:
    del image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 5, 3, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, num_classes)
    )


def test_the_size_counts_parameters_and_multiply_adds() -> None:
    size = measure(Architecture(build=build, summary="one convolution", image_size=8), ENTRY, {}, num_classes=4)
    assert size.parameters == 3 * 5 * 9 + 5 * 4 + 4
    assert size.macs == 8 * 8 * 3 * 5 * 9 + 5 * 4


def test_the_option_image_size_sets_the_measured_size() -> None:
    size = measure(Architecture(build=build, summary="one convolution", image_size=8), ENTRY, {"image_size": 16}, num_classes=4)
    assert size.image_size == 16
    assert size.macs == 16 * 16 * 3 * 5 * 9 + 5 * 4
