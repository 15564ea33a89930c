from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.architecture import Architecture, parse_options
from cnnkit.errors import CnnkitError, ConfigError
from cnnkit.explain import gradcam
from cnnkit.explain.gradcam import GradCam
from cnnkit.registry import load_architecture

# Options that build fast, the expected layer, and the size of its maps at 32 px.
BUILT_IN = {
    "custom-cnn": (["width=4"], "7", 8),  # the ReLU before the last pooling, not the average grid
    "deep-cnn-8": (["width=4"], "9", 4),
    "deep-cnn-14": (["width=4"], "16", 2),
    "residual-cnn": (["width=4"], "8", 4),
    "fast-cnn": (["width=4"], "4", 3),
}


class Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def linear_network(weights: list[list[float]]) -> nn.Sequential:
    """Return a network with logit k = sum over c of w[k, c] * mean of channel c, behind an identity convolution."""
    matrix = torch.tensor(weights)
    same = nn.Conv2d(matrix.shape[1], matrix.shape[1], 1, bias=False)
    same.weight.data = torch.eye(matrix.shape[1])[:, :, None, None]
    head = nn.Linear(matrix.shape[1], len(matrix), bias=False)
    head.weight.data = matrix
    return nn.Sequential(same, Mean(), head)


def test_the_map_of_a_linear_network_is_its_weighted_channels(model_of, noise):
    weights = [[2.0, -1.0, 0.5], [-3.0, 1.0, 0.0]]
    canvases = noise(4, 8)
    cam = GradCam(model_of(linear_network(weights)))
    values = canvases.float() / 255
    for label in (0, 1):
        # The gradient of a mean over 64 positions is 1/64 at each, so equation 1 gives w / 64.
        expected = torch.einsum("c,nchw->nhw", torch.tensor(weights[label]), values).clamp(min=0) / 64
        torch.testing.assert_close(cam.maps(canvases, [label] * 4), expected)
        most = expected.amax((1, 2), keepdim=True)
        np.testing.assert_allclose(cam.heat_maps(canvases, [label] * 4), expected / most, atol=1e-6)


def test_each_canvas_is_explained_for_its_own_class(model_of, noise):
    cam = GradCam(model_of(linear_network([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])))
    canvases = noise(2, 8)
    mixed = cam.heat_maps(canvases, np.array([0, 1]))
    np.testing.assert_allclose(mixed[0], cam.heat_maps(canvases[:1], [0])[0], atol=1e-6)
    np.testing.assert_allclose(mixed[1], cam.heat_maps(canvases[1:], [1])[0], atol=1e-6)
    assert abs(mixed[1] - cam.heat_maps(canvases[1:], [0])[0]).max() > 0.1


