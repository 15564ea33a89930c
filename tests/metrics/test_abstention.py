from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from cnnkit.errors import ConfigError, DataError
from cnnkit.metrics.abstention import (
    Abstention,
    Shortfall,
    find_threshold,
    operating_point,
    risk_coverage,
    risk_coverage_curve,
    upper_bound,
)
from cnnkit.metrics.proportion import wilson


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return top probabilities of a calibrated model of 80 % accuracy, and whether each prediction is wrong."""
    rng = np.random.default_rng(seed)
    top = 1 - 0.6 * rng.random(n) ** 2
    return top, rng.random(n) > top


def true_risk(threshold: float) -> float:
    """Return the risk of `draw` above a threshold: the mean of 0.6 u² over u from 0 to the u at which 1 - 0.6 u² is the threshold."""
    return 0.2 * min(1.0, (1 - threshold) / 0.6)


@pytest.mark.parametrize(("n", "risk"), [(300, 0.1), (2000, 0.05)])
def test_the_guaranteed_risk_holds_in_95_of_100_draws(n, risk):
    rules = [rule for seed in range(200) if isinstance(rule := find_threshold(*draw(n, seed), risk, split="val"), Abstention)]
    broken = sum(true_risk(rule.threshold) > risk for rule in rules)
    assert len(rules) > 150
    assert broken <= binom.ppf(0.99, 200, 0.05)
    # the rules are useful: they cover at least half as much as the best threshold, which no user knows
    assert np.mean([rule.coverage for rule in rules]) > 0.5 * math.sqrt(risk / 0.2)


def test_the_risk_holds_on_the_other_part_of_random_splits():
    top, wrong = draw(4000, 0)
    rng, held, found = np.random.default_rng(1), 0, 0
    for _ in range(100):
        order = rng.permutation(4000)
        half, other = order[:800], order[800:]
        rule = find_threshold(top[half], wrong[half], 0.1, split="val")
        if isinstance(rule, Abstention):
            found += 1
            here = operating_point(top[other], wrong[other], rule.threshold)
            held += here.errors <= 0.1 * here.accepted
    assert found >= 95
    assert held >= 0.95 * found


def test_a_rule_passes_the_exact_test_and_counts_its_images():
    top, wrong = draw(2000, 7)
    rule = find_threshold(top, wrong, 0.05, split="val")
    assert isinstance(rule, Abstention)
    accepted = top >= rule.threshold
    assert (rule.answered, rule.errors, rule.n, rule.split) == (accepted.sum(), wrong[accepted].sum(), 2000, "val")
    assert rule.coverage == accepted.mean()
    assert binom.cdf(rule.errors, rule.answered, 0.05) <= 0.05
    assert rule.errors / rule.answered < rule.bound <= rule.risk == 0.05
    assert rule.bound == pytest.approx(binomtest(rule.errors, rule.answered, alternative="less").proportion_ci(0.95, "exact").high)
    np.testing.assert_array_equal(rule.accepts(top.astype(np.float32)), accepted)


def test_a_threshold_lies_half_way_between_two_images_so_that_rounding_moves_none():
    top, wrong = draw(2000, 7)
    rule = find_threshold(top, wrong, 0.05, split="val")
    assert isinstance(rule, Abstention)
    above, below = top[top >= rule.threshold].min(), top[top < rule.threshold].max()
    assert above - rule.threshold == pytest.approx(rule.threshold - below)


def test_the_rule_of_a_model_without_mistakes_accepts_every_image():
    rule = find_threshold(np.linspace(0.5, 1, 200), np.zeros(200), 0.02, split="val")
    assert isinstance(rule, Abstention)
    assert (rule.threshold, rule.coverage, rule.errors) == (0.0, 1.0, 0)
    assert rule.bound == pytest.approx(1 - 0.05 ** (1 / 200))


def test_a_shortfall_of_images_has_the_smallest_risk_and_the_number_needed():
    short = find_threshold(np.linspace(0.5, 1, 100), np.zeros(100), 0.02, split="val")
    assert isinstance(short, Shortfall)
    assert short.best is not None
    assert (short.n, short.best.risk) == (100, 0.03)  # 1 - 0.05^(1/100) is 2.95 %
    assert short.needed == 149  # ln 0.05 / ln 0.98
    assert isinstance(find_threshold(np.linspace(0.5, 1, 149), np.zeros(149), 0.02, split="val"), Abstention)


def test_a_model_that_is_always_wrong_has_neither_a_rule_nor_a_number_needed():
    short = find_threshold(np.linspace(0.5, 1, 500), np.ones(500), 0.02, split="val")
    assert short == Shortfall(0.02, 500, None, None)


def test_one_image_gives_a_shortfall():
    short = find_threshold([0.9], [False], 0.02, split="val")
    assert short == Shortfall(0.02, 1, None, 149)


def test_one_mistake_among_the_surest_does_not_end_the_search():
    top, wrong = np.linspace(1, 0.5, 3000), np.zeros(3000, bool)
    wrong[0] = True
    rule = find_threshold(top, wrong, 0.02, split="val")
    assert isinstance(rule, Abstention)
    assert (rule.coverage, rule.errors) == (1.0, 1)


def test_wrong_predictions_of_highest_probability_give_a_shortfall():
    top, wrong = np.linspace(1, 0.5, 1000), np.zeros(1000, bool)
    wrong[:50] = True
    short = find_threshold(top, wrong, 0.02, split="val")
    assert isinstance(short, Shortfall)
    assert short.needed is None
    assert short.best is not None
    assert short.best.risk > 0.05


def test_equally_sure_images_stay_together():
    top = np.repeat([0.9, 0.8, 0.6], [400, 300, 300])
    wrong = np.concatenate([np.zeros(700, bool), np.ones(300, bool)])
    rule = find_threshold(top, wrong, 0.02, split="val")
    assert isinstance(rule, Abstention)
    assert rule.threshold == pytest.approx(0.7)
    assert rule.answered == 700
    assert [row.accepted for row in risk_coverage(top, wrong, [0.5, 0.71, 0.1])] == [700, 1000, 400]


def test_a_rule_accepts_images_of_probability_one_together_or_not_at_all():
    assert isinstance(find_threshold(np.ones(300), np.arange(300) < 30, 0.02, split="val"), Shortfall)
    rule = find_threshold(np.ones(300), np.zeros(300), 0.02, split="val")
    assert isinstance(rule, Abstention)
    assert rule.coverage == 1


@pytest.mark.parametrize("risk", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_risk_outside_0_to_1_is_an_error(risk):
    with pytest.raises(ConfigError, match=r"the risk must lie between 0 and 1, got .*; 0\.02 allows at most 2 wrong predictions of 100"):
        find_threshold([0.5], [True], risk, split="val")


@pytest.mark.parametrize("top", [[0.5, math.nan], [0.5, 7.0], [0.5, -0.1]])
def test_a_top_probability_outside_0_to_1_is_an_error(top):
    with pytest.raises(DataError, match=r"NaN or outside 0\.\.1"):
        find_threshold(top, [True, False], 0.1, split="val")


def test_no_image_and_unequal_shapes_are_errors():
    with pytest.raises(DataError, match=r"both must be \(N,\), N > 0"):
        risk_coverage([], [])
    with pytest.raises(DataError, match=r"shape \(2,\) and mistakes of shape \(1,\)"):
        risk_coverage([0.5, 0.5], [True])


def test_the_table_counts_the_accepted_images_of_each_threshold():
    top, wrong = draw(97, 3)
    rows = risk_coverage(top, wrong)
    assert [row.accepted for row in rows] == [97, 93, 88, 78, 68, 49]
    for row in rows:
        assert row == operating_point(top, wrong, row.threshold)
        assert row.errors == wrong[top >= row.threshold].sum()
        assert row.risk == wilson(row.errors, row.accepted)
    assert rows[0].to_dict()["risk"]["value"] == pytest.approx(wrong.mean())
    coverage, risk = risk_coverage_curve(top, wrong)
    assert (coverage[-1], risk[-1]) == (1.0, pytest.approx(wrong.mean()))
    assert risk[48] == pytest.approx(rows[-1].errors / 49)


def test_a_threshold_that_accepts_no_image_has_no_risk():
    empty = operating_point([0.5, 0.6], [True, False], 0.9)
    assert (empty.accepted, empty.coverage) == (0, 0.0)
    assert empty.to_dict()["risk"] == {"value": None, "low": 0.0, "high": 1.0}


def test_the_bound_of_no_image_and_of_mistakes_alone_is_one():
    assert upper_bound(0, 0, 0.05) == upper_bound(5, 5, 0.05) == 1.0
