from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.split import candidates
from cnnkit.data.split.candidates import describe, near_neighbours


def noise(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(60, 180, (count, 16, 16, 3), dtype=np.uint8)


def unit_vectors(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(
    vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]], limits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> list[list[int]]:
    cosine = vectors @ vectors.T
    return [[i, j] for i in range(len(vectors)) for j in range(i + 1, len(vectors)) if cosine[i, j] > max(limits[i], limits[j])]


def test_brightness_and_contrast_do_not_change_a_description() -> None:
    pictures = noise(4)
    darker = (pictures * 0.5 + 20).astype(np.uint8)
    vectors = describe(pictures)
    assert vectors.shape == (4, 65)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert (vectors * describe(darker)).sum(1) == pytest.approx(1, abs=1e-3)


def test_color_is_part_of_a_description() -> None:
    picture = noise(1)
    assert (describe(picture) * describe(picture[..., ::-1])).sum() < 0.7


def test_one_color_is_described_by_zeros() -> None:
    assert not describe(np.full((2, 16, 16, 3), 77, np.uint8)).any()


def test_search_finds_the_pairs_of_a_comparison_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(100)
    limits = np.random.default_rng(1).uniform(0.6, 0.95, 100).astype(np.float32)
    expected = by_hand(vectors, limits)
    assert len(expected) > 20
    assert near_neighbours(vectors, limits).tolist() == expected
    monkeypatch.setattr(candidates, "_BLOCK_ROWS", 16)  # blocks that do not divide the number of rows
    monkeypatch.setattr(candidates, "_BLOCK_COLUMNS", 24)
    assert near_neighbours(vectors, limits).tolist() == expected


def test_a_row_keeps_its_nearest_partners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 3)
    vectors, limits = unit_vectors(80), np.full(80, 0.2, np.float32)
    pairs = near_neighbours(vectors, limits)
    cosine = vectors @ vectors.T
    for row in range(70):
        later = [j for i, j in by_hand(vectors, limits) if i == row]
        nearest = sorted(sorted(later, key=lambda j: -cosine[row, j])[:3])
        assert pairs[pairs[:, 0] == row, 1].tolist() == nearest


def test_lists_hold_every_row_and_nearly_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "ROWS_PER_LIST", 20)
    vectors, limits = unit_vectors(400), np.full(400, 0.97, np.float32)
    lists = list(candidates._lists(vectors))
    assert len(lists) == 20
    assert np.bincount(np.concatenate(lists)).tolist() == [3] * 400
    exact = near_neighbours(vectors, limits)
    monkeypatch.setattr(candidates, "MAX_EXHAUSTIVE_ROWS", 100)
    met = near_neighbours(vectors, limits)
    assert {tuple(pair) for pair in met.tolist()} <= {tuple(pair) for pair in exact.tolist()}
    assert met.tolist() == sorted(met.tolist())
    assert len(met) > 0.95 * len(exact) > 10
