from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnkit.data.split import verify
from cnnkit.data.split.symmetry import turned
from cnnkit.data.split.verify import FineStructure, align, compare_details

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def view(down: float = 0, right: float = 0, tall: float = 1, wide: float = 1, seed: int = 0) -> Picture:
    """Return 16 x 16 pixels of a smooth scene, seen through a window that is moved by pixels and stretched."""
    random = np.random.default_rng(seed)
    y = ((np.arange(16) - 7.5) * tall + down)[:, None, None, None]
    x = ((np.arange(16) - 7.5) * wide + right)[:, None, None]
    waves = random.uniform(-0.9, 0.9, (2, 3, 12))
    phase, strength = random.uniform(0, 6.3, (3, 12)), random.uniform(4, 16, (3, 12))
    return (128 + (strength * np.sin(waves[0] * y + waves[1] * x + phase)).sum(-1)).clip(0, 255).astype(np.uint8)


def score(first: Picture, second: Picture) -> float:
    return float(align(np.stack([first, second]), np.array([[0, 1]]), np.zeros(1, np.int8)).agreement[0])


def test_equal_pictures_agree_fully() -> None:
    assert score(view(), view()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "moved",
    [view(down=1.3), view(right=-1.5), view(tall=0.9), view(tall=0.92, wide=0.88, down=0.5, right=-0.5), view(wide=1.1)],
    ids=["down", "left", "taller", "cropped", "narrower"],
)
def test_shifted_and_stretched_pictures_agree_either_way(moved: Picture) -> None:
    assert score(view(), moved) > 0.95
    assert score(moved, view()) > 0.95


def test_brightness_contrast_and_tint_do_not_matter() -> None:
    changed = (view() * 0.6 + np.array([10, 30, 50])).astype(np.uint8)
    assert score(view(), changed) > 0.99


def test_different_pictures_do_not_agree() -> None:
    scores = [score(view(), view(seed=seed)) for seed in range(1, 40)]
    assert max(scores) < 0.7


def test_mirror_images_and_negatives_do_not_agree() -> None:
    assert score(view(), view()[:, ::-1]) < 0.5
    assert score(view(), 255 - view()) < 0


def test_pictures_without_edges_agree_with_no_picture() -> None:
    blank = np.full((16, 16, 3), 90, np.uint8)
    assert score(blank, view()) == 0
    assert score(blank, blank) == 0


def test_no_pairs_have_no_scores() -> None:
    none, symmetries = np.empty((0, 2), np.int64), np.empty(0, np.int8)
    aligned = align(np.stack([view()]), none, symmetries)
    assert aligned.agreement.shape == (0,)
    looks = np.zeros((1, 64, 64), np.uint8)
    assert [values.shape for values in compare_details(looks, none, symmetries, aligned.motion, reduced=False)] == [(0,)] * 3


@pytest.mark.parametrize("number", range(8))
def test_the_first_picture_is_turned_by_its_symmetry(number: int) -> None:
    symmetries = np.array([number], np.int8)
    pictures = np.concatenate([view()[None], turned(view()[None], symmetries)])
    assert align(pictures, np.array([[0, 1]]), symmetries).agreement[0] == pytest.approx(1, abs=1e-3)


