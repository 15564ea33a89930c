from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from cnnkit.api.training.data_dependent_init import StartsFromImages
from cnnkit.api.training.prepare import prepare
from cnnkit.architectures.fast_cnn import FastCNN, Whitening, build
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import CnnkitError


def photos(count: int = 64, channels: int = 3) -> torch.Tensor:
    """Return smooth noise, in which neighbouring pixels and colours are alike, as in photographs."""
    noise = torch.randn((count, channels, 16, 16), generator=torch.Generator().manual_seed(0))
    smooth = functional.avg_pool2d(functional.pad(noise, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    return 3 * (smooth + smooth.mean(1, keepdim=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_for_the_fitted_images_are_uncorrelated_with_unit_variance(channels: int) -> None:
    layer = Whitening(channels)
    images = photos(channels=channels)
    layer.fit(images)
    out = layer(images).detach()[:, : 4 * channels].transpose(0, 1).flatten(1).double()
    covariance = out @ out.T / out.shape[1]
    off = covariance - torch.diag(covariance.diagonal())
    assert float(off.abs().max()) < 1e-3
    assert 0.8 < float(covariance.diagonal().min()) <= float(covariance.diagonal().max()) < 1.01


def test_every_filter_has_its_negative() -> None:
    layer = Whitening(3)
    layer.fit(photos())
    torch.testing.assert_close(layer.weight[:12], -layer.weight[12:])


def test_constant_images_give_finite_filters() -> None:
    layer = Whitening(3)
    layer.fit(torch.zeros(4, 3, 8, 8))
    assert bool(torch.isfinite(layer.weight).all())


def test_the_first_layer_is_kept_in_the_file_but_not_learned() -> None:
    model = build(10, 3, width=8)
    assert "0.weight" in model.state_dict()
    assert "0.weight" not in dict(model.named_parameters())
    assert isinstance(model, StartsFromImages)


@pytest.mark.parametrize(("size", "expected"), [(32, [31, 15, 7, 3]), (8, [7, 3, 1, 1])])
def test_maps_shrink_to_no_less_than_a_pixel(size: int, expected: list[int]) -> None:
    model = build(10, 3, width=8).eval()
    maps = torch.zeros(2, 3, size, size)
    sizes: list[int] = []
    for layer in list(model.children())[:5]:
        maps = layer(maps)
        sizes.append(maps.shape[-1])
    assert [sizes[0], *sizes[2:]] == expected
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("options", "filters"), [({}, [64, 128, 256]), ({"width": 8, "middle": 4}, [8, 32, 32])])
def test_the_options_set_the_filters_of_the_groups(options: dict[str, Any], filters: list[int]) -> None:
    weights = build(10, 3, **options).state_dict()
    assert [weights[f"{group}.0.weight"].shape[0] for group in (2, 3, 4)] == filters
    assert weights["7.weight"].shape == (10, filters[-1])


def test_convolutions_start_as_the_identity() -> None:
    model = build(10, 3, width=32)
    first = model.state_dict()["2.0.weight"]
    for channel in range(24):
        assert first[channel, channel, 1, 1] == 1
        assert int(first[channel].count_nonzero()) == 1


# --- mirrored ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_the_output_of_a_mirrored_patch_is_the_twin_output(channels: int) -> None:
    layer = Whitening(channels, mirror=True)
    images = photos(channels=channels)
    before = layer(images)
    layer.fit(images)
    assert layer.twins is not None
    assert sorted(layer.twins.tolist()) == list(range(8 * channels))
    for fitted in (before, layer(images)):
        assert fitted.isfinite().all()
    torch.testing.assert_close(layer(images.flip(3)).flip(3)[:, layer.twins], layer(images), atol=1e-4, rtol=1e-4)


def test_mirrored_directions_are_whitened_too() -> None:
    layer, images = Whitening(3, mirror=True), photos()
    images = torch.cat([images, images.flip(3)])
    layer.fit(images)
    out = layer(images).detach()[:, :12].transpose(0, 1).flatten(1).double()
    covariance = out @ out.T / out.shape[1]
    assert float((covariance - torch.diag(covariance.diagonal())).abs().max()) < 1e-3
    assert 0.8 < float(covariance.diagonal().min()) <= float(covariance.diagonal().max()) < 1.01


@pytest.mark.parametrize("size", [16, 24, 32, 40])
@pytest.mark.parametrize("training", [False, True])
def test_a_mirrored_network_gives_an_image_and_its_mirror_image_the_same_logits(size: int, training: bool) -> None:
    model = build(5, 3, width=8, mirror=True)
    assert isinstance(model, FastCNN)
    model.start_from(photos())
    model(torch.randn(8, 3, 32, 32))  # changes the statistics of the normalisations
    model.train(training)
    images = torch.randn(4, 3, size, size)
    plain, mirrored = model(images), model(images.flip(3))
    torch.testing.assert_close(plain, mirrored, atol=1e-5, rtol=1e-4)
    assert float((plain[0] - plain[1]).detach().abs().max()) > 1e-3  # different images have different logits


def test_a_plain_network_gives_a_mirror_image_other_logits() -> None:
    model = build(5, 3, width=8).eval()
    images = torch.randn(4, 3, 32, 32)
    assert not torch.allclose(model(images), model(images.flip(3)), atol=1e-3)


def test_mirrored_convolutions_have_half_of_the_parameters() -> None:
    plain, mirrored = (dict(model.named_parameters()) for model in (build(10, 3, width=16), build(10, 3, width=16, mirror=True)))
    for name in ("2.0.weight", "3.4.weight"):
        assert mirrored[name].numel() * 2 == plain[name].numel()
    with pytest.raises(CnnkitError, match=r"--set width=7: must be even.*--set mirror=false"):
        build(10, 3, width=7, mirror=True)


@pytest.mark.parametrize(("flip", "mirror"), [("h", True), ("hv", True), ("v", False), ("none", False)])
def test_a_training_that_mirrors_images_builds_a_mirrored_network(image_folder, flip: str, mirror: bool) -> None:
    settings = by_section({"data": str(image_folder(images=4)), "arch": "fast-cnn", "set": ("width=8",), "precision": "fp32", "flip": flip})
    job = prepare(resolve(settings), dry_run=True)
    assert job.header.options["mirror"] is mirror
    assert any("mirror image (--set mirror=false" in note for note in job.notes) is mirror
    by_hand = resolve(by_section({**_flat(settings), "set": ("width=8", "mirror=false")}))
    assert prepare(by_hand, dry_run=True).header.options["mirror"] is False


def _flat(sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: value for section in sections.values() for name, value in section.items()}


def test_the_start_from_training_images_is_repeatable(image_folder) -> None:
    data = image_folder(images=12)
    settings = by_section({"data": str(data), "arch": "fast-cnn", "set": ("width=8",), "precision": "fp32"})
    jobs = [prepare(resolve(settings), dry_run=True) for _ in range(2)]
    models = [job.model for job in jobs]
    assert all(isinstance(model, FastCNN) for model in models)
    weights = [model.state_dict()["0.weight"] for model in models]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[0], build(3, 3, width=8).state_dict()["0.weight"])
