from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, chi2

from cnnkit.errors import ConfigError
from cnnkit.metrics import intervals
from cnnkit.metrics.counts import Margins, margins
from cnnkit.metrics.intervals import Estimate, bootstrap_counts, bootstrap_mean, f1_interval
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.scores import Scores, accuracy_of, macro_f1, macro_f1_of


@settings(deadline=None)  # a busy machine is not a failure
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy_except_near_0_and_n_successes(counts: tuple[int, int]) -> None:
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    ours = wilson(successes, n)
    assert ours.value == successes / n
    few = 2 if n <= 50 else 3
    low = min(expected.low, chi2.ppf(0.05, 2 * successes) / 2 / n) if 0 < successes <= few else expected.low
    high = max(expected.high, 1 - chi2.ppf(0.05, 2 * (n - successes)) / 2 / n) if 0 < n - successes <= few else expected.high
    np.testing.assert_allclose([ours.low, ours.high], [low, high], rtol=0, atol=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@pytest.mark.parametrize("n", [50, 500, 5000])
@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.99])
def test_the_interval_of_accuracy_has_its_nominal_coverage(n: int, accuracy: float) -> None:
    """Exact and simulated coverage (2,000 test sets) are 95 % ± 1.5, except for two cells with slightly wide intervals."""
    ends = [wilson(hits, n) for hits in range(n + 1)]
    holds = np.array([end.low <= accuracy <= end.high for end in ends])
    exact = float(binom.pmf(np.arange(n + 1), n, accuracy)[holds].sum())
    simulated = float(holds[np.random.default_rng(n).binomial(n, accuracy, size=2000)].mean())
    # the possible counts of 50 images are far apart: the coverage can be 94.2 or 97.0 % at 0.9, and 91.1 or 98.6 % at 0.99
    most = {(50, 0.9): 0.9704, (50, 0.99): 0.9863}.get((n, accuracy), 0.965)
    assert 0.935 <= exact <= most
    assert abs(simulated - exact) < 0.015


def test_the_interval_of_f1_is_a_transformed_proportion() -> None:
    perfect, never, some = f1_interval(wilson(20, 20)), f1_interval(wilson(0, 8)), f1_interval(wilson(8, 14))
    assert (perfect.value, perfect.high, never.value, never.low) == (1, 1, 0, 0)
    assert 0.85 < perfect.low < 0.95
    assert 0.3 < never.high < 0.7
    assert some.value == pytest.approx(16 / 22)
    assert some.low == pytest.approx(2 * wilson(8, 14).low / (1 + wilson(8, 14).low))
    assert math.isnan(f1_interval(wilson(0, 0)).value)


def test_the_interval_of_f1_has_its_nominal_coverage() -> None:
    random, truth = np.random.default_rng(0), 2 * 0.16 / (0.2 + 0.18)
    drawn = random.multinomial(100, [0.16, 0.04, 0.02, 0.78], size=2000)  # found, missed, falsely predicted, neither
    ends = [f1_interval(wilson(int(hits), int(hits + missed + false))) for hits, missed, false, _ in drawn]
    assert 0.935 <= np.mean([end.low <= truth <= end.high for end in ends]) <= 0.965


def test_wilson_has_a_width_without_a_mistake() -> None:
    perfect = wilson(100, 100)
    assert (round(perfect.low, 4), perfect.high) == (0.963, 1.0)
    assert wilson(0, 100).low == 0.0