def look(seed: int = 0, details: int = 0, shift: float = 0.0) -> Picture:
    """Return 64 x 64 pixels with the shapes of one scene, and with details that depend on `details`, moved right by `shift` pixels."""
    y, x = np.arange(64)[:, None, None], np.arange(64)[:, None] - shift

    def waves(seed: int, low: float, high: float, levels: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        random = np.random.default_rng(seed)
        angle, rate, phase = random.uniform(0, 6.3, 20), random.uniform(low, high, 20), random.uniform(0, 6.3, 20)
        return levels * np.sin(rate * (np.sin(angle) * y + np.cos(angle) * x) + phase).sum(-1)

    return (128 + waves(seed, 0.05, 0.2, 8) + waves(1000 + details, 1.2, 1.8, 3)).clip(0, 255).astype(np.uint8)


def details(first: Picture, second: Picture, *, reduced: bool = False) -> FineStructure:
    motion = np.zeros((1, 4), np.float32)
    return compare_details(np.stack([first, second]), np.array([[0, 1]]), np.zeros(1, np.int8), motion, reduced=reduced)


def small(picture: Picture) -> Picture:
    return np.repeat(picture.reshape(16, 4, 16, 4).mean((1, 3)).round().astype(np.uint8)[..., None], 3, axis=2)


def test_thumbnails_agree_where_only_details_differ() -> None:
    first, second = look(details=1), look(details=2)
    assert score(small(first), small(second)) > 0.8
    assert details(first, second).agreement[0] < 0.3
    assert details(first, first).agreement[0] == pytest.approx(1, abs=1e-3)


def test_details_of_a_moved_and_darker_picture_agree() -> None:
    assert details(look(), (look(shift=1.4) * 0.7).astype(np.uint8)).agreement[0] > 0.97
    darker = details(look(), (look() * 0.7).astype(np.uint8))
    assert darker.agreement[0] > 0.99
    assert darker.gain[0] == pytest.approx(0.7, abs=0.05)


def test_a_small_difference_shows_in_its_cell() -> None:
    other = look()
    other[20:26, 20:26] = 255 - other[20:26, 20:26]
    assert details(look(), other).local_difference[0] > 0.5
    assert details(look(), look()).local_difference[0] < 0.01


def test_reduced_looks_show_coarser_details() -> None:
    blurred = np.repeat(np.repeat(look().reshape(32, 2, 32, 2).mean((1, 3)).astype(np.uint8), 2, 0), 2, 1)
    assert details(look(), blurred, reduced=True).agreement[0] > 0.99


def images(size: int, channels: tuple[int, ...]) -> st.SearchStrategy[Picture]:
    """Return pictures of one colour, with one pixel, row or column, with content in the border alone, checkers, strips and noise."""
    corner = st.integers(0, size - 1)

    def painted(level: int, other: int, kind: str, box: tuple[int, int, int, int], seed: int) -> Picture:
        picture = np.full((size, size), level, np.uint8)
        top, left, bottom, right = box
        if kind == "box":
            picture[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = other
        elif kind == "border":
            picture[:] = other
            picture[2:-2, 2:-2] = level
        elif kind == "checker":
            picture[np.indices((size, size)).sum(0) % 2 == 1] = other
        elif kind == "strip":
            picture[top:, -1 - left % 3 :] = other
        elif kind == "noise":
            picture[:] = np.random.default_rng(seed).integers(0, 256, (size, size))
        return np.broadcast_to(picture.reshape(size, size, *(1 for _ in channels)), (size, size, *channels)).copy()

    kinds = st.sampled_from(["flat", "box", "border", "checker", "strip", "noise"])
    level = st.sampled_from([0, 1, 127, 254, 255])
    return st.builds(painted, level, level, kinds, st.tuples(corner, corner, corner, corner), st.integers(0, 9))


@given(st.lists(images(16, (3,)), min_size=2, max_size=6), st.lists(images(64, ()), min_size=6, max_size=6), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_no_pair_of_pictures_stops_the_comparison(thumbnails: list[Picture], looks: list[Picture], number: int) -> None:
    pairs = np.array(list(combinations(range(len(thumbnails)), 2)))
    symmetries = np.full(len(pairs), number, np.int8)
    aligned = align(np.stack(thumbnails), pairs, symmetries)
    assert (np.abs(aligned.agreement) <= 1.001).all()
    for reduced in (False, True):
        found = compare_details(np.stack(looks), pairs, symmetries, aligned.motion, reduced=reduced)
        assert (np.abs(found.agreement) <= 1.001).all()
        assert np.isfinite(found.local_difference).all()
        assert np.isfinite(found.gain).all()


def test_halved_looks_and_weights_equal_their_definitions() -> None:
    random = np.random.default_rng(0)
    looks = random.integers(0, 256, (5, 64, 64)).astype(np.float32)
    np.testing.assert_array_equal(verify._halve(looks), looks.reshape(5, 32, 2, 32, 2).mean((2, 4)))
    motion = random.normal(size=(40, 2)).astype(np.float32) * np.array([16, 0.3], np.float32)
    positions = np.clip(verify._positions(motion, 16), 0, 15)
    expected = np.clip(1 - np.abs(positions[:, :, None] - np.arange(16, dtype=np.float32)), 0, None)
    np.testing.assert_array_equal(verify._weights(motion, 16), expected)
    assert (positions == 15).any()
