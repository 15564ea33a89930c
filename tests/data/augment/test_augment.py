from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import affine

from cnnkit.config.settings import AugmentConfig, validated
from cnnkit.data.augment.augment import (
    COLOUR_DRAWS,
    ERASING_DRAWS,
    GEOMETRY_DRAWS,
    MIXING_DRAWS,
    NUM_DRAWS,
    OPERATION_DRAWS,
    PRESETS,
    AugmentationStrength,
    augment,
    draw_numbers,
    is_mirror_sensitive,
    resolve_augmentation,
)
from cnnkit.data.augment.colour import jitter
from cnnkit.data.augment.erasing import erase
from cnnkit.data.augment.rand_augment import rand_augment
from cnnkit.errors import ConfigError

FLIP_H, FLIP_V, ROTATE, ZOOM, SHIFT_X, SHIFT_Y = range(6)
SIZE = 33


def variation(rotate: float = 0, flip: str = "none", zoom: tuple[float, float] = (1.0, 1.0), shift: float = 0) -> AugmentationStrength:
    return AugmentationStrength(rotate, flip, zoom, shift)


def draws(count: int = 1, **chosen: float) -> Tensor:
    """Return draws of no flip, no rotation and no shift, except for the `chosen` columns."""
    numbers = torch.full((count, NUM_DRAWS), 0.5)
    for name, value in chosen.items():
        numbers[:, ["flip_h", "flip_v", "rotate", "zoom", "shift_x", "shift_y"].index(name)] = value
    return numbers


def noise(count: int = 1, size: int = SIZE) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8))


