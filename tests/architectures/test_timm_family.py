"""The family of timm's classifiers, on real members, without downloads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cnnkit import CnnkitError
from cnnkit.architecture import options, parse_options
from cnnkit.architectures.timm_family import get, members, timm_family
from cnnkit.testing import check_architecture

SMALL_NETS = ("resnet18", "mobilenetv3_small_100", "tf_efficientnet_lite0", "convnext_atto")
TRANSFORMERS = ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")


def names_of_options(member: str) -> set[str]:
    return set(options(get(member), member))


def test_importing_the_family_imports_neither_torch_nor_timm() -> None:
    code = "import sys, cnnkit.architectures.timm_family; sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_members_are_the_classifiers_of_timm() -> None:
    names = members()
    assert len(names) > 1000
    assert {*SMALL_NETS, *TRANSFORMERS} < set(names)
    assert not [name for name in names if name.endswith("_enc")]
    assert timm_family.members is members


@pytest.mark.parametrize("name", ["resnet19", "resnet18.no_such_weights", "", "gemma4_vit_167m_enc"])
def test_an_unknown_member_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        get(name)


@pytest.mark.parametrize("member", SMALL_NETS)
def test_convolutional_networks_offer_a_stem_for_small_images(member: str) -> None:
    assert names_of_options(member) == {"drop_rate", "drop_path_rate", "small_images"}


@pytest.mark.parametrize("member", TRANSFORMERS)
def test_transformers_offer_their_image_size(member: str) -> None:
    assert names_of_options(member) == {"drop_rate", "drop_path_rate", "image_size"}


def test_an_option_that_a_network_does_not_take_is_not_offered() -> None:
    assert names_of_options("vgg11") == {"drop_rate"}


@pytest.mark.parametrize("member", SMALL_NETS)
def test_with_small_images_32_pixels_end_as_a_map_of_4_by_4(member: str) -> None:
    images = torch.randn(2, 1, 32, 32)
    network = get(member).build(7, 1, small_images=True).eval()
    with torch.no_grad():
        assert network.forward_features(images).shape[2:] == (4, 4)
        assert network(images).shape == (2, 7)


def test_small_images_change_neither_names_nor_shapes_of_weights() -> None:
    shapes = [
        {name: tensor.shape for name, tensor in get("mobilenetv3_small_100").build(7, 3, small_images=small).state_dict().items()}
        for small in (False, True)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("member", TRANSFORMERS)
def test_transformers_are_built_for_an_image_size(member: str) -> None:
    with torch.no_grad():
        logits = get(member).build(7, 1, image_size=64).eval()(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 7)


def test_drop_rate_reaches_the_network() -> None:
    assert get("resnet18").build(7, 3, drop_rate=0.25).drop_rate == 0.25


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(
        CnnkitError, match=r"timm/vit_tiny_patch16_224 cuts images into patches larger than 8 px; use a larger --image-size"
    ):
        get("vit_tiny_patch16_224").build(7, 3, image_size=8)


def test_a_failed_build_of_timm_is_a_cnnkit_error() -> None:
    with pytest.raises(CnnkitError, match=r"timm/resnet18 cannot be built with .*drop_path_rate=-?\w+.*; see cnnkit archs show timm/"):
        get("resnet18").build(7, 3, drop_path_rate="high")


def test_published_weights_carry_their_preprocessing() -> None:
    weights = get("tf_efficientnet_lite0").pretrained
    assert weights is not None
    assert weights.place == "model.safetensors of https://huggingface.co/timm/tf_efficientnet_lite0.in1k"
    assert (weights.image_size, weights.interpolation, weights.crop) == (224, "bicubic", 0.875)
    assert (weights.mean, weights.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_member_may_name_its_weights() -> None:
    one, other = (get(name).pretrained for name in ("resnet18.a1_in1k", "resnet18.tv_in1k"))
    assert one is not None
    assert other is not None
    assert one.place != other.place
    assert (one.interpolation, other.interpolation) == ("bicubic", "bilinear")


def test_a_member_without_published_weights_has_none() -> None:
    assert get("nf_resnet26").pretrained is None


def test_weights_that_cannot_be_fetched_are_an_os_error_with_the_cause() -> None:
    weights = get("tf_efficientnet_lite0").pretrained
    assert weights is not None
    with pytest.raises(OSError, match=r"\w+Error|\w+NotFound"):
        weights.fetch()


def test_fetched_weights_are_the_state_dict_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create: Callable[..., torch.nn.Module] = timm.create_model
    asked: list[bool] = []

    def offline(name: str, *, pretrained: bool) -> torch.nn.Module:
        asked.append(pretrained)
        return create(name, pretrained=False)

    monkeypatch.setattr(timm, "create_model", offline)
    weights = get("resnet10t").pretrained
    assert weights is not None
    asked.clear()
    assert {"conv1.0.weight", "fc.bias"} < set(weights.fetch())
    assert asked == [True]


@pytest.mark.parametrize(
    "member",
    ["resnet18", "mobilenetv3_small_050", pytest.param("vit_tiny_patch16_224", marks=pytest.mark.slow)],
)
def test_members_keep_the_contract_of_architectures(member: str) -> None:
    check_architecture(replace(get(member), image_size=64), f"timm/{member}")


def test_options_are_read_from_text() -> None:
    chosen = parse_options(get("resnet18"), "timm/resnet18", ["small-images=yes", "drop_rate=0.1"])
    assert chosen == {"small_images": True, "drop_rate": 0.1, "drop_path_rate": 0.0}
