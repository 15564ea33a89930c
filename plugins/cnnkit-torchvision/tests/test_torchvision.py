"""Tests of the plugin: members keep the contract, all names have weights with their preprocessing, and nothing is downloaded."""

from __future__ import annotations

import inspect
import re
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cnnkit_torchvision import get, members
from torch import Tensor, nn
from torchvision import models

from cnnkit import CnnkitError
from cnnkit.architecture import options
from cnnkit.cli.app import main
from cnnkit.model.file import load_model
from cnnkit.registry import load_architecture
from cnnkit.testing import check_architecture

SMALL = ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "mnasnet0_5"]
AUXILIARY = ["googlenet", "inception_v3"]


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.mark.parametrize("member", SMALL)
def test_members_keep_the_contract(member: str) -> None:
    check_architecture(get(member), f"torchvision/{member}")


def test_cnnkit_finds_members_by_name() -> None:
    architecture, entry = load_architecture("torchvision/resnet18")
    assert entry.package == "cnnkit-torchvision"
    assert architecture.summary.startswith("resnet18 of torchvision ")
    with pytest.raises(KeyError):
        get("resnet19")
    with pytest.raises(KeyError):
        get("fcn_resnet50")  # segmentation


def test_every_name_has_weights_with_their_preprocessing() -> None:
    assert len(members()) >= 80
    for member in members():
        architecture, transforms = get(member), models.get_model_weights(member)["DEFAULT"].transforms()
        weights = architecture.pretrained
        assert weights is not None
        assert weights.image_size == architecture.image_size == transforms.crop_size[0]
        assert round(weights.image_size / weights.crop) == transforms.resize_size[0]
        assert weights.interpolation == transforms.interpolation.value
        assert weights.place.endswith(".pth")
        if member not in AUXILIARY:
            assert (list(weights.mean), list(weights.std)) == (list(transforms.mean), list(transforms.std))
        assert set(options(architecture, member)) <= {"dropout", "image_size"}


@pytest.mark.parametrize("member", AUXILIARY)
def test_normalisation_of_the_older_weights_is_folded_into_mean_and_std(member: str) -> None:
    """With weights, torchvision normalises by ImageNet and transforms the result; one normalisation has the same result."""
    weights = get(member).pretrained
    assert weights is not None
    transforms = models.get_model_weights(member)["DEFAULT"].transforms()
    image = torch.rand(1, 3, 4, 4)

    def normalised(mean: Sequence[float], std: Sequence[float]) -> Tensor:
        return (image - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)

    with torch.device("meta"):
        network: nn.Module = models.get_model(member, weights=None, init_weights=False, transform_input=True)
    expected = network._transform_input(normalised(transforms.mean, transforms.std))  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(normalised(weights.mean, weights.std), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("member", AUXILIARY)
def test_auxiliary_classifiers_are_left_out(member: str) -> None:
    with torch.device("meta"):
        network = get(member).build(7, 3)
        logits = network.train()(torch.zeros(2, 3, 299, 299))
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 7)
    assert not [name for name, _ in network.named_parameters() if "aux" in name.lower()]


def test_a_gray_image_gives_the_logits_of_three_equal_channels() -> None:
    torch.manual_seed(0)
    colour = get("squeezenet1_1").build(5, 3).eval()
    torch.manual_seed(0)
    gray = get("squeezenet1_1").build(5, 1).eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(gray(image), colour(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_dropout_is_an_option_with_the_default_of_the_network() -> None:
    assert inspect.signature(get("squeezenet1_1").build).parameters["dropout"].default == 0.5
    network = get("squeezenet1_1").build(5, 3, dropout=0.25)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25]
    assert "dropout" not in options(get("resnet18"), "torchvision/resnet18")


def test_a_vision_transformer_takes_the_image_size() -> None:
    with torch.device("meta"):
        network = get("vit_b_32").build(5, 1, image_size=64)
        assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    with pytest.raises(CnnkitError, match=r"torchvision/vit_b_32 cannot be built with .*image_size=50"):
        get("vit_b_32").build(5, 3, image_size=50)


def test_fetched_weights_have_the_names_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    stored = models.squeezenet1_1().state_dict()
    monkeypatch.setattr(type(models.get_model_weights("resnet18")["DEFAULT"]).__mro__[1], "get_state_dict", lambda *_, **__: stored)
    network = get("squeezenet1_1").build(1000, 3)
    weights = get("squeezenet1_1").pretrained
    assert weights is not None
    network.load_state_dict(dict(weights.fetch()))
    assert torch.equal(network.state_dict()["features.0.weight"], stored["features.0.weight"])


def test_without_a_network_one_sentence_names_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    command = ["train", "--data", "digits", "--arch", "torchvision/squeezenet1_1", "--weights", "pretrained"]
    assert main([*command, "--epochs", "1", "--out", str(tmp_path / "runs")]) == 2
    said = capfd.readouterr().err
    assert "no network in tests" in said
    assert re.search(r"download https://\S+/squeezenet1_1-\w+\.pth on another machine", said)
    assert "Traceback" not in said


def test_resnet18_trains_on_digits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--data", "digits", "--arch", "torchvision/resnet18", "--epochs", "1", "--precision", "fp32"]
    assert main([*command, "--channels", "1", "--out", str(tmp_path)]) == 0, capfd.readouterr().err
    (written,) = tmp_path.glob("001-*/best.safetensors")
    assert load_model(written).header.preprocessing.channels == 1