def test_a_map_without_evidence_is_zero_everywhere(model_of, noise):
    heat = GradCam(model_of(linear_network([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))).heat_maps(noise(2, 8), [0, 1])
    assert (heat[0] == 0).all()
    assert heat[1].max() == 1


class Corner(nn.Module):
    """A network that uses the upper left quarter alone: class 0 is bright, class 1 dark."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True)
        )
        for parameter in self.features.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.features(images)
        corner = torch.zeros_like(seen)
        corner[..., :8, :8] = 1
        bright = (seen * corner).square().sum((1, 2, 3))
        return torch.stack([bright, -bright], 1)


class CornerFirst(Corner):
    """A `Corner` that hides the other quarters before the convolutions."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.zeros_like(images)
        hidden[..., :8, :8] = images[..., :8, :8]
        bright = self.features(hidden).sum((1, 2, 3))
        return torch.stack([bright, -bright], 1)


def test_the_heat_of_a_network_that_uses_one_corner_is_in_that_corner(model_of):
    inside = torch.full((1, 3, 16, 16), 20, dtype=torch.uint8)
    inside[..., 2:6, 2:6] = 255
    heat = GradCam(model_of(Corner(), size=16)).heat_maps(inside, [0])[0]
    assert np.unravel_index(heat.argmax(), heat.shape)[0] in range(2, 6)
    assert heat[:8, :8].mean() > 2 * heat[8:, 8:].mean()


def test_hidden_parts_of_the_image_have_no_heat(model_of):
    white = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    network = CornerFirst()
    for layer in (network.features[0], network.features[2]):
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    heat = GradCam(model_of(network, size=16)).heat_maps(white, [0])[0]
    assert heat[:8, :8].min() > 0.3
    assert heat[11:, :].max() == heat[:, 11:].max() == 0


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_architecture_is_explained_before_its_pooling(name, model_of, noise):
    torch.manual_seed(0)
    architecture, _ = load_architecture(name)
    settings, layer, size = BUILT_IN[name]
    module = architecture.build(3, 3, **parse_options(architecture, name, settings))
    cam = GradCam(model_of(module, 3, size=32, arch=name))
    assert (cam.layer.name, cam.layer.grid.size) == (layer, size)
    assert_explains(cam, noise(3, 32))


def assert_explains(cam: GradCam, canvases: Tensor) -> None:
    size = canvases.shape[-1]
    heat = cam.heat_maps(canvases, [0, 1, 2])
    assert heat.shape == (3, size, size)
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all()
    assert (heat >= 0).all()
    assert set(heat.max((1, 2))) <= {0.0, 1.0}
    assert heat.max() == 1
    np.testing.assert_array_equal(heat, cam.heat_maps(canvases, [0, 1, 2]))
    np.testing.assert_allclose(heat[1:2], cam.heat_maps(canvases[1:2], [1]), atol=2e-4)


TIMM = {
    "resnet18": (64, "layer4", 2),
    "mobilenetv3_small_050": (64, "blocks", 2),
    "tf_efficientnet_lite0": (64, "bn2", 2),
    "convnext_atto": (64, "stages", 2),
    "vit_tiny_patch16_224": (64, "blocks.11.norm1", 4),  # after the last attention only the class token matters
    "deit_tiny_distilled_patch16_224": (64, "blocks.11.norm1", 4),
    "swin_tiny_patch4_window7_224": (64, "norm", 2),
    "mixer_s32_224": (64, "norm", 2),
    "levit_128s": (224, "stages", 4),  # attention merges the tokens of a convolution
}


SLOW = ("swin_tiny_patch4_window7_224", "mixer_s32_224", "levit_128s", "deit_tiny_distilled_patch16_224")


@pytest.mark.parametrize("member", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TIMM])
def test_networks_of_timm_are_explained_before_their_pooling(member, model_of, noise):
    torch.manual_seed(0)
    size, layer, grid_size = TIMM[member]
    architecture, _ = load_architecture(f"timm/{member}")
    options = parse_options(architecture, member, ())
    if "image_size" in options:
        options["image_size"] = size
    module = architecture.build(3, 3, **options)
    for name, parameter in module.named_parameters():  # new residual branches and heads are almost zero
        if parameter.ndim == 1 and name.endswith(("weight", "gamma")):
            nn.init.ones_(parameter)
        elif parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter)
    cam = GradCam(model_of(module, 3, size=size, arch=f"timm/{member}"))
    assert (cam.layer.name, cam.layer.grid.size) == (layer, grid_size)
    assert_explains(cam, noise(3, size))


def test_a_block_and_its_last_layer_name_the_same_maps(model_of, noise):
    block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    model = model_of(nn.Sequential(block, Mean(), nn.Linear(4, 2)))
    by_default, by_name = GradCam(model), GradCam(model, "0.1")
    assert by_default.layer.name == "0"
    torch.testing.assert_close(by_default.maps(noise(2, 8), [0, 1]), by_name.maps(noise(2, 8), [0, 1]))


def test_an_image_shifted_by_a_patch_shifts_the_heat_of_its_tokens(model_of, noise):
    """Tokens must return to their positions row by row; this network does not mix patches."""

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Conv2d(3, 5, 4, stride=4)
            self.start = nn.Parameter(torch.zeros(1, 2, 5))
            self.mix = nn.Sequential(nn.Linear(5, 5), nn.GELU())
            self.head = nn.Linear(5, 2)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.cut(images).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.start.expand(len(tokens), -1, -1), tokens], 1)
            return self.head(self.mix(tokens).mean(1))

    torch.manual_seed(3)
    cam = GradCam(model_of(Patches(), size=16))
    assert (cam.layer.name, cam.layer.grid.prefix) == ("mix", 2)
    canvas = noise(1, 16)
    maps = cam.maps(canvas, [0])[0]
    assert maps.max() > 0
    torch.testing.assert_close(cam.maps(canvas.roll((4, 8), (2, 3)), [0])[0], maps.roll((1, 2), (0, 1)))