def test_wilson_without_a_trial_is_undefined() -> None:
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "confidence", "message"),
    [
        (5, 4, 0.95, "5 successes of 4 trials: successes must lie in 0..4"),
        (-1, 4, 0.95, "-1 successes of 4 trials"),
        (1, 4, 95, "the confidence must lie between 0 and 1, such as 0.95, got 95"),
    ],
)
def test_impossible_counts_and_confidences_are_errors(successes: int, n: int, confidence: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wilson(successes, n, confidence)


@pytest.mark.parametrize(("share", "n"), [(0.9, 100), (0.99, 100), (0.5, 30)])
def test_wilson_has_its_nominal_coverage(share: float, n: int) -> None:
    successes = np.random.default_rng(0).binomial(n, share, size=4000)
    covered = [wilson(int(s), n).low <= share <= wilson(int(s), n).high for s in successes]
    assert 0.92 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize(("num_classes", "n", "share"), [(3, 150, 0.8), (10, 500, 0.8), (40, 400, 0.8)])
def test_bootstrap_of_macro_f1_has_its_nominal_coverage(num_classes: int, n: int, share: float) -> None:
    rng = np.random.default_rng(0)
    cells = (share * np.eye(num_classes) + (1 - share) * rng.dirichlet(np.full(num_classes, 0.3), size=num_classes)) / num_classes
    truth = macro_f1((cells * 1e9).astype(np.int64))
    covered = []
    for seed in range(200):
        table = rng.multinomial(n, cells.ravel() / cells.sum()).reshape(cells.shape)
        found = bootstrap_counts(table, macro_f1_of, draws=200, seed=seed)
        covered.append(found.low <= truth <= found.high)
    assert 0.89 <= np.mean(covered) <= 1.0


def test_bootstrap_of_accuracy_agrees_with_wilson() -> None:
    table = np.array([[450, 50], [100, 400]])
    ours, exact = bootstrap_counts(table, accuracy_of), wilson(850, 1000)
    assert ours.value == exact.value
    assert ours.low == pytest.approx(exact.low, abs=0.003)
    assert ours.high == pytest.approx(exact.high, abs=0.003)


def test_bootstrap_draws_whole_tables() -> None:
    """A statistic gets the margins of tables of N images whose empty cells stay empty."""
    table = np.array([[5, 0, 2], [0, 0, 0], [1, 0, 4]])
    seen: list[Margins] = []

    def statistic(drawn: Margins) -> Scores:
        seen.append(drawn)
        return accuracy_of(drawn)

    bootstrap_counts(table, statistic, draws=500)
    drawn = seen[0]
    assert drawn.hits.shape == (500, 3)
    assert (drawn.support.sum(axis=1) == 12).all()
    assert (drawn.predicted.sum(axis=1) == 12).all()
    assert (drawn.support[:, 1] == 0).all()
    assert (drawn.hits <= np.minimum(drawn.support, drawn.predicted)).all()
    sums = margins(table)
    for ours, expected in ((drawn.hits, sums.hits), (drawn.support, sums.support), (drawn.predicted, sums.predicted)):
        np.testing.assert_allclose(ours.mean(axis=0), expected, atol=0.4)


def test_bootstrap_is_repeatable_and_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.array([[30, 5], [8, 20]])
    values = np.random.default_rng(0).exponential(size=50)
    whole = bootstrap_counts(table, macro_f1_of), bootstrap_mean(values)
    monkeypatch.setattr(intervals, "_MAX_ENTRIES", 100)
    assert (bootstrap_counts(table, macro_f1_of), bootstrap_mean(values)) == whole
    assert bootstrap_counts(table, macro_f1_of, seed=1) != whole[0]


def test_bootstrap_of_a_thousand_classes_keeps_memory_bounded() -> None:
    rng = np.random.default_rng(0)
    table = np.zeros((1000, 1000), dtype=np.int64)
    table[rng.integers(1000, size=5000), rng.integers(1000, size=5000)] = 1
    tracemalloc.start()
    bootstrap_counts(table, macro_f1_of, draws=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # 100 whole tables would be 800 MB


@settings(deadline=None)  # a busy machine is not a failure
@given(st.lists(st.integers(0, 20), min_size=9, max_size=9).filter(any))
def test_bootstrap_intervals_hold_the_value(cells: list[int]) -> None:
    found = bootstrap_counts(np.array(cells).reshape(3, 3), macro_f1_of, draws=20)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("table", "draws"), [(np.zeros((2, 2), dtype=np.int64), 10), (np.eye(2, dtype=np.int64), 0)])
def test_a_bootstrap_without_draws_or_images_is_an_error(table: np.ndarray, draws: int) -> None:
    with pytest.raises(ConfigError, match="a bootstrap needs at least 1 draw and 1 image, got"):
        bootstrap_counts(table, macro_f1_of, draws=draws)


def test_bootstrap_mean_covers_the_mean_of_skewed_losses() -> None:
    rng = np.random.default_rng(0)
    found = [bootstrap_mean(rng.exponential(size=100), draws=200, seed=seed) for seed in range(300)]
    assert 0.90 <= np.mean([each.low <= 1.0 <= each.high for each in found]) <= 0.98


def test_the_normal_interval_of_many_values_agrees_with_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).exponential(size=5000)
    drawn = bootstrap_mean(values)
    monkeypatch.setattr(intervals, "_MAX_RESAMPLED_IMAGES", 1000)
    normal = bootstrap_mean(values)
    assert normal != drawn
    assert normal.value == drawn.value
    assert normal.low == pytest.approx(drawn.low, abs=0.003)
    assert normal.high == pytest.approx(drawn.high, abs=0.003)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_a_mean_without_a_spread_has_no_interval(values: list[float]) -> None:
    found = bootstrap_mean(values)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_estimate_is_strict_json() -> None:
    assert json.dumps(Estimate(math.inf, math.nan, 0.5).to_dict(), allow_nan=False) == '{"value": null, "low": null, "high": 0.5}'
