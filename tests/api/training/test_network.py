from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import cnnkit
from cnnkit.api.training import network as network_module
from cnnkit.api.training.network import Blueprint, build_network, choose_preprocessing, draw_up
from cnnkit.architecture import Architecture, Pretrained
from cnnkit.config.settings import ModelConfig, TrainConfig
from cnnkit.errors import CnnkitError, ConfigError, ModelFileError, PluginError
from cnnkit.model.file import load_model
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.registry import Entry
from cnnkit.registry.loading import fenced_architecture

KNOWN = Preprocessing(image_size=64, interpolation="bicubic", crop=0.8, mean=(0.3, 0.4, 0.8), std=(0.1, 0.2, 0.3), draft_side=360)
CLASSES = ("ants", "bees", "wasps")


def tiny(num_classes: int, in_channels: int, *, image_size: int = 7, small_images: bool = False, mirror: bool = False) -> nn.Module:
    """Build a network with every option that follows from the images."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that replaces every architecture by the given one."""

    def install(build: Callable[..., nn.Module], name: str = "plugin", **facts: Any) -> None:
        entry = Entry("cnnkit.architectures", name, f"{name}:{name}", f"cnnkit-{name}", "0.3")
        monkeypatch.setattr(
            network_module, "load_architecture", lambda _: (fenced_architecture(Architecture(build, "", 32, **facts), entry), entry)
        )

    return install


# --- the preprocessing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "size"),
    [(8, 32), (32, 32), (33, 40), (70, 72), (128, 128), (300, 128)],  # custom-cnn is meant for 128 px
)
def test_the_image_size_is_that_of_the_images_up_to_that_of_the_architecture(side, size):
    found, note = choose_preprocessing(draw_up(ModelConfig(arch="custom-cnn")), ModelConfig(arch="custom-cnn"), side)
    assert found.image_size == size
    assert note == f"images are {side} px (median of the shorter side): --image-size {size}"


@pytest.mark.parametrize(("pixels", "size"), [((40, 32), 32), ((70, 90), 72), ((300, 400), 128)])
def test_a_training_takes_the_image_size_from_its_images(image_folder, dry_job, pixels, size):
    assert dry_job(image_folder(images=4, size=pixels)).header.preprocessing.image_size == size


def blueprint(preprocessing: Preprocessing | None) -> Blueprint:
    drawn = draw_up(ModelConfig(arch="custom-cnn"))
    return Blueprint(drawn.name, drawn.architecture, drawn.entry, (), None, "file", preprocessing)


def test_a_requested_size_is_taken_without_a_note():
    assert choose_preprocessing(blueprint(None), ModelConfig(image_size=50), 300)[0].image_size == 50
    found, note = choose_preprocessing(blueprint(KNOWN), ModelConfig(image_size=50), 300)
    assert (found, note) == (KNOWN.model_copy(update={"image_size": 50}), None)


def test_the_preprocessing_of_weights_is_kept():
    assert choose_preprocessing(blueprint(KNOWN), ModelConfig(), 300) == (KNOWN, None)


def test_gray_images_take_the_mean_over_the_colours_of_the_weights():
    found, _ = choose_preprocessing(blueprint(KNOWN), ModelConfig(channels=1), 300)
    assert found.channels == 1
    assert (found.mean, found.std) == (pytest.approx((0.5,)), pytest.approx((0.2,)))


def test_pad_mode_crops_no_border():
    found, _ = choose_preprocessing(blueprint(KNOWN), ModelConfig(resize_mode="pad"), 300)
    assert (found.resize_mode, found.crop) == ("pad", 1.0)


def test_a_new_model_records_its_drafts_unless_they_are_switched_off():
    for known, side in ((None, 448), (KNOWN, 560), (KNOWN.model_copy(update={"draft_side": None}), 560)):  # 1.4 times 320, over crop
        for draft, expected in ((True, side), (False, None)):
            assert choose_preprocessing(blueprint(known), ModelConfig(image_size=320, draft=draft), 900)[0].draft_side == expected


def test_gray_images_train_a_network_of_one_channel(image_folder, dry_job):
    made = dry_job(image_folder(images=6), channels=1)
    assert made.batches.canvases.shape[1] == 1
    (images, _) = next(iter(made.batches.epoch(1)))
    assert made.model(images).shape == (len(images), 3)


