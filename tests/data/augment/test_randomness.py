from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cnnkit.data.augment.randomness import permutation, uniform


def chi_square(values: np.ndarray, bins: int = 64) -> float:
    """Return Pearson's statistic for equal bins, in standard deviations from its expectation (bins - 1)."""
    observed, _ = np.histogram(values, bins, (0, 1))
    expected = values.size / bins
    return float(((observed - expected) ** 2 / expected).sum() - (bins - 1)) / np.sqrt(2 * (bins - 1))


DRAWS: dict[str, Callable[[], np.ndarray]] = {
    "over keys": lambda: uniform(0, 1, np.arange(60_000), 1),
    "over draws": lambda: uniform(0, 1, np.arange(10), 6_000),
    "over epochs": lambda: np.stack([uniform(0, epoch, np.arange(20), 3) for epoch in range(1_000)]),
    "over seeds": lambda: np.stack([uniform(seed, 1, np.arange(20), 3) for seed in range(1_000)]),
    "over repetitions": lambda: uniform(0, 1, 5 + (np.arange(60_000) << 32), 1),
}


@pytest.mark.parametrize("along", DRAWS)
def test_numbers_are_uniform(along: str) -> None:
    draws = DRAWS[along]()
    assert draws.dtype == np.float32
    assert draws.size == 60_000
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / draws.size))
    assert abs(chi_square(draws.ravel())) < 5
    low_bits = (draws.astype(np.float64) * 2**24).astype(np.int64) % 64
    assert abs(chi_square((low_bits.ravel() + 0.5) / 64)) < 5


def test_numbers_of_one_image_are_unrelated_to_each_other_and_to_the_next_image() -> None:
    draws = uniform(0, 1, np.arange(20_000), 6).astype(np.float64)
    limit = 5 / np.sqrt(20_000)
    assert np.abs(np.corrcoef(draws.T) - np.eye(6)).max() < limit
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < limit
    for other in (uniform(1, 1, np.arange(20_000), 6), uniform(0, 2, np.arange(20_000), 6)):
        assert abs(np.corrcoef(draws[:, 0], other[:, 0])[0, 1]) < limit


def test_numbers_depend_on_the_key_and_not_on_its_position_or_batch() -> None:
    keys = np.arange(100)
    whole = uniform(3, 7, keys, 6)
    order = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(uniform(3, 7, keys[order], 6), whole[order])
    np.testing.assert_array_equal(np.concatenate([uniform(3, 7, part, 6) for part in np.array_split(keys, 7)]), whole)
    np.testing.assert_array_equal(uniform(3, 7, keys, 2), whole[:, :2])


def test_seed_epoch_and_key_all_matter() -> None:
    kinds = [uniform(seed, epoch, np.array([key]), 4).tobytes() for seed in range(4) for epoch in range(4) for key in (0, 1, 2, 1 << 32)]
    assert len(set(kinds)) == 64


def test_large_seeds_are_taken_without_a_warning() -> None:
    assert uniform(2**31 - 1, 10_000, np.array([2**62]), 1).shape == (1, 1)


def test_a_permutation_holds_every_index_once_and_depends_on_seed_and_epoch() -> None:
    orders = {(seed, epoch): permutation(seed, epoch, 50) for seed in range(3) for epoch in range(3)}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 9
    np.testing.assert_array_equal(permutation(1, 2, 50), orders[1, 2])
    assert permutation(0, 0, 0).size == 0


def test_permutations_are_uniform() -> None:
    first = [int(permutation(seed, 1, 5)[0]) for seed in range(1_000)]
    assert all(150 < count < 250 for count in np.bincount(first))  # 200 expected, standard deviation 13