def test_the_model_does_not_change(model_of, noise):
    module = linear_network([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    module[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.inference_mode():  # a caller may have switched gradients off
        heat = GradCam(model_of(module)).heat_maps(noise(2, 8), [0, 1])
    assert heat.max() == 1
    assert torch.is_grad_enabled()
    assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in module.modules())
    assert not module[0].weight.requires_grad
    assert module[2].weight.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())


def test_hooks_are_removed_when_the_network_fails(model_of, noise):
    module = linear_network([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    cam = GradCam(model_of(module))
    with pytest.raises(RuntimeError):
        cam.maps(noise(1, 8, channels=2), [0])
    assert not any(part._forward_hooks for part in module.modules())
    assert torch.is_grad_enabled()


def test_a_layer_is_chosen_by_name(model_of, noise):
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), Mean(), nn.Linear(4, 2)
    )
    model = model_of(module)
    assert GradCam(model).layer.grid.size == 2
    assert GradCam(model, "1").maps(noise(1, 8), [0]).shape == (1, 8, 8)


def test_the_error_for_a_wrong_layer_lists_the_layers_with_maps(model_of):
    model = model_of(linear_network([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    with pytest.raises(ConfigError, match=r"--layer 9: Sequential has no such layer.*Layers with maps: 0$"):
        GradCam(model, "9")
    with pytest.raises(ConfigError, match=r"--layer 2: .* is not a map of the image that the logits depend on\. Layers with maps: 0$"):
        GradCam(model, "2")


def test_an_architecture_may_name_its_layer(model_of, monkeypatch):
    named = Architecture(build=linear_network, summary="", image_size=8, cam_layer="0")
    monkeypatch.setattr(gradcam, "load_architecture", lambda _: (named, None))
    module = nn.Sequential(*linear_network([[1.0, 0.0, 0.0]]))
    module.insert(1, nn.ReLU())
    assert GradCam(model_of(module)).layer.name == "0"
    assert GradCam(model_of(module), "1").layer.name == "1"


def test_a_network_without_maps_is_refused_with_another_method(model_of):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 2))
    reason = r"Grad-CAM needs a layer whose output is a map.*no module of Sequential.*for images of 8 px; use --method occlusion"
    with pytest.raises(CnnkitError, match=reason):
        GradCam(model_of(flat))


def test_an_unknown_class_index_is_refused(model_of, noise):
    cam = GradCam(model_of(linear_network([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])))
    for classes in ([2], [-1], [0, 1]):
        with pytest.raises(CnnkitError, match="classes must be 1 class indices from 0 to 1, one per canvas"):
            cam.maps(noise(1, 8), classes)
    assert cam.heat_maps(noise(0, 8), []).shape == (0, 8, 8)


def test_gradcam_equals_captum(model_of, noise):
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    architecture, _ = load_architecture("residual-cnn")
    module = architecture.build(3, 3, **parse_options(architecture, "residual-cnn", ["width=4"]))
    cam = GradCam(model_of(module, 3, size=32))
    canvases, classes = noise(3, 32), torch.tensor([2, 0, 1])
    images = canvases.float() / 255
    theirs = attr.LayerGradCam(module, module.get_submodule(cam.layer.name)).attribute(images, target=classes, relu_attributions=True)
    torch.testing.assert_close(cam.maps(canvases, classes), theirs[:, 0].detach(), atol=1e-6, rtol=0)
    large = attr.LayerAttribution.interpolate(theirs, (32, 32), "bilinear")[:, 0].detach()
    heat = large / large.amax((1, 2), keepdim=True).clamp(min=1e-30)
    assert (heat.amax((1, 2)) == 1).sum() >= 2
    torch.testing.assert_close(torch.from_numpy(cam.heat_maps(canvases, classes)), heat, atol=1e-6, rtol=0)