# --- options ----------------------------------------------------------------------------------------------------------


def built(config: TrainConfig, *, size: int = 32, mirrors: bool = False) -> network_module.Network:
    preprocessing = Preprocessing(image_size=size, mean=(0.5,) * 3, std=(0.2,) * 3)
    return build_network(config, draw_up(config.model), CLASSES, preprocessing, mirrors=mirrors)


def test_options_that_follow_from_the_images_are_set_with_notes(installed, small_config):
    installed(tiny)
    network = built(small_config("x", arch="plugin", set=()), size=64, mirrors=True)
    assert network.options == {"image_size": 64, "small_images": True, "mirror": True}
    assert network.package == "cnnkit-plugin"
    assert network.notes == (
        "plugin gets its stem for small images (--set small_images=false: the original stem)",
        "plugin predicts the same for an image and its mirror image (--set mirror=false: it learns this instead)",
    )
    large = built(small_config("x", arch="plugin", set=()), size=65)
    assert (large.options, large.notes) == ({"image_size": 65, "small_images": False, "mirror": False}, ())


def test_options_set_by_hand_are_kept(installed, small_config):
    installed(tiny)
    network = built(small_config("x", arch="plugin", set=("image_size=9", "small_images=false", "mirror=no")), mirrors=True)
    assert network.options == {"image_size": 9, "small_images": False, "mirror": False}
    assert network.notes == ()


def test_the_seed_determines_the_weights(small_config):
    one, same, other = (built(small_config("x", seed=seed)).module.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_an_invalid_option_is_refused_with_its_limit(small_config):
    with pytest.raises(CnnkitError, match=r"--set blocks=0: option 'blocks' .* must be of type int, from 1 to 8"):
        built(small_config("x", set=("blocks=0",)))


def test_an_error_in_a_third_party_build_names_its_package(installed, small_config):
    def broken(num_classes: int, in_channels: int, *, width: int = 3) -> nn.Module:
        raise RuntimeError("no such width")

    installed(broken)
    with pytest.raises(PluginError) as refused:
        built(small_config("x", arch="plugin", set=()))
    assert "architecture 'plugin' of cnnkit-plugin 0.3 cannot be built for 3 classes and 3 channels with width=3" in str(refused.value)
    assert "RuntimeError: no such width" in str(refused.value)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_for_other_classes_keep_their_preprocessing_and_get_a_new_head(trained, image_folder, dry_job):
    file = trained.run / "best.safetensors"
    before = cnnkit.load_model(file)
    other = image_folder(classes=["hornets", "ladybirds"], images=8, size=(60, 50), folder="other")
    made = dry_job(other, weights=str(file), freeze_epochs=0)
    assert made.header.preprocessing == before.header.preprocessing
    assert made.config.recipe == "finetune"
    notes = "\n".join(made.notes)
    assert f"weights {file}: loaded" in notes
    assert "2 left as built, other shape" in notes
    assert "the new last layer is fitted before the first epoch" in notes
    old, new = before.module.state_dict(), made.model.state_dict()
    same = [name for name in old if old[name].shape == new[name].shape]
    assert len(same) == len(old) - 2
    assert all(torch.equal(old[name], new[name].cpu()) for name in same)


def test_a_head_for_other_classes_is_replaced_even_with_equal_shape(trained, image_folder, dry_job):
    file = str(trained.run / "best.safetensors")
    same = dry_job(image_folder(images=8, folder="same"), weights=file)
    other = dry_job(image_folder(classes=["cats", "dogs", "eels"], images=8, folder="other"), weights=file)
    old = cnnkit.load_model(file).module.state_dict()
    head = next(name for name in old if old[name].shape == (3, 32))
    assert torch.equal(same.model.state_dict()[head].cpu(), old[head])
    assert not torch.equal(other.model.state_dict()[head].cpu(), old[head])
    assert "left as built" not in "\n".join(same.notes)
    assert "2 left as built, other shape or classes" in "\n".join(other.notes)
    assert "the new last layer is fitted before the first epoch" in "\n".join(other.notes)


def test_frozen_epochs_train_the_head_alone(trained, image_folder):
    other = image_folder(classes=["hornets", "ladybirds"], images=8, folder="other")
    small: dict[str, Any] = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16}
    result = cnnkit.train(other, weights=str(trained.run / "best.safetensors"), epochs=1, freeze_epochs=1, **small)
    old, new = cnnkit.load_model(trained.run / "best.safetensors").module.state_dict(), result.model.module.state_dict()
    assert {name for name in new if new[name].shape != old[name].shape or not torch.equal(new[name], old[name])} == {
        name for name in new if new[name].shape != old[name].shape
    }