def smooth(size: int = 64) -> Tensor:
    """Return a picture of gentle slopes, in which another method of sampling changes values little."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    return torch.stack([40 + 200 * x, 20 + 150 * y, 128 + 100 * torch.sin(3 * x + 5 * y)])[None]


def numpy_moved(image: np.ndarray[Any, Any], right: int, down: int) -> np.ndarray[Any, Any]:
    """Move the content by whole pixels; pixels from outside are mirrored at the border without repeating the outermost line."""
    size = image.shape[1]
    reach = size - 1
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    return padded[:, reach - down : reach - down + size, reach - right : reach - right + size]


# --- moving whole pixels: flips and shifts ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 12), st.sampled_from(["none", "h", "v", "hv"]), st.floats(0, 0.5), st.data())
def test_moving_equals_flips_and_shifts_of_numpy(size: int, flip: str, shift: float, data: st.DataObject) -> None:
    images = noise(5, size)
    # Multiples of 1/8192 are exact in float32, so the expected offset is computed from the very same number.
    numbers = (
        np.array(data.draw(st.lists(st.lists(st.integers(0, 8191), min_size=NUM_DRAWS, max_size=NUM_DRAWS), min_size=5, max_size=5))) / 8192
    )
    got = augment(images, torch.from_numpy(numbers).float(), variation(flip=flip, shift=shift))
    assert got.dtype == torch.uint8
    reach = int(shift * size)
    for image, result, draw in zip(images.numpy(), got.numpy(), numbers, strict=True):
        # Source positions grow with the draw, so the content moves in the opposite direction. The mirror comes after the move.
        right, down = (reach - math.floor(draw[axis] * (2 * reach + 1)) for axis in (SHIFT_X, SHIFT_Y))
        expected = numpy_moved(image, right, down)
        if "h" in flip and draw[FLIP_H] < 0.5:
            expected = expected[:, :, ::-1]
        if "v" in flip and draw[FLIP_V] < 0.5:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("flip", "dims"), [("h", [3]), ("v", [2]), ("hv", [2, 3])])
def test_a_flip_alone_is_a_flip(flip: str, dims: list[int]) -> None:
    images = noise(3)
    assert torch.equal(augment(images, draws(3, flip_h=0.49, flip_v=0.49), variation(flip=flip)), images.flip(dims))
    assert torch.equal(augment(images, draws(3, flip_h=0.5, flip_v=0.5), variation(flip=flip)), images)


def test_half_of_the_images_are_flipped() -> None:
    images = noise(1, 4).expand(1000, -1, -1, -1)
    numbers = torch.rand((1000, NUM_DRAWS), generator=torch.Generator().manual_seed(0))
    flipped = (augment(images, numbers, variation(flip="h")) != images).flatten(1).any(1)
    assert 430 < int(flipped.sum()) < 570
    assert torch.equal(flipped, numbers[:, FLIP_H] < 0.5)


def test_shifts_take_every_whole_number_of_pixels_equally_often() -> None:
    images = torch.zeros(1, 1, 1, 32)
    images[..., 16] = 1
    numbers = draws(9000)
    numbers[:, SHIFT_X] = torch.arange(9000) / 9000
    moved = augment(images.expand(9000, 1, 32, 32), numbers, variation(shift=0.125))
    positions = moved[:, 0, 0].argmax(1)
    assert torch.bincount(positions, minlength=32)[12:21].tolist() == [1000] * 9  # 4 pixels of 32 in both directions


def test_the_largest_draw_below_one_stays_in_reach() -> None:
    just_below_one = 1 - 2.0**-24
    images = noise(1, 32)
    got = augment(images, draws(shift_x=just_below_one, shift_y=just_below_one), variation(shift=0.25))
    np.testing.assert_array_equal(got[0], numpy_moved(images[0].numpy(), right=-8, down=-8))


# --- interpolating: rotation and zoom ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.floats(1, 180),
    st.sampled_from(["none", "h", "v", "hv"]),
    st.tuples(st.floats(0.5, 1), st.floats(1, 2)),
    st.floats(0, 0.5),
    st.integers(0, 2**31),
)
def test_a_batch_equals_one_image_at_a_time(rotate: float, flip: str, zoom: tuple[float, float], shift: float, seed: int) -> None:
    """Compare with the textbook order: flip the picture, turn and magnify it about its centre, then sample."""
    images = noise(6)
    numbers = torch.rand((6, NUM_DRAWS), generator=torch.Generator().manual_seed(seed))
    got = augment(images, numbers, variation(rotate, flip, zoom, shift))
    assert got.dtype == torch.float32
    for image, result, draw in zip(images, got, numbers.double().tolist(), strict=True):
        angle = math.radians(rotate) * (2 * draw[ROTATE] - 1)
        magnify = zoom[0] * (zoom[1] / zoom[0]) ** draw[ZOOM]
        sign_x = -1 if "h" in flip and draw[FLIP_H] < 0.5 else 1
        sign_y = -1 if "v" in flip and draw[FLIP_V] < 0.5 else 1
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / magnify
        linear = turn @ np.diag([sign_x, sign_y])
        offset = [2 * shift * (2 * draw[axis] - 1) for axis in (SHIFT_X, SHIFT_Y)]
        theta = torch.tensor(np.column_stack([linear, offset])[None], dtype=torch.float32)
        grid = functional.affine_grid(theta, [1, 3, SIZE, SIZE], align_corners=False)
        expected = functional.grid_sample(image[None].float(), grid, padding_mode="reflection", align_corners=False)[0]
        # float32 coordinates: 1e-5 of a pixel at a slope of up to 255 levels a pixel
        torch.testing.assert_close(result, expected, rtol=0, atol=0.05)


def of_torchvision(image: Tensor, *, angle: float = 0.0, scale: float = 1.0, translate: tuple[float, float] = (0, 0)) -> Tensor:
    """Return torchvision's affine; `angle` is clockwise in degrees, `translate` moves the content right and down, in pixels."""
    return affine(image, angle, list(translate), scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)


def assert_alike_inside(got: Tensor, expected: Tensor, margin: int, atol: float = 0.02) -> None:
    """Compare images without their border, which torchvision fills with black and cnnkit with a reflection."""
    inside = slice(margin, -margin)
    torch.testing.assert_close(got[..., inside, inside], expected[..., inside, inside], rtol=0, atol=atol)


