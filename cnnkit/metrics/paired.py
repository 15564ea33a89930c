"""Paired comparison of two models on the same images: McNemar's test, the difference in accuracy, and the power of both.

Only the images on which one model is right and the other wrong distinguish the models; the other images show how rare these are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import ConfigError
from cnnkit.metrics.proportion import CONFIDENCE, Estimate, check_confidence
from cnnkit.metrics.units import Units, design_effect, sign_flip_p

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

SIGNIFICANCE = 1 - CONFIDENCE  # a smaller p-value is significant; a 95 % interval without 0 agrees, except that the test is exact
POWER = 0.8  # the probability of finding a true difference, as most studies plan it (Cohen 1988)
_ROOT_OFFSET, _ROOT_TOLERANCE = 1e-9, 1e-12  # far below one image of the largest test sets


@dataclass(frozen=True)
class PairedCounts:
    """The numbers of images on which both models, one model or neither is right."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """Number of images."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def disagreement(self) -> float:
        """Share of images, in [0, 1], on which exactly one model is right."""
        return (self.only_first + self.only_second) / self.n


def paired_counts(first_right: ArrayLike, second_right: ArrayLike) -> PairedCounts:
    """Count images by whether the first and the second model are right, booleans (N,); raises `ConfigError` unless N > 0."""
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ConfigError(f"predictions of shapes {first.shape} and {second.shape} cannot be paired: both must be (N,), N at least 1")
    cells = np.bincount(2 * first + second, minlength=4)
    neither, only_second, only_first, both = (int(count) for count in cells)
    return PairedCounts(both, only_first, only_second, neither)


def mcnemar(counts: PairedCounts) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947, Psychometrika 12:153); the null hypothesis is equal accuracy.

    Under the null hypothesis each image on which the models disagree is a fair coin, so the count of either model is binomial. The test
    uses no approximation and is valid for any number of images. Without disagreement the p-value is 1.
    """
    from scipy.special import bdtr  # scipy.stats has the whole test, but takes 0.3 s to import

    fewer, disagreeing = min(counts.only_first, counts.only_second), counts.only_first + counts.only_second
    return min(1.0, 2 * float(bdtr(fewer, disagreeing, 0.5)))


@dataclass(frozen=True)
class PairedTest:
    """The comparison of two models on the same images: `counts`, the `difference` in accuracy, the p-value, and the design effect.

    The difference is the second model's accuracy minus the first's. It and the p-value count units. `effect` is the factor by which
    units raise the variance of the difference, 1 if every image is a unit.
    """

    counts: PairedCounts
    difference: Estimate
    p: float
    effect: float


def paired_test(first_right: ArrayLike, second_right: ArrayLike, units: Units | None = None) -> PairedTest:
    """Compare two models by whether each is right on each image, booleans (N,), of `units`.

    For images of several units the p-value is that of `sign_flip_p` on the difference in right predictions of each unit: under the null
    hypothesis the two models could be exchanged in any unit. Raises `ConfigError` as `paired_counts` does.
    """
    counts = paired_counts(first_right, second_right)
    if units is None or units.are_single:
        return PairedTest(counts, accuracy_difference(counts), mcnemar(counts), 1.0)
    change = np.asarray(second_right, dtype=np.float64) - np.asarray(first_right, dtype=np.float64)
    mean = float(change.mean())
    effect = design_effect(change - mean, units, float(((change - mean) ** 2).sum()))
    return PairedTest(counts, accuracy_difference(counts, effect=effect * units.widening() ** 2), sign_flip_p(units.sums(change)), effect)


def accuracy_difference(counts: PairedCounts, confidence: float = CONFIDENCE, effect: float = 1.0) -> Estimate:
    """Return the second model's accuracy minus the first's, in [-1, 1], with Tango's score interval (1998, Stat. Med. 17:891).

    `effect` divides the counts: the factor by which units raise the variance.

    The interval holds the differences that a score test does not reject. It stays inside [-1, 1] and has a width even if the models
    never disagree; a bootstrap of the four cells then claims certainty. docs/benchmarks/comparison.py simulates its coverage and that of
    three other intervals.
    """
    check_confidence(confidence)
    n, more, less = counts.n / effect, counts.only_second / effect, counts.only_first / effect
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    value = (more - less) / n

    def excess(difference: float) -> float:
        """Return the excess of the score test over its limit for a true `difference`; negative inside the interval."""
        linear = (2 * n - more + less) * difference - more - less
        product = less * difference * (1 - difference)
        share = (math.sqrt(max(0.0, linear**2 + 8 * n * product)) - linear) / (4 * n)  # most likely share of `only_first`
        variance = max(0.0, 2 * share + difference * (1 - difference))
        return (value - difference) ** 2 - z * z * variance / n

    # the value is a root too if the models never, or always, disagree; start beside it
    low = _root(excess, -1.0, value - _ROOT_OFFSET) if value > -1 else -1.0
    high = _root(excess, value + _ROOT_OFFSET, 1.0) if value < 1 else 1.0
    return Estimate(value, low, high)


def connor(difference: float, disagreement: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> float:
    """Return the number of images for which the approximate McNemar test finds a `difference` in accuracy with probability `power`.

    The difference must not be 0. `disagreement` is the share of images on which exactly one model is right, at least
    ``abs(difference)``. The formula is Connor's (1987, Biometrics 43:207).
    """
    return (_spread(difference, disagreement, significance, power) / difference) ** 2


def images_needed(difference: float, disagreement: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> int | None:
    """Return the number of images for which `mcnemar` finds a `difference` in accuracy with probability `power`; None for difference 0.

    The test is exact, so Connor's number gets the continuity correction of Fleiss, Tytun and Ury (1980, Biometrics 36:343). Simulated
    power is 80 to 86 % with the correction and 76 to 79 % without it (docs/benchmarks/comparison.py).
    """
    if difference == 0:
        return None
    plain = connor(difference, disagreement, significance=significance, power=power)
    return math.ceil(plain / 4 * (1 + math.sqrt(1 + 4 / (plain * abs(difference)))) ** 2)


def smallest_difference(n: float, disagreement: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> float | None:
    """Return the difference in accuracy that `n` images show with probability `power`: the inverse of `images_needed`.

    Returns None if the models disagree too rarely (`disagreement`) for any difference to show.
    """

    def excess(difference: float) -> float:
        return _spread(difference, disagreement, significance, power) * math.sqrt(n) + 1 - difference * n

    return _root(excess, 0.0, disagreement) if disagreement > 0 and excess(disagreement) <= 0 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979, Scand. J. Stat. 6:65), in the order given.

    If each corrected p-value below 0.05 counts as a finding, the probability of any false finding is at most 5 %.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _spread(difference: float, disagreement: float, significance: float, power: float) -> float:
    """Return the required product of a difference and the root of the number of images."""
    return _z(1 - significance / 2) * math.sqrt(disagreement) + _z(power) * math.sqrt(max(0.0, disagreement - difference**2))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq  # takes a quarter of a second to import

    found: Any = brentq(function, low, high, xtol=_ROOT_TOLERANCE)
    return float(found)


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)
