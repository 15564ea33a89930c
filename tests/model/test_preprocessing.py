import numpy as np
import pytest

from cnnkit.model.preprocessing import DRAFT_SIDE, Preprocessing, draft_scale, draft_side_for, group_by_shape


def test_groups_hold_the_indices_of_each_shape_in_order() -> None:
    sizes = [(2, 3), (4, 4), (2, 3), (3, 2), (4, 4)]
    assert group_by_shape([np.zeros((*size, 3), np.uint8) for size in sizes]) == [[0, 2], [1, 4], [3]]


def test_no_images_give_no_groups() -> None:
    assert group_by_shape([]) == []


@pytest.mark.parametrize(
    ("height", "width", "side", "scale"),
    [
        (3000, 4000, 375, 8),
        (4000, 3000, 376, 4),
        (720, 5000, 360, 2),
        (719, 5000, 360, 1),
        (9000, 9000, 1, 8),  # libjpeg has no smaller scale
        (10, 10, 360, 1),
        (3000, 4000, None, 1),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_leaves_its_side(height: int, width: int, side: int | None, scale: int) -> None:
    assert draft_scale(height, width, side) == scale


def test_a_draft_keeps_a_margin_over_the_pixels_that_a_network_sees() -> None:
    assert [draft_side_for(size, crop) for size, crop in ((32, 1.0), (224, 1.0), (224, 0.875), (384, 1.0), (224, 0.5))] == [
        DRAFT_SIDE, DRAFT_SIDE, DRAFT_SIDE, 538, 628,
    ]  # fmt: skip


def test_the_settings_of_an_older_file_decode_whole() -> None:
    assert Preprocessing.model_validate_json('{"image_size": 8, "mean": [0.5], "std": [1]}').draft_side is None