@pytest.mark.parametrize("draw", [0.0, 0.2, 0.9, 1.0])
def test_rotation_equals_torchvisions(draw: float) -> None:
    image = smooth()
    got = augment(image, draws(rotate=draw), variation(rotate=30))
    assert_alike_inside(got, of_torchvision(image, angle=-30 * (2 * draw - 1)), 16)


@pytest.mark.parametrize("draw", [0.0, 0.3, 1.0])
def test_zoom_equals_torchvisions_and_magnifies_above_one(draw: float) -> None:
    image = smooth()
    got = augment(image, draws(zoom=draw), variation(zoom=(0.8, 1.25)))
    assert_alike_inside(got, of_torchvision(image, scale=0.8 * (1.25 / 0.8) ** draw), 10)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.25, 0.75)])
def test_a_shift_is_a_share_of_the_image_size(x: float, y: float) -> None:
    image = smooth()
    got = augment(image, draws(shift_x=x, shift_y=y), variation(zoom=(0.999999, 1.000001), shift=0.125))
    assert_alike_inside(got, of_torchvision(image, translate=(-8 * (2 * x - 1), -8 * (2 * y - 1))), 10)


def test_rotation_with_a_flip_is_still_a_pure_rotation() -> None:
    image = smooth()
    for flip, dims in (("h", [3]), ("v", [2]), ("hv", [2, 3])):
        got = augment(image, draws(rotate=0.8, zoom=0.5, flip_h=0.0, flip_v=0.0), variation(rotate=30, flip=flip, zoom=(0.9, 1.2)))
        scale = 0.9 * (1.2 / 0.9) ** 0.5
        expected = of_torchvision(image, angle=-18.0, scale=scale).flip(dims)
        turned_after = of_torchvision(image.flip(dims), angle=-18.0 if len(dims) == 2 else 18.0, scale=scale)
        assert_alike_inside(got, expected, 16)
        assert_alike_inside(got, turned_after, 16)  # a mirror turns the sense of a rotation


def test_zoom_of_two_shows_the_middle_half() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., 16:48, 16:48] = 255
    assert float(augment(image, draws(zoom=0.0), variation(zoom=(2.0, 2.0))).mean()) > 250
    small = augment(image, draws(zoom=0.0), variation(zoom=(0.5, 0.5)))
    assert float(small[..., 24:40, 24:40].mean()) > 250
    assert float(small[..., 22, 32]) < 5


def test_shrinking_is_as_likely_as_magnifying() -> None:
    """The middle draw of a range 1/a..a changes nothing."""
    images = smooth()
    torch.testing.assert_close(augment(images, draws(zoom=0.5), variation(zoom=(0.5, 2.0))), images, rtol=0, atol=1e-2)


@pytest.mark.parametrize("augmentation", [variation(rotate=180), variation(rotate=20, flip="hv"), variation(rotate=5, shift=0.5)])
def test_draws_of_the_middle_are_the_identity(augmentation: AugmentationStrength) -> None:
    images = noise(4)
    torch.testing.assert_close(augment(images, draws(4), augmentation), images.float(), rtol=0, atol=1e-3)


def test_a_half_turn_turns_the_picture_by_half() -> None:
    images = noise()
    for draw in (0.0, 1.0):
        torch.testing.assert_close(
            augment(images, draws(rotate=draw), variation(rotate=180)), images.flip([2, 3]).float(), rtol=0, atol=0.05
        )


def test_affine_and_moving_shift_and_flip_the_same_way() -> None:
    image = smooth()
    numbers = draws(flip_h=0.1, shift_x=1.0, shift_y=0.0)
    moved = augment(image, numbers, variation(flip="h", shift=0.125))
    sampled = augment(image, numbers, variation(flip="h", shift=0.125, zoom=(0.999999, 1.000001)))
    assert_alike_inside(sampled, moved, 10)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([*PRESETS.values(), variation(180, "hv", (0.2, 5.0), 0.5)]))
