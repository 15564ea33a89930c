from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cnnkit.data.augment.augment import PRESETS, Augmentation, augment
from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.model.file import ModelHeader
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.tta import PLAIN, Views, trained_views


def header(size: int = 32, **training: object) -> ModelHeader:
    geometry = Preprocessing(image_size=size, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ModelHeader(arch="custom-cnn", options={}, classes=("ant", "bee"), preprocessing=geometry, training=training)


def canvases(size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (3, 2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_six_views_and_their_weights_are_those_of_airbench():
    """Mirror every one of the plain image (half of the weight) and two crops of the image padded by a pixel (a quarter each)."""
    canvas = canvases()
    padded = functional.pad(canvas.float(), (1, 1, 1, 1), mode="reflect").to(torch.uint8)
    expected = []
    for image, share in ((canvas, 0.5), (padded[:, :, :32, :32], 0.25), (padded[:, :, 2:, 2:], 0.25)):
        expected += [(share / 2, image), (share / 2, image.flip(-1))]
    found = list(Views("h", 1).of(canvas))
    assert [weight for weight, _ in found] == [weight for weight, _ in expected]
    for (_, view), (_, image) in zip(found, expected, strict=True):
        torch.testing.assert_close(view, image, rtol=0, atol=0)


def test_the_plain_view_is_the_canvas_itself():
    canvas = canvases()
    ((weight, view),) = PLAIN.of(canvas)
    assert weight == 1
    assert view is canvas


@pytest.mark.parametrize("views", [PLAIN, Views("h"), Views("v"), Views("hv"), Views("none", 2), Views("hv", 3)], ids=repr)
def test_views_differ_keep_shape_and_type_and_weigh_one_together(views):
    canvas = canvases(12)
    found = list(views.of(canvas))
    assert len(found) == len(views) == views.to_dict()["views"]
    assert len({view.numpy().tobytes() for _, view in found}) == len(views)
    assert all((view.shape, view.dtype) == (canvas.shape, torch.uint8) for _, view in found)
    assert sum(weight for weight, _ in found) == 1


@pytest.mark.parametrize("flip", ["h", "v", "hv"])
def test_every_view_is_one_that_training_draws(flip):
    """Of many draws of the training's own augmentation at a reach of one pixel, some are each view."""
    canvas = canvases(8)[:1].expand(2000, -1, -1, -1)
    draws = torch.rand((2000, 64), generator=torch.Generator().manual_seed(1))
    drawn = augment(canvas, draws, Augmentation(rotate=0, flip=flip, zoom=(1.0, 1.0), shift=1 / 8))
    seen = {image.numpy().tobytes() for image in drawn}
    assert all(view[0].numpy().tobytes() in seen for _, view in Views(flip, 1).of(canvas[:1]))


@pytest.mark.parametrize(
    ("size", "flip", "shift", "expected"),
    [
        (32, "h", 0.125, Views("h", 1)),
        (224, "h", 0.125, Views("h", 7)),
        (224, "h", 0.01, Views("h", 2)),  # no further than training went
        (32, "h", 0.03, Views("h", 0)),  # training's reach is less than a pixel
        (8, "none", 0.125, Views("none", 1)),
        (32, "v", 0.0, Views("v", 0)),
        (32, "hv", 0.1, Views("hv", 1)),
    ],
)
def test_views_follow_the_training(size, flip, shift, expected):
    assert trained_views(header(size, augmentation={"flip": flip, "shift": shift})) == expected


@pytest.mark.parametrize(("flip", "expected"), [("h", Views("none", 1)), ("hv", Views("v", 1)), ("v", Views("v", 1))])
def test_a_network_to_which_mirror_images_are_the_same_is_not_asked_twice(flip, expected):
    mirrored = header(augmentation={"flip": flip, "shift": 0.1}).model_copy(update={"options": {"mirror": True}})
    assert trained_views(mirrored) == expected


def test_a_network_that_knows_mirror_images_and_no_shift_has_one_view():
    mirrored = header(augmentation={"flip": "h", "shift": 0.0}).model_copy(update={"options": {"mirror": True}})
    with pytest.raises(ConfigError, match=r"not shifted, and for an image mirrored left-right.*without --tta, or train with --shift"):
        trained_views(mirrored)


def test_a_header_from_a_file_will_do():
    stored = header(augmentation=vars(PRESETS["default"])).model_dump_json()
    assert trained_views(ModelHeader.model_validate_json(stored)) == Views("h", 1)


def test_a_model_that_knows_no_other_view_is_refused():
    with pytest.raises(ConfigError, match=r"neither mirrored nor shifted.*evaluate without --tta, or train with --shift 0\.1"):
        trained_views(header(augmentation=vars(PRESETS["none"])))


@pytest.mark.parametrize("training", [{}, {"augmentation": {}}, {"augmentation": {"flip": "diagonal", "shift": 0.1}}])
def test_a_model_file_that_does_not_say_how_it_was_trained_is_refused(training):
    with pytest.raises(ModelFileError, match=r"does not say how its training images were varied.*evaluate without --tta, or train anew"):
        trained_views(header(**training))


@pytest.mark.parametrize(
    ("views", "said"),
    [
        (Views("h", 1), "6 views of every image: plain or mirrored left-right, in place or shifted by 1 px up-left or down-right"),
        (Views("none", 7), "3 views of every image: not mirrored, in place or shifted by 7 px up-left or down-right"),
        (Views("hv"), "4 views of every image: plain or mirrored left-right, upside down or both"),
    ],
)
def test_views_are_said_in_words(views, said):
    assert str(views) == f"test-time augmentation: the logits are averaged over {said}"