def test_the_head_is_named_if_epochs_are_frozen(trained, small_config):
    weights = str(trained.run / "best.safetensors")
    frozen = built(small_config("x", weights=weights, freeze_epochs=1))
    assert {frozen.module.get_parameter(name).shape for name in frozen.head} == {(3, 32), (3,)}
    assert built(small_config("x", weights=weights, freeze_epochs=0)).head == frozenset()


def test_weights_of_another_architecture_are_refused(small_config, tmp_path):
    save_file({"other.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="Was it made for another architecture"):
        built(small_config("x", weights=str(tmp_path / "other.safetensors")))


def test_weights_that_name_a_run_are_refused_with_its_model_file(trained, small_config):
    for name in (trained.run, trained.run.name):
        with pytest.raises(
            ConfigError, match=rf"--weights {name}: a run, and --weights takes a file; type: --weights .*/best\.safetensors"
        ):
            built(small_config("x", weights=str(name)))


def test_bare_weights_have_no_preprocessing_and_no_classes(trained, tmp_path):
    whole = trained.run / "best.safetensors"
    save_file(dict(load_model(whole).module.state_dict()), tmp_path / "bare.safetensors")
    small: dict[str, Any] = {"arch": "custom-cnn", "set": ("width=8", "blocks=2", "dense=32")}
    bare = draw_up(ModelConfig(weights=str(tmp_path / "bare.safetensors"), **small))
    known = draw_up(ModelConfig(weights=str(whole), **small))
    assert (bare.preprocessing, bare.classes) == (None, ())
    assert known.classes == CLASSES
    assert known.preprocessing == load_model(whole).header.preprocessing
    assert bare.weights is not None
    assert known.weights is not None
    assert bare.weights.keys() == known.weights.keys()


def test_published_weights_have_a_preprocessing_and_a_failed_download_names_the_address(installed):
    def lost() -> NoReturn:
        raise OSError("no route")

    facts: dict[str, Any] = {"image_size": 96, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "crop": 0.9}
    installed(tiny, pretrained=Pretrained(lambda: {"2.weight": torch.ones(1000, 3)}, "https://example.org/w", **facts))
    drawn = draw_up(ModelConfig(arch="plugin", weights="pretrained"))
    assert drawn.preprocessing == Preprocessing(**facts)
    assert drawn.weights is not None
    assert list(drawn.weights) == ["2.weight"]
    installed(tiny, pretrained=Pretrained(lost, "https://example.org/w", **facts))
    with pytest.raises(ModelFileError) as refused:
        draw_up(ModelConfig(arch="plugin", weights="pretrained"))
    assert str(refused.value) == (
        "--weights pretrained: the weights of plugin cannot be downloaded (no route); "
        "download https://example.org/w on another machine and name the file: --weights FILE.safetensors"
    )
    installed(tiny)
    with pytest.raises(ConfigError, match=r"plugin has no published weights; name a file: --weights FILE\.safetensors"):
        draw_up(ModelConfig(arch="plugin", weights="pretrained"))


# --- the trial batch --------------------------------------------------------------------------------------------------


def test_a_size_that_is_too_small_is_refused_with_one_that_works(image_folder, dry_job):
    data = image_folder(images=8)
    with pytest.raises(ConfigError) as refused:
        dry_job(data, arch="timm/inception_v3", set=(), image_size=16)
    assert str(refused.value).startswith(
        "--image-size (=16): timm/inception_v3 cannot train on images of 16 px (RuntimeError: Calculated padded input size per channel: "
    )
    assert str(refused.value).endswith("); of the sizes tried, the nearest that works is 48 px: --image-size 48")


def test_a_size_that_is_too_large_is_refused_with_one_that_works(image_folder, dry_job, installed):
    def rigid(num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 24 * 24, num_classes))

    installed(rigid, "rigid")
    with pytest.raises(
        ConfigError, match=r"--image-size \(=32\): rigid of cnnkit-rigid 0\.3 cannot .* 32 px \(.*\); .* works is 24 px: --image-size 24"
    ):
        dry_job(image_folder(images=8), arch="rigid", set=())


def test_a_network_that_is_built_for_its_size_is_built_anew_for_each_candidate(image_folder, dry_job, installed):
    def built_for(num_classes: int, in_channels: int, *, image_size: int = 8) -> nn.Module:
        width = in_channels * image_size * image_size if image_size in {16, 96} else 1
        return nn.Sequential(nn.Flatten(), nn.Linear(width, num_classes))

    installed(built_for, "picky")
    with pytest.raises(ConfigError, match=r"picky of cnnkit-picky 0\.3 cannot train on images of 32 px .* works is 96 px: --image-size 96"):
        dry_job(image_folder(images=8), arch="picky", set=())


def test_a_third_party_network_with_other_outputs_is_refused_with_its_package(image_folder, dry_job, installed):
    def fixed(num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, 1000))

    installed(fixed, "fixed")
    with pytest.raises(ConfigError) as refused:
        dry_job(image_folder(images=8), arch="fixed", set=())
    assert str(refused.value).startswith(
        "--arch fixed of cnnkit-fixed 0.3 cannot train on a batch of 9 images of 3 x 32 x 32 (it returns float32 of shape (9, 1000); "
        "expected logits of shape (9, 3), for 9 images and 3 classes); other image sizes do not help"
    )


