"""The contract test of architectures finds every broken promise and names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnkit import Architecture, CnnkitError
from cnnkit.testing import ArchitectureCheckError, check_architecture


class Good(nn.Module):
    """A network that keeps the contract; each bad network below changes one thing."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, num_classes)

    def maps(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)).relu()

    def forward(self, images: Tensor) -> Any:
        return self.head(F.dropout(self.maps(images).mean((2, 3)), 0.5, self.training))


class WrongShape(Good):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[:, :-1]


class TwoOutputs(Good):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images), images


class NotFinite(Good):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images) / 0


class Unused(Good):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.spare = nn.Linear(2, 2)


class Frozen(Good):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> Any:
        return super().forward(images) + torch.zeros(1, requires_grad=True)


class AlwaysDrops(Good):
    def forward(self, images: Tensor) -> Any:
        return self.head(F.dropout(self.maps(images).mean((2, 3)), 0.5, training=True))


class Mixes(Good):
    def forward(self, images: Tensor) -> Any:
        features = self.maps(images).mean((2, 3))
        return self.head(features - 0.5 * features.mean(0))


class ReadsMemory(Good):
    def forward(self, images: Tensor) -> Any:
        maps = self.maps(images)
        flat = maps.as_strided((len(maps), 6, maps[0, 0].numel()), (maps.stride(0), maps[0, 0].numel(), 1))
        return self.head(flat.mean(2))


class OwnRandomness(Good):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        with torch.no_grad():
            self.head.weight += torch.from_numpy(np.random.default_rng().normal(size=self.head.weight.shape)).float()


class KeepsOutsideTheState(Good):
    seen = 0.0

    def forward(self, images: Tensor) -> Any:
        if self.training:
            self.seen += 1.0
        return super().forward(images) + self.seen


class RenamesItsWeights(Good):
    made = 0

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        RenamesItsWeights.made += 1
        if RenamesItsWeights.made > 5:
            self.extra = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Any:
        return super().forward(images) + getattr(self, "extra", 0)


def architecture(build: Callable[..., Any]) -> Architecture:
    return Architecture(build=build, summary="for a test", image_size=16)


def test_a_good_architecture_passes() -> None:
    check_architecture(architecture(Good), "good")


def test_the_check_does_not_change_the_global_random_state() -> None:
    torch.manual_seed(3)
    expected = torch.randn(1)
    torch.manual_seed(3)
    check_architecture(architecture(Good))
    assert torch.equal(torch.randn(1), expected)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (WrongShape, r"returns shape \(3, 1\) with 2 classes, 1 channels and 16 px; expected logits \(3, 2\)"),
        (TwoOutputs, r"returns a tuple .*expected one tensor of logits"),
        (NotFinite, r"returns logits that are not finite"),
        (Unused, r"parameter 'spare.weight' takes no part in the logits .*its gradient is None"),
        (Frozen, r"has no trainable parameters"),
        (AlwaysDrops, r"in eval mode gives other logits for the same images .*is dropout switched off\?"),
        (Mixes, r"in eval mode lets images of a batch change each other's logits"),
        (ReadsMemory, r"gives other logits with channels_last .*use flatten or reshape, never view"),
        (OwnRandomness, r"built twice under torch.manual_seed\(1\) differs in 'head.weight'"),
        (KeepsOutsideTheState, r"gives other logits after its state dict was saved and loaded"),
        (RenamesItsWeights, r"a second build does not accept the state dict of the first"),
        (lambda num_classes, in_channels: (num_classes, in_channels), r"its build returns a tuple, not a torch.nn.Module"),
    ],
)
def test_each_broken_promise_is_named(network: Callable[..., Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RenamesItsWeights, "made", 0)
    with pytest.raises(ArchitectureCheckError, match=f"^broken-net: .*{message}"):
        check_architecture(architecture(network), "broken-net")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"summary": " "}, "needs a summary"), ({"image_size": 0}, "image_size is 0; it must be the width and height")],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchitectureCheckError, match=message):
        check_architecture(replace(architecture(Good), **changes))


def test_a_cam_layer_that_is_not_a_module_is_named() -> None:
    check_architecture(replace(architecture(Good), cam_layer="norm"))
    with pytest.raises(ArchitectureCheckError, match="cam_layer is 'norms', which is not a module of the network; did you mean 'norm'"):
        check_architecture(replace(architecture(Good), cam_layer="norms"))


@pytest.mark.parametrize(("kind", "default"), [(int, 4.5), (str, None), (bool, 2)])
def test_an_option_whose_default_has_another_type_is_named(kind: type, default: Any) -> None:
    def build(num_classes: int, in_channels: int, *, width: Any = default) -> nn.Module:
        del width
        return Good(num_classes, in_channels)

    build.__annotations__["width"] = kind
    with pytest.raises(ArchitectureCheckError, match=rf"option 'width' has type {kind.__name__}, which cannot hold its default {default}"):
        check_architecture(architecture(build))


def test_the_option_image_size_is_set_to_the_size_of_the_images() -> None:
    asked: set[int] = set()

    def build(num_classes: int, in_channels: int, *, image_size: int = 0) -> nn.Module:
        """Return the network for images of `image_size` pixels."""
        asked.add(image_size)
        return Good(num_classes, in_channels)

    check_architecture(replace(architecture(build), image_size=48))
    assert asked == {32, 48}


def test_the_error_is_a_cnnkit_error_and_an_assertion_error() -> None:
    assert issubclass(ArchitectureCheckError, CnnkitError)
    assert issubclass(ArchitectureCheckError, AssertionError)
