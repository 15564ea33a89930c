"""Two models that answered the same images: is one right more often, by how much, and how many images would tell.

Only the images on which one is right and the other is wrong tell the models apart; the others tell how rare these are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import ConfigError
from cnnkit.metrics.intervals import CONFIDENCE, Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

SIGNIFICANCE = 1 - CONFIDENCE  # a p-value below it tells; so does, but for the exactness of the test, a 95 % interval without 0
POWER = 0.8  # the chance that a difference is told which is there: what most studies are planned for (Cohen 1988)
_BESIDE, _EXACT = 1e-9, 1e-12  # both far below one image in the largest of test sets


@dataclass(frozen=True)
class PairedCounts:
    """The images of a comparison by who is right."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """All images."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def disagreement(self) -> float:
        """The share of images, in [0, 1], on which one is right and the other is wrong."""
        return (self.only_first + self.only_second) / self.n


def paired_counts(first_right: ArrayLike, second_right: ArrayLike) -> PairedCounts:
    """Count N > 0 images by whether the first and the second model are right, booleans (N,); raises `ConfigError` without any."""
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ConfigError(f"answers of shapes {first.shape} and {second.shape} cannot be paired: both must be (N,), N at least 1")
    cells = np.bincount(2 * first + second, minlength=4)
    neither, only_second, only_first, both = (int(count) for count in cells)
    return PairedCounts(both, only_first, only_second, neither)


def mcnemar(counts: PairedCounts) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947, Psychometrika 12:153) that both are right equally often.

    If so, each image on which they disagree is a fair coin, so the count of one side is binomial; no approximation, hence valid
    for any number of images. Without disagreement it is 1.
    """
    from scipy.special import bdtr  # scipy.stats has the test by name, and takes 0.3 s to import

    fewer, disagreeing = min(counts.only_first, counts.only_second), counts.only_first + counts.only_second
    return min(1.0, 2 * float(bdtr(fewer, disagreeing, 0.5)))


def accuracy_difference(counts: PairedCounts, confidence: float = CONFIDENCE) -> Estimate:
    """Return the second model's accuracy minus the first's, in [-1, 1], with Tango's score interval (1998, Stat. Med. 17:891).

    It holds the differences that a score test does not reject, so it stays inside [-1, 1] and has a width even if the models never
    disagree, where a bootstrap of the four cells claims certainty. Its coverage, and that of three others, was simulated:
    docs/benchmarks/comparison.py.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} must lie between 0 and 1, such as 0.95")
    n, more, less = counts.n, counts.only_second, counts.only_first
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    value = (more - less) / n

    def excess(difference: float) -> float:
        """By how much the score test exceeds its limit if the true difference were this: negative inside the interval."""
        linear = (2 * n - more + less) * difference - more - less
        product = less * difference * (1 - difference)
        share = (math.sqrt(max(0.0, linear**2 + 8 * n * product)) - linear) / (4 * n)  # most likely one of `only_first`
        variance = max(0.0, 2 * share + difference * (1 - difference))
        return (value - difference) ** 2 - z * z * variance / n

    # the value itself is a root too where nobody, or everybody, is right alone: look beside it
    low = _root(excess, -1.0, value - _BESIDE) if value > -1 else -1.0
    high = _root(excess, value + _BESIDE, 1.0) if value < 1 else 1.0
    return Estimate(value, low, high)


def connor(difference: float, disagreement: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> float:
    """Return how many images the approximate McNemar test needs to tell a `difference` in accuracy, not 0, with probability `power`.

    `disagreement` is the share of images on which one model is right and the other wrong, at least ``abs(difference)``. Connor 1987,
    Biometrics 43:207.
    """
    return (_spread(difference, disagreement, significance, power) / difference) ** 2


def images_needed(difference: float, disagreement: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> int | None:
    """Return how many images `mcnemar` needs to tell a `difference` in accuracy with probability `power`; None for no difference.

    Connor's number with the continuity correction of Fleiss, Tytun and Ury (1980, Biometrics 36:343), as this test is exact: by
    simulation with as many images it tells 80 to 86 times in 100, where Connor's own give 76 to 79 (docs/benchmarks/comparison.py).
    """
    if difference == 0:
        return None
    plain = connor(difference, disagreement, significance=significance, power=power)
    return math.ceil(plain / 4 * (1 + math.sqrt(1 + 4 / (plain * abs(difference)))) ** 2)


def smallest_difference(n: int, disagreement: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> float | None:
    """Return the difference in accuracy that `n` images tell with probability `power`: `images_needed` the other way round.

    None if the models disagree so rarely (`disagreement`) that these images could tell none.
    """

    def excess(difference: float) -> float:
        return _spread(difference, disagreement, significance, power) * math.sqrt(n) + 1 - difference * n

    return _root(excess, 0.0, disagreement) if disagreement > 0 and excess(disagreement) <= 0 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979, Scand. J. Stat. 6:65), in the order given.

    Where each below 0.05 is taken for a finding, the chance of even one false finding among all is at most 5 %.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _spread(difference: float, disagreement: float, significance: float, power: float) -> float:
    """What a difference times the root of the number of images must reach."""
    return _z(1 - significance / 2) * math.sqrt(disagreement) + _z(power) * math.sqrt(max(0.0, disagreement - difference**2))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq  # takes a quarter of a second to import

    found: Any = brentq(function, low, high, xtol=_EXACT)
    return float(found)


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)