def test_a_third_party_network_without_gradients_is_refused_with_its_package(image_folder, dry_job, installed):
    class Frozen(nn.Module):
        def forward(self, images):
            return images.mean((2, 3))

    def frozen(num_classes: int, in_channels: int) -> nn.Module:
        assert num_classes == in_channels
        return Frozen()

    installed(frozen, "frozen")
    with pytest.raises(
        ConfigError, match=r"--arch frozen of cnnkit-frozen 0\.3 cannot learn \(RuntimeError: element 0 of tensors does not"
    ):
        dry_job(image_folder(images=8), arch="frozen", set=())


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (
            6,
            1,
            r"--batch-size \(=1\): batches of one image, on which pooled cannot train \(ValueError: Expected more.*; try --batch-size 2",
        ),
        (7, 2, r"--batch-size \(=2\): \d+ training images leave a batch of one image, on which pooled cannot .*; try --batch-size 3"),
    ],
)
def test_a_batch_of_one_image_is_refused_where_the_network_cannot_train_on_it(
    image_folder, dry_job, installed, images, batch_size, message
):
    def pooled(num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(in_channels), nn.Flatten(), nn.Linear(in_channels, num_classes))

    installed(pooled, "pooled")
    data = image_folder(images=images)
    with pytest.raises(ConfigError, match=message):
        dry_job(data, arch="pooled", set=(), batch_size=batch_size)


# --- the start size ---------------------------------------------------------------------------------------------------


def test_a_start_size_is_below_the_image_size_and_accepted_by_the_network(image_folder, dry_job, installed):
    data = image_folder(images=4, size=(32, 32))
    fast: dict[str, Any] = {"arch": "fast-cnn", "set": ("width=8",)}
    made = dry_job(data, **fast, start_size=24)
    assert made.optim.start_size == 24
    assert made.model.training
    with pytest.raises(ConfigError, match=r"--start-size \(=32\) must be below --image-size \(=32\).*--start-size 0 trains at full size"):
        dry_job(data, **fast, start_size=32)

    def rigid(num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 32 * 32, num_classes))

    installed(rigid, "rigid")
    with pytest.raises(
        ConfigError, match=r"--start-size \(=16\): rigid accepts .* 32 px, but not of 16 px \(RuntimeError: mat1 .*--start-size 0"
    ):
        dry_job(data, arch="rigid", set=(), start_size=16)
