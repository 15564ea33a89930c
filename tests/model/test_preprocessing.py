import numpy as np

from cnnkit.model.preprocessing import group_by_shape


def test_groups_hold_the_indices_of_each_shape_in_order() -> None:
    sizes = [(2, 3), (4, 4), (2, 3), (3, 2), (4, 4)]
    assert group_by_shape([np.zeros((*size, 3), np.uint8) for size in sizes]) == [[0, 2], [1, 4], [3]]


def test_no_images_give_no_groups() -> None:
    assert group_by_shape([]) == []
