from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.split import crowd
from cnnkit.data.split.crowd import crowd_cosines, crowd_members, crowd_rank


def unit_vectors(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_crowd_is_the_fifth_nearest_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "NUM_PARTS", 1000)  # every picture is ranked
    vectors = unit_vectors(50)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1)
    np.testing.assert_allclose(crowd_cosines(vectors), np.sort(cosine, axis=1)[:, -5], atol=1e-6)
    np.testing.assert_allclose(crowd_cosines(vectors, rows=np.array([7, 3])), np.sort(cosine, axis=1)[[7, 3], -5], atol=1e-6)


def test_pictures_of_the_own_cluster_are_no_crowd() -> None:
    vectors = np.repeat(unit_vectors(20), 3, axis=0) + np.random.default_rng(1).normal(0, 0.1, (60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.repeat(np.arange(20) * 3, 3)
    members, cosines = crowd_members(vectors, np.array([0, 31]), 4, ids)
    assert members.shape == cosines.shape == (2, 4)
    assert not np.isin(members[0], [0, 1, 2]).any()
    assert not np.isin(members[1], [30, 31, 32]).any()
    assert (members % 3 == 0).all()
    assert (crowd_cosines(vectors, ids) < crowd_cosines(vectors) + 0.3).all()


def test_a_picture_is_no_member_of_its_own_crowd() -> None:
    members, _ = crowd_members(unit_vectors(9), np.arange(9), 8)
    assert all(row not in others for row, others in enumerate(members.tolist()))


def test_the_rank_is_smaller_if_clusters_are_known_and_all_pictures_are_in_the_sample() -> None:
    ids = np.arange(10)
    assert (crowd_rank(10, None), crowd_rank(10, ids), crowd_rank(crowd.SAMPLE_SIZE + 1, ids)) == (5, 2, 5)
