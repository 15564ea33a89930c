from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cnnkit.data.augment.augment import PRESETS, AugmentationStrength, augment
from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.model.file import ModelHeader
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.tta import PLAIN_VIEW, Views, trained_views


def header(size: int = 32, **training: object) -> ModelHeader:
    geometry = Preprocessing(image_size=size, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ModelHeader(arch="custom-cnn", options={}, classes=("ant", "bee"), preprocessing=geometry, training=training)


def canvases(size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (3, 2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_six_views_and_their_weights_equal_those_of_airbench():
    """The plain image has half of the weight, two crops of the padded image a quarter each; each is also mirrored."""
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
    ((weight, view),) = PLAIN_VIEW.of(canvas)
    assert weight == 1
    assert view is canvas


@pytest.mark.parametrize("views", [PLAIN_VIEW, Views("h"), Views("v"), Views("hv"), Views("none", 2), Views("hv", 3)], ids=repr)
def test_views_differ_and_keep_shape_and_type_and_their_weights_sum_to_1(views):
    canvas = canvases(12)
    found = list(views.of(canvas))
    assert len(found) == len(views) == views.to_dict()["views"]
    assert len({view.numpy().tobytes() for _, view in found}) == len(views)
    assert all((view.shape, view.dtype) == (canvas.shape, torch.uint8) for _, view in found)
    assert sum(weight for weight, _ in found) == 1


@pytest.mark.parametrize("flip", ["h", "v", "hv"])
def test_the_augmentation_of_training_draws_every_view(flip):
    """Among many draws with a shift of at most one pixel, there is every view."""
    canvas = canvases(8)[:1].expand(2000, -1, -1, -1)
    draws = torch.rand((2000, 64), generator=torch.Generator().manual_seed(1))
    drawn = augment(canvas, draws, AugmentationStrength(rotate=0, flip=flip, zoom=(1.0, 1.0), shift=1 / 8))
    seen = {image.numpy().tobytes() for image in drawn}
    assert all(view[0].numpy().tobytes() in seen for _, view in Views(flip, 1).of(canvas[:1]))


@pytest.mark.parametrize(
    ("size", "flip", "shift", "expected"),
    [
        (32, "h", 0.125, Views("h", 1)),
        (224, "h", 0.125, Views("h", 7)),
        (224, "h", 0.01, Views("h", 2)),  # no further than in training
        (32, "h", 0.03, Views("h", 0)),  # training shifts by less than a pixel
        (8, "none", 0.125, Views("none", 1)),
        (32, "v", 0.0, Views("v", 0)),
        (32, "hv", 0.1, Views("hv", 1)),
    ],
)
def test_views_follow_the_training(size, flip, shift, expected):
    assert trained_views(header(size, augmentation={"flip": flip, "shift": shift})) == expected


@pytest.mark.parametrize(("flip", "expected"), [("h", Views("none", 1)), ("hv", Views("v", 1)), ("v", Views("v", 1))])
def test_a_mirrored_network_gets_no_view_mirrored_left_right(flip, expected):
    mirrored = header(augmentation={"flip": flip, "shift": 0.1}).model_copy(update={"options": {"mirror": True}})
    assert trained_views(mirrored) == expected


def test_a_mirrored_network_without_shifts_is_refused():
    mirrored = header(augmentation={"flip": "h", "shift": 0.0}).model_copy(update={"options": {"mirror": True}})
    reason = r"not shifted, and the network treats an image and its left-right mirror image the same.*without --tta, or train with --shift"
    with pytest.raises(ConfigError, match=reason):
        trained_views(mirrored)


def test_the_views_follow_from_a_stored_header():
    stored = header(augmentation=vars(PRESETS["default"])).model_dump_json()
    assert trained_views(ModelHeader.model_validate_json(stored)) == Views("h", 1)


def test_a_model_trained_without_flip_and_shift_is_refused():
    reason = r"neither mirrored nor shifted, so there is no second view; evaluate without --tta, or train with --shift 0\.1"
    with pytest.raises(ConfigError, match=reason):
        trained_views(header(augmentation=vars(PRESETS["none"])))


@pytest.mark.parametrize("training", [{}, {"augmentation": {}}, {"augmentation": {"flip": "diagonal", "shift": 0.1}}])
def test_a_model_file_without_its_augmentation_is_refused(training):
    reason = r"does not record the augmentation of its training images.*evaluate without --tta, or train again"
    with pytest.raises(ModelFileError, match=reason):
        trained_views(header(**training))


@pytest.mark.parametrize(
    ("views", "said"),
    [
        (Views("h", 1), "6 views of every image: plain or mirrored left-right, unshifted or shifted by 1 px up-left or down-right"),
        (Views("none", 7), "3 views of every image: not mirrored, unshifted or shifted by 7 px up-left or down-right"),
        (Views("hv"), "4 views of every image: plain or mirrored left-right, upside down or both"),
    ],
)
def test_views_are_described_in_a_sentence(views, said):
    assert str(views) == f"test-time augmentation: the logits are averaged over {said}"
