from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from cnnkit.metrics.ranking import rank
from cnnkit.metrics.resampling import _strata, _weights, bootstrap_rows, bootstrap_scores
from cnnkit.metrics.units import Units


def test_images_are_drawn_within_their_class() -> None:
    strata = np.repeat([3, 0, 1], [20, 10, 12])
    drawn = np.concatenate(list(_weights(strata, 500, 0)))
    assert drawn.shape == (500, 42)
    for stratum, size in ((0, 10), (1, 12), (3, 20)):
        assert (drawn[:, strata == stratum].sum(axis=1) == size).all()
    assert drawn.mean() == 1
    assert abs(drawn[:, :20].var() - 0.95) < 0.1, "with replacement: a binomial variance of 1 - 1/20"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((20, 10), [0, 1]), ((20, 4, 6), [0, -1, -1]), ((20, 4, 15), [0, -1, -1]), ((3, 4), [-1, -1]), ((0, 12, 1, 0, 30), [-1, -1, 4])],
)
def test_small_classes_are_drawn_together(sizes: tuple[int, ...], expected: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert [_strata(labels)[labels == label][0] for label in np.unique(labels)] == expected


def test_the_interval_of_a_mean_equals_a_plain_bootstrap() -> None:
    random = np.random.default_rng(0)
    labels, values = np.repeat([0, 1], 200), random.exponential(size=400)
    (found,) = bootstrap_rows(labels, [values.mean()], ((values - values.mean()) / 400)[:, None])
    draws = [np.concatenate([random.choice(values[:200], 200), random.choice(values[200:], 200)]).mean() for _ in range(2000)]
    assert found.value == values.mean()
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_intervals_of_areas_nearly_equal_a_bootstrap_that_sorts_every_draw() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 100)
    probs = random.normal(size=(300, 3)) + 1.5 * np.eye(3)[labels]
    found = rank(labels, probs)
    influences = np.stack([found.roc_auc_influence, found.average_precision_influence], axis=1)
    area, precision = bootstrap_rows(labels, [found.roc_auc, found.average_precision], influences)
    again = []
    for _ in range(400):
        rows = np.concatenate([random.integers(100 * k, 100 * (k + 1), 100) for k in range(3)])
        drawn = rank(labels[rows], probs[rows])
        again.append((drawn.roc_auc, drawn.average_precision))
    ends = np.quantile(again, [0.025, 0.975], axis=0) - np.mean(again, axis=0)
    assert [area.low - area.value, area.high - area.value] == pytest.approx(ends[:, 0], abs=0.004)
    assert [precision.low - precision.value, precision.high - precision.value] == pytest.approx(ends[:, 1], abs=0.008)


def test_a_single_image_has_no_interval() -> None:
    (found,) = bootstrap_rows(np.zeros(1, np.int64), [0.3], np.zeros((1, 1)))
    assert found.value == 0.3
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_memory_is_bounded_for_many_images() -> None:
    labels, influences = np.zeros(200_000, np.int64), np.zeros((200_000, 1))
    tracemalloc.start()
    bootstrap_rows(labels, [0.0], influences, draws=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_the_intervals_have_their_nominal_coverage() -> None:
    def made_up(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat([0, 1, 2], per_class)
        return labels, np.random.default_rng(seed).normal(size=(len(labels), 3)) + 1.5 * np.eye(3)[labels]

    def scores(labels: np.ndarray, probs: np.ndarray) -> tuple[list[float], np.ndarray]:
        ordering, losses = rank(labels, probs), np.exp(-probs[np.arange(len(labels)), labels])  # a long right tail, as losses have
        influences = [ordering.roc_auc_influence, ordering.average_precision_influence, (losses - losses.mean()) / len(losses)]
        return [ordering.roc_auc, ordering.average_precision, float(losses.mean())], np.stack(influences, axis=1)

    truth, held = scores(*made_up(100_000, 0))[0], np.zeros(3)
    for seed in range(1, 301):
        labels, probs = made_up(60, seed)
        found = bootstrap_rows(labels, *scores(labels, probs), draws=300, seed=seed)
        held += [one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]
    assert (held / 300 >= 0.9).all()
    assert (held / 300 <= 0.985).all()


def test_the_interval_of_any_score_equals_a_plain_bootstrap() -> None:
    random = np.random.default_rng(0)
    values = random.exponential(size=300)
    found = bootstrap_scores(lambda rows: float(np.median(values[rows])), Units.single(300))
    draws = [np.median(random.choice(values, 300)) for _ in range(2000)]
    assert found.value == np.median(values)
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.03)


def test_units_are_drawn_as_a_whole() -> None:
    units = Units.of([0, 0, 1, 2, 2, 2])
    drawn: list[np.ndarray] = []
    bootstrap_scores(lambda rows: drawn.append(rows) or float(len(rows)), units)
    assert len(drawn) == 1001
    for rows in drawn[1:]:
        times = np.bincount(rows, minlength=6)
        assert times[0] == times[1]
        assert times[3] == times[4] == times[5]
        assert times[0] + times[2] + times[3] == 3


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (lambda _: 0.5, 0.5),
        (lambda _: math.nan, math.nan),
        (lambda rows: 1.0 + rows[0] if len(set(rows.tolist())) == 4 else math.nan, 1.0),
    ],
)
def test_a_score_that_hardly_varies_or_is_hardly_defined_has_no_interval(score, value: float) -> None:
    found = bootstrap_scores(score, Units.single(4))
    assert found.value == pytest.approx(value, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_draws_that_do_not_define_a_score_are_left_out() -> None:
    found = bootstrap_scores(lambda rows: math.nan if (rows == 0).sum() == 0 else float(rows.mean()), Units.single(20))
    assert found.low < found.value < found.high