def test_values_stay_in_their_range(seed: int, augmentation: AugmentationStrength) -> None:
    images = noise(4) // 128 * 255  # black and white
    got = augment(images, torch.rand((4, NUM_DRAWS), generator=torch.Generator().manual_seed(seed)), augmentation)
    assert float(got.min()) >= -1e-3
    assert float(got.max()) <= 255.001
    assert got.shape == images.shape


def test_a_constant_image_stays_constant_up_to_the_border() -> None:
    """Pixels from outside the image are its reflection, not black."""
    images = torch.full((8, 3, 16, 16), 100, dtype=torch.uint8)
    got = augment(images, torch.rand((8, NUM_DRAWS), generator=torch.Generator().manual_seed(0)), variation(45, "hv", (0.5, 0.9), 0.3))
    torch.testing.assert_close(got, images.float(), rtol=0, atol=1e-3)


def test_images_of_a_batch_are_varied_differently() -> None:
    images = noise().expand(6, -1, -1, -1)
    numbers = torch.rand((6, NUM_DRAWS), generator=torch.Generator().manual_seed(0))
    got = augment(images, numbers, PRESETS["strong"])
    assert len({image.numpy().tobytes() for image in got}) == 6


def test_the_preset_none_changes_nothing() -> None:
    images = noise()
    assert augment(images, draws(flip_h=0.0, rotate=0.0), PRESETS["none"]) is images
    assert not PRESETS["none"].active
    assert all(PRESETS[name].active for name in ("light", "default", "strong"))


def test_later_augmentations_leave_the_geometry_unchanged() -> None:
    """The draws of the geometry are the first columns, independent of later columns."""
    images, numbers = noise(5), torch.rand((5, NUM_DRAWS), generator=torch.Generator().manual_seed(0))
    for base in (PRESETS["light"], PRESETS["default"]):
        moved = augment(images, numbers, base)
        assert torch.equal(augment(images, numbers[:, :6], base), moved)
        assert torch.equal(augment(images, numbers, replace(base, mixup=1.0, cutmix=1.0)), moved)  # Batches mixes
        erased = augment(images, numbers, replace(base, erase=1.0))
        assert 0.02 < float((erased != moved).any(1).float().mean()) < 0.33


ADDED: dict[str, tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "color": ({"color": 0.4}, lambda images, numbers: jitter(images, numbers[:, 6:9], 0.4)),
    "erase": ({"erase": 0.8}, lambda images, numbers: erase(images, numbers[:, 9:14], 0.8)),
    "randaugment": ({"randaugment": (2, 9)}, lambda images, numbers: rand_augment(images, numbers[:, 18:22], 2, 9)),
    "all": (
        {"color": 0.4, "erase": 0.8, "randaugment": (2, 9)},
        lambda images, numbers: erase(jitter(rand_augment(images, numbers[:, 18:22], 2, 9), numbers[:, 6:9], 0.4), numbers[:, 9:14], 0.8),
    ),
}


@pytest.mark.parametrize("base", [variation(), variation(flip="h", shift=0.1), variation(20, "hv", (0.8, 1.2), 0.1)])
@pytest.mark.parametrize("added", ADDED)
def test_place_comes_first_then_operations_then_colour_then_erasing(added: str, base: AugmentationStrength) -> None:
    images, numbers = noise(12), torch.rand((12, NUM_DRAWS), generator=torch.Generator().manual_seed(0))
    changes, expected = ADDED[added]
    asked = replace(base, **changes)
    assert asked.active
    got = augment(images, numbers, asked)
    assert torch.equal(got, expected(augment(images, numbers, base), numbers))
    torch.testing.assert_close(augment(images.flip(0), numbers.flip(0), asked).flip(0), got, rtol=0, atol=1e-3)  # in any order


