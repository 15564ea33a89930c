from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.split import candidates
from cnnkit.data.split.candidates import FREQUENCIES, NUM_COEFFICIENTS, Candidates, describe, near_neighbours
from cnnkit.data.split.symmetry import frequency_moves, turned


def noise(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(60, 180, (count, 16, 16, 3), dtype=np.uint8)


def descriptions(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return unit vectors with a few strong coefficients, so that some of them are near to each other."""
    random = np.random.default_rng(seed)
    vectors = np.zeros((count, NUM_COEFFICIENTS), np.float32)
    vectors[:, [0, 1, 5, 6, 7, 12]] = random.normal(size=(count, 6))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(
    vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]], limits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> list[list[int]]:
    """Return the pairs whose cosine is above both limits after any symmetry of the first."""
    indices, signs = frequency_moves(FREQUENCIES)
    cosine = np.max([(vectors[:, index] * sign) @ vectors.T for index, sign in zip(indices, signs, strict=True)], axis=0)
    return [[i, j] for i in range(len(vectors)) for j in range(i + 1, len(vectors)) if cosine[i, j] > max(limits[i], limits[j])]


def distinct(found: Candidates) -> list[list[int]]:
    return np.unique(found.pairs, axis=0).tolist()


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
    vectors = descriptions(100)
    limits = np.random.default_rng(1).uniform(0.85, 0.99, 100).astype(np.float32)
    expected = by_hand(vectors, limits)
    assert len(expected) > 20
    assert distinct(near_neighbours(candidates.canonical(vectors), limits)) == expected
    monkeypatch.setattr(candidates, "_QUERY_ROWS", 16)  # blocks that do not divide the number of rows
    monkeypatch.setattr(candidates, "_BLOCK_COLUMNS", 24)
    assert distinct(near_neighbours(candidates.canonical(vectors), limits)) == expected


@pytest.mark.parametrize("number", range(8))
def test_a_turned_picture_is_found_with_its_symmetry(number: int) -> None:
    pictures = noise(20)
    view = turned(pictures[3:4], np.array([number], np.int8))
    found = near_neighbours(candidates.canonical(describe(np.concatenate([pictures, view]))), np.full(21, 0.95, np.float32))
    assert found.pairs.tolist() == [[3, 20]]
    assert found.symmetries.tolist() == [number]


def test_a_symmetric_picture_keeps_all_its_symmetries() -> None:
    picture = noise(1).astype(np.int16)
    symmetric = ((picture + picture[:, :, ::-1]) // 2).astype(np.uint8)
    found = near_neighbours(candidates.canonical(describe(np.concatenate([symmetric, symmetric]))), np.full(2, 0.99, np.float32))
    assert found.pairs.tolist() == [[0, 1], [0, 1]]
    assert found.symmetries.tolist() == [0, 2]


def test_a_row_keeps_its_nearest_partners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 3)
    monkeypatch.setattr(candidates, "SYMMETRY_MARGIN", 0.0)
    found = near_neighbours(candidates.canonical(descriptions(80)), np.full(80, 0.2, np.float32))
    assert np.bincount(found.pairs[:, 0]).max() == 3
    assert found.pairs.tolist() == sorted(found.pairs.tolist())


def test_lists_hold_every_row_and_nearly_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, limits = descriptions(400), np.full(400, 0.98, np.float32)
    exact = near_neighbours(candidates.canonical(vectors), limits)
    monkeypatch.setattr(candidates, "MAX_EXHAUSTIVE_ROWS", 100)
    monkeypatch.setattr(candidates, "ROWS_PER_LIST", 20)
    columns = candidates.canonical(vectors)
    lists = list(candidates._lists(columns, columns))
    assert len(lists) == 20
    assert np.bincount(np.concatenate([held for _, held in lists])).tolist() == [5] * 400
    met = distinct(near_neighbours(candidates.canonical(vectors), limits))
    assert {tuple(pair) for pair in met} <= {tuple(pair) for pair in distinct(exact)}
    assert len(met) > 0.95 * len(distinct(exact)) > 10


@pytest.mark.parametrize(("most", "lists"), [(200, 3), (199, 2)])
def test_many_rows_are_in_fewer_and_longer_lists(monkeypatch: pytest.MonkeyPatch, most: int, lists: int) -> None:
    monkeypatch.setattr(candidates, "MANY_ROWS", 100)
    monkeypatch.setattr(candidates, "MOST_ROWS", most)
    monkeypatch.setattr(candidates, "ROWS_PER_LIST_OF_MANY", 40)
    columns = candidates.canonical(descriptions(200))
    found = [held for _, held in candidates._lists(columns, columns)]
    assert len(found) == 5
    assert np.bincount(np.concatenate(found)).tolist() == [lists] * 200


def test_descriptions_come_back_from_their_canonical_form() -> None:
    vectors = descriptions(50)
    pose = candidates.canonical(vectors)
    np.testing.assert_array_equal(candidates.originals(pose), vectors)
    queries = candidates._Queries.within(pose, 2.0)
    every = queries.part(np.arange(len(queries.rows)))
    np.testing.assert_array_equal(every.vectors, candidates._moved(vectors[every.rows], every.symmetries))
    assert len(every.rows) == 8 * len(vectors)
