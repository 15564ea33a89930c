from __future__ import annotations

import math
from importlib import metadata

import pytest
import torch
from torch import nn

from cnnkit.model.header import ModelHeader
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.proof import TOLERANCE, logit_difference, missing_package, proof_canvas, proof_logits, versions_and_remedy
from cnnkit.registry import Entry

SPEC = Preprocessing(image_size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


class Net(nn.Module):
    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), activation or nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Dropout(0.5))
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(images).mean((2, 3)))


def logits(module: nn.Module) -> tuple[float, ...]:
    found = proof_logits(module, SPEC)
    assert found is not None
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_the_canvas_is_the_same_everywhere_and_varied(channels):
    spec = Preprocessing(image_size=20, channels=channels, mean=(0.5,), std=(0.2,))
    canvas = proof_canvas(spec)
    assert canvas.shape == (1, channels, 20, 20)
    assert canvas.dtype == torch.uint8
    assert canvas[0, 0, 3, 5] == (3 * 5 + 7 * 5 + 13 * 3) % 256
    assert len(canvas.unique()) > 150


def test_logits_are_those_of_eval_mode_and_need_no_gradient():
    module = Net().train()
    assert logits(module) == logits(module)
    assert not module.training


def test_memory_format_and_threads_make_no_difference_that_counts():
    module = Net()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        other = logits(Net().to(memory_format=torch.channels_last))
    finally:
        torch.set_num_threads(threads)
    assert logit_difference(logits(module), other) < TOLERANCE / 50


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.GELU(), nn.LeakyReLU(0.1)])
def test_another_activation_makes_a_difference(activation):
    assert logit_difference(logits(Net()), logits(Net(activation))) > 10 * TOLERANCE


@pytest.mark.parametrize("forward", [lambda logits: logits * math.nan, lambda logits: logits[0], lambda logits: [logits]])
def test_what_is_no_finite_row_of_logits_is_none(forward):
    module = Net()
    module.register_forward_hook(lambda *given: forward(given[-1]))
    assert proof_logits(module, SPEC) is None


@pytest.mark.parametrize(
    ("recorded", "found", "difference"),
    [
        ((4.0, -8.0), (4.0, -8.0), 0),
        ((4.0, -8.0), (5.0, -8.0), 1 / 8),
        ((0.0, 0.0), (0.0, 0.0), 0),
        ((0.0, 0.0), (0.0, 0.1), math.inf),
        ((4.0, -8.0), (4.0,), math.inf),
        ((4.0, -8.0), None, math.inf),
    ],
)
def test_a_difference_is_a_share_of_the_largest_logit(recorded, found, difference):
    assert logit_difference(recorded, found) == difference


BUILTIN = Entry("cnnkit.architectures", "timm", "cnnkit.architectures.timm_family:timm", "cnnkit", "0.1.0")
ACME = Entry("cnnkit.architectures", "net", "acme_nets:net", "acme-nets", "2.0")
INSTALLED = {"cnnkit": "0.1.0", "acme-nets": "2.0", "timm": "1.0.20", "torch": "2.9.0"}


@pytest.fixture
def packages(monkeypatch):
    def version(name: str) -> str:
        if name not in INSTALLED:
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr("cnnkit.model.proof.metadata.version", version)


def header(arch: str, package: str | None, **versions: str) -> ModelHeader:
    spec = Preprocessing(image_size=8, mean=(0.5,), std=(0.2,))
    named = {name.replace("_", "-"): version for name, version in versions.items()}
    return ModelHeader(arch=arch, options={}, classes=("a", "b"), preprocessing=spec, package=package, versions=named)


@pytest.mark.usefixtures("packages")
def test_a_plugin_of_another_version():
    assert versions_and_remedy(header("net", "acme-nets", acme_nets="1.0", torch="2.9.0"), ACME) == (
        "the file was written with acme-nets 1.0; installed: acme-nets 2.0; to use this model, type: pip install acme-nets==1.0"
    )


@pytest.mark.usefixtures("packages")
def test_timm_of_another_version():
    assert versions_and_remedy(header("timm/resnet18", "cnnkit", cnnkit="0.1.0", timm="1.0.9"), BUILTIN) == (
        "the file was written with cnnkit 0.1.0, timm 1.0.9; installed: cnnkit 0.1.0, timm 1.0.20; "
        "to use this model, type: pip install timm==1.0.9"
    )


@pytest.mark.usefixtures("packages")
def test_torch_is_named_and_installed_if_nothing_else_differs():
    assert versions_and_remedy(header("net", "acme-nets", acme_nets="2.0", torch="2.5.1+cu121"), ACME) == (
        "the file was written with acme-nets 2.0, torch 2.5.1+cu121; installed: acme-nets 2.0, torch 2.9.0; "
        "to use this model, type: pip install torch==2.5.1"
    )
    both = versions_and_remedy(header("net", "acme-nets", acme_nets="1.0", torch="2.5.1"), ACME)
    assert both.endswith("pip install acme-nets==1.0")


@pytest.mark.usefixtures("packages")
def test_the_same_versions_have_other_code():
    assert "acme-nets 2.0, so its code has changed under the same version: reinstall acme-nets as it was, or train again" in (
        versions_and_remedy(header("net", "acme-nets", acme_nets="2.0"), ACME)
    )


@pytest.mark.usefixtures("packages")
def test_another_package_with_the_same_name():
    found = versions_and_remedy(header("net", "other-nets", other_nets="3.0"), ACME)
    assert found == (
        "the file was written with other-nets 3.0; installed: acme-nets 2.0, other-nets (missing); "
        "to use this model, type: pip install other-nets==3.0"
    )


@pytest.mark.parametrize("package", ["gone-nets", None])
@pytest.mark.usefixtures("packages")
def test_a_missing_package_is_named_also_of_an_older_file(package):
    found = missing_package(header("gone", package, python="3.11", cnnkit="0.1.0", gone_nets="0.3", torch="2.9.0"))
    assert found == "needs 'gone' of gone-nets 0.3; installed: gone-nets (missing); type: pip install gone-nets==0.3"


@pytest.mark.usefixtures("packages")
def test_a_member_that_timm_no_longer_has_names_both_versions_of_timm():
    found = missing_package(header("timm/old_net", "cnnkit", cnnkit="0.1.0", timm="0.9.2"))
    assert found == (
        "needs 'timm/old_net' of cnnkit 0.1.0, timm 0.9.2; installed: cnnkit 0.1.0, timm 1.0.20; type: pip install timm==0.9.2"
    )


@pytest.mark.usefixtures("packages")
def test_names_and_versions_of_a_file_are_no_options_of_a_command():
    found = missing_package(header("gone", None, **{"__index_url=x": "1", "nets": "1; rm -rf ."}))
    assert found.endswith("type: pip install nets")