def test_mirrors_alternate_and_the_other_numbers_are_new_in_every_epoch() -> None:
    keys = np.arange(2_000)
    epochs = np.stack([draw_numbers(5, epoch, keys) for epoch in range(4)])
    mirrored = epochs[:, :, :2] < 0.5
    assert (mirrored[0, :, 0] != mirrored[1, :, 0]).all()  # left-right: every epoch
    assert (mirrored[0, :, 1] == mirrored[1, :, 1]).all()  # upside down: every second epoch, so that four epochs show all four combinations
    assert (mirrored[0, :, 1] != mirrored[2, :, 1]).all()
    np.testing.assert_array_equal(epochs[0, :, :2], draw_numbers(5, 4, keys)[:, :2])
    assert 0.45 < mirrored[0].mean() < 0.55  # each image has a random start
    assert not (epochs[0, :, 2:] == epochs[1, :, 2:]).all(1).any()
    assert ((epochs >= 0) & (epochs < 1)).all()


def test_no_column_of_draws_is_used_twice() -> None:
    columns = [
        column
        for part in (GEOMETRY_DRAWS, COLOUR_DRAWS, ERASING_DRAWS, MIXING_DRAWS, OPERATION_DRAWS)
        for column in range(part.start, part.stop)
    ]
    assert columns == list(range(NUM_DRAWS))


def test_only_rotation_and_zoom_need_interpolation() -> None:
    affine_ones = {name for name, preset in PRESETS.items() if preset.affine}
    assert affine_ones == {"default", "strong"}
    assert not variation(flip="hv", shift=0.5).affine


def test_gray_images_are_varied_too() -> None:
    for augmentation in PRESETS.values():
        assert augment(noise()[:, :1], draws(flip_h=0.0, rotate=0.9), augmentation).shape == (1, 1, SIZE, SIZE)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_presets_grow_from_none_to_strong() -> None:
    assert PRESETS["light"] == AugmentationStrength(rotate=0, flip="h", zoom=(1.0, 1.0), shift=0.125)
    names = ("none", "light", "default", "strong")
    for weaker, stronger in (("none", "light"), ("light", "default"), ("default", "strong")):
        assert PRESETS[weaker].rotate <= PRESETS[stronger].rotate
        assert PRESETS[weaker].zoom[1] <= PRESETS[stronger].zoom[1]
        assert PRESETS[weaker].color <= PRESETS[stronger].color
        assert PRESETS[weaker].erase <= PRESETS[stronger].erase
    assert not any(PRESETS[name].mixes or PRESETS[name].randaugment[0] for name in names)  # no preset has them
    assert [PRESETS[name].flip for name in names] == ["none", "h", "h", "h"]
    assert set(PRESETS) == set(names)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_resolves_to_itself(name: Any) -> None:
    assert resolve_augmentation(AugmentConfig(augment=name), ["cat", "dog"]) == (PRESETS[name], None)


