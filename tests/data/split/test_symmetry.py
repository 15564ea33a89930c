from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.split.candidates import FREQUENCIES, describe
from cnnkit.data.split.symmetry import canonical_versions, frequency_moves, inverse, relative, turned

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


def symmetries(*numbers: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.array(numbers, np.int8)


def test_the_numbers_name_their_moves() -> None:
    picture = np.array([[[1, 2], [3, 4]]])
    expected = {0: [[1, 2], [3, 4]], 1: [[3, 4], [1, 2]], 2: [[2, 1], [4, 3]], 3: [[4, 3], [2, 1]], 4: [[1, 3], [2, 4]]}
    for number, pixels in expected.items():
        assert turned(picture, symmetries(number))[0].tolist() == pixels
    assert turned(picture, symmetries(5))[0].tolist() == np.rot90(picture[0]).tolist()
    assert turned(picture, symmetries(6))[0].tolist() == np.rot90(picture[0], -1).tolist()


def test_every_picture_has_its_own_symmetry() -> None:
    views = turned(PICTURES[:2], symmetries(0, 2))
    np.testing.assert_array_equal(views[0], PICTURES[0])
    np.testing.assert_array_equal(views[1], PICTURES[1][:, ::-1])


@pytest.mark.parametrize("first", range(8))
def test_the_relative_symmetry_turns_one_view_into_the_other(first: int) -> None:
    for second in range(8):
        other = turned(PICTURES[:1], relative(symmetries(first), symmetries(second)))
        np.testing.assert_array_equal(turned(other, symmetries(second)), turned(PICTURES[:1], symmetries(first)))


@pytest.mark.parametrize("number", range(8))
def test_descriptions_turn_as_their_pictures(number: int) -> None:
    indices, signs = frequency_moves(FREQUENCIES)
    expected = describe(turned(PICTURES, np.full(5, number, np.int8)))
    np.testing.assert_allclose(describe(PICTURES)[:, indices[number]] * signs[number], expected, atol=1e-4)


def test_one_symmetry_brings_a_picture_into_canonical_form_and_more_if_it_is_near_to_the_border() -> None:
    down, right = np.array([-0.2, 0.01, 0.0]), np.array([0.1, -0.5, 0.0])
    exact = canonical_versions(down, right, 0.0)
    assert [np.flatnonzero(row).tolist() for row in exact] == [[6], [2], list(range(8))]
    assert [np.flatnonzero(row).tolist() for row in canonical_versions(down, right, 0.05)[:2]] == [[6], [2, 3]]
    assert canonical_versions(down, right, 2.0).all()


def test_the_inverse_undoes_every_symmetry() -> None:
    picture = np.arange(9).reshape(1, 3, 3)
    numbers = np.arange(8, dtype=np.int8)
    for number, back in zip(numbers, inverse(numbers), strict=True):
        there = turned(picture, np.array([number]))
        np.testing.assert_array_equal(turned(there, np.array([back])), picture)