CHANGES: dict[str, tuple[dict[str, Any], Callable[[AugmentationStrength], object]]] = {
    "rotate": ({"rotate": 3.0}, lambda augmentation: augmentation.rotate == 3),
    "no rotation": ({"rotate": 0.0}, lambda augmentation: augmentation.rotate == 0),
    "flip": ({"flip": "v"}, lambda augmentation: augmentation.flip == "v"),
    "no flip": ({"flip": "none"}, lambda augmentation: augmentation.flip == "none"),
    "zoom": ({"zoom": (0.5, 0.6)}, lambda augmentation: augmentation.zoom == (0.5, 0.6)),
    "shift": ({"shift": 0.01}, lambda augmentation: augmentation.shift == 0.01),
    "no shift": ({"shift": 0.0}, lambda augmentation: augmentation.shift == 0),
    "color": ({"color": 0.1}, lambda augmentation: augmentation.color == 0.1),
    "no color": ({"color": 0.0}, lambda augmentation: augmentation.color == 0),
    "erase": ({"erase": 0.9}, lambda augmentation: augmentation.erase == 0.9),
    "no erase": ({"erase": 0.0}, lambda augmentation: augmentation.erase == 0),
    "randaugment": ({"randaugment": (2, 9)}, lambda augmentation: augmentation.randaugment == (2, 9)),
    "mixup": ({"mixup": 0.2}, lambda augmentation: augmentation.mixup == 0.2 and augmentation.mixes),
    "cutmix": ({"cutmix": 1.0}, lambda augmentation: augmentation.cutmix == 1 and augmentation.mixes),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_given_value_replaces_the_value_of_the_preset(change: str) -> None:
    given_values, holds = CHANGES[change]
    resolved, note = resolve_augmentation(AugmentConfig(augment="strong", **given_values), ["cat", "dog"])
    assert holds(resolved)
    assert note is None
    untouched = {field.name for field in fields(AugmentationStrength)} - set(given_values)
    assert all(getattr(resolved, name) == getattr(PRESETS["strong"], name) for name in untouched)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"color": 1.5}, "`--color` (=1.5) must be less than or equal to 1"),
    ({"erase": -0.1}, "`--erase` (=-0.1) must be greater than or equal to 0"),
    ({"randaugment": "5,9"}, "`--randaugment` (=5,9) must be N,M, whole numbers from 0 to 4 and from 0 to 30, such as 2,9"),
    ({"randaugment": "2,31"}, "`--randaugment` (=2,31) must be N,M, whole numbers from 0 to 4 and from 0 to 30, such as 2,9"),
    ({"randaugment": "2"}, "`--randaugment` (=2) must be N,M, whole numbers from 0 to 4 and from 0 to 30, such as 2,9"),
    ({"randaugment": "2,9.5"}, "`--randaugment` (=2,9.5) must be N,M, whole numbers from 0 to 4 and from 0 to 30, such as 2,9"),
    ({"mixup": -1}, "`--mixup` (=-1) must be greater than or equal to 0"),
    ({"cutmix": math.inf}, "`--cutmix` (=inf) must be a finite number"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_invalid_values_are_refused_with_the_name_of_the_flag(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        validated({"augment": values})
    assert str(refused.value) == message


def test_randaugment_is_written_as_text_on_the_command_line() -> None:
    assert validated({"augment": {"randaugment": "2,9"}}).augment.randaugment == (2, 9)


def test_digits_are_not_mirrored_and_the_user_is_told() -> None:
    resolved, note = resolve_augmentation(AugmentConfig(augment="light"), [str(digit) for digit in range(10)])
    assert resolved == AugmentationStrength(rotate=0, flip="none", zoom=(1.0, 1.0), shift=0.125)
    assert note == "no mirroring: mirrored images of class '0' may no longer belong to it (--flip h mirrors anyway)"


def test_a_given_flip_mirrors_even_digits() -> None:
    resolved, note = resolve_augmentation(AugmentConfig(flip="h"), ["6", "9"])
    assert (resolved.flip, note) == ("h", None)


def test_without_a_flip_in_the_preset_there_is_no_note() -> None:
    assert resolve_augmentation(AugmentConfig(augment="none"), ["6", "9"]) == (PRESETS["none"], None)


SENSITIVE_NAMES = """7, 42, 007, a, B, 字, seven, Zero, digit_7, letter-b, number 12, left, RIGHT, turn_left, right-arrow, TurnLeft,
leftTurn, left-handed, lefthander, rightmost, east, North-West, westbound, clockwise, counterclockwise"""
OTHER_NAMES = """cat, cleft, bright, upright, playwright, copyright, leftover, eighteen, B-52, two_story, one way, A320, beast, yeast, tone,
West_Highland_white_terrier, Western_Grebe, class_a_b, no 7 bus, ab"""


@pytest.mark.parametrize("name", re.split(r",\s", SENSITIVE_NAMES))
def test_names_of_mirror_sensitive_classes(name: str) -> None:
    assert is_mirror_sensitive(name)


@pytest.mark.parametrize("name", re.split(r",\s", OTHER_NAMES))
def test_names_of_other_classes(name: str) -> None:
    assert not is_mirror_sensitive(name)
