"""Statistics of units: images that are copies of each other, or of one group, count less than independent images.

A model is often right on all images of a unit or wrong on all. An interval that counts such images as independent is too narrow: see
docs/benchmarks/RESULTS.md, "Intervals on units". The functions here count units. Where every image is a unit of its own, they return
exactly what the functions for independent images return.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.proportion import CONFIDENCE, Estimate, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Units of equal images that are added to those with the rarer outcome before the design effect is measured. With few mistakes it is
# measured badly: at 50 units of 1 to 6 images and accuracy 0.95, intervals hold the truth in 91 % with 0, in 95 % with 0.3, and in 97 %
# with 1 unit. See docs/benchmarks/LOG.md, "Intervals on units".
CAUTION = 0.3


@dataclass(frozen=True, eq=False)
class Units:
    """The units of N images: `index` int64 (N,) holds the number of each image's unit, from 0 to `count` - 1."""

    index: NDArray[np.int64]
    count: int

    @staticmethod
    def single(n: int) -> Units:
        """Return the units of `n` images of which each is a unit of its own."""
        return Units(np.arange(n), n)

    @staticmethod
    def of(names: Sequence[Hashable]) -> Units:
        """Return the units of images by the `names` (N,) of their units."""
        numbers: dict[Hashable, int] = {}
        index = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        return Units(index, len(numbers))

    @property
    def are_single(self) -> bool:
        """Tell whether every image is a unit of its own."""
        return self.count == len(self.index)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The number of images of each unit, (count,)."""
        return np.bincount(self.index, minlength=self.count)

    @cached_property
    def one_image_each(self) -> NDArray[np.int64]:
        """The first image of each unit, (count,) rows: a sample of independent images."""
        return np.unique(self.index, return_index=True)[1]

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sum of `values` (N,) over the images of each unit, (count,)."""
        return np.bincount(self.index, weights=values, minlength=self.count).astype(np.float64)

    def of_rows(self, rows: NDArray[Any] | np.bool_ | slice) -> Units:
        """Return the units of the images that `rows`, a mask, a slice or indices, selects, in the order of `rows`."""
        kept, index = np.unique(self.index[rows], return_inverse=True)
        return Units(index.astype(np.int64), len(kept))

    def widening(self, confidence: float = CONFIDENCE) -> float:
        """Return the factor by which few units widen an interval: Student's quantile over the normal one, with the lost degree."""
        if self.are_single:
            return 1.0
        if self.count < 2:  # noqa: PLR2004 (a spread needs two units)
            return math.inf
        return student_quantile(confidence, self.count - 1) / normal_quantile(confidence) * math.sqrt(self.count / (self.count - 1))


def normal_quantile(confidence: float) -> float:
    """Return the half width of a central normal interval of `confidence`, in standard deviations."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_quantile(confidence: float, degrees: int) -> float:
    """Return the half width of a central interval of Student's t with `degrees` of freedom, in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))


def proportion(hits: NDArray[np.bool_], units: Units, confidence: float = CONFIDENCE) -> Estimate:
    """Return the share of `hits` (N,) with an interval that counts units: Wilson's for fewer images, with Student's quantile.

    The number of images is divided by the design effect, the variance of the share among units over the variance among independent
    images (Kish 1965, Survey Sampling, section 8.2; Korn and Graubard 1998, Survey Methodology 24:193).
    """
    n, right = len(hits), int(hits.sum())
    if units.are_single:
        return wilson(right, n, confidence)
    worth = n / design_effect(hits - right / n, units, right * (1 - right / n))
    if units.count > 1:  # for few units, the quantile of Student's t instead of the normal one
        worth *= (normal_quantile(confidence) / student_quantile(confidence, units.count - 1)) ** 2
    found = wilson(right / n * worth, worth, confidence)
    return Estimate(right / n, min(found.low, right / n), max(found.high, right / n))


def design_effect(deviations: NDArray[np.floating[Any]], units: Units, independent: float) -> float:
    """Return the factor by which units raise the variance of a sum of `deviations` (N,) from the mean, at least 1.

    `independent` is the variance of the sum for independent images. Where few units deviate upwards, or few downwards, the factor is
    drawn towards that of units whose images are all alike (`CAUTION`). It equals this factor where no image deviates.
    """
    if units.are_single:
        return 1.0
    alike = float((units.sizes**2).sum()) / len(deviations)
    if independent <= 0 or units.count < 2:  # noqa: PLR2004 (a spread needs two units)
        return alike
    measured = float((units.sums(deviations) ** 2).sum()) * units.count / (units.count - 1) / independent
    above = deviations > 0
    rarer = min(units.of_rows(above).count, units.of_rows(~above).count)
    weight = CAUTION / (CAUTION + rarer)
    return max(1.0, (1 - weight) * measured + weight * alike)


def unit_weights(units: Units, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each unit is drawn in `draws` bootstrap samples of as many units with replacement, (draws, count)."""
    return rng.multinomial(units.count, np.full(units.count, 1 / units.count), size=draws).astype(np.float64)


def sign_flip_p(differences: NDArray[Any]) -> float:
    """Return the exact two-sided p-value of a sum of whole `differences` (U,), each of which could as well have the other sign.

    The probability is that of a sum at least as far from 0. For differences of -1, 0 and 1 it is McNemar's exact test.
    """
    sizes, numbers = np.unique(np.abs(np.rint(differences).astype(np.int64)), return_counts=True)
    total = abs(int(np.rint(differences).sum()))
    half = int((sizes * numbers).sum())  # the sum of all differences of one sign; a draw is this minus twice the flipped ones
    if not half:
        return 1.0
    flipped = np.ones(1)  # probabilities of the sum of the flipped differences
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        if size:
            scaled = np.zeros(size * number + 1)
            scaled[::size] = _fair_coins(number)
            flipped = np.convolve(flipped, scaled)
    sums = half - 2 * np.arange(half + 1)
    return min(1.0, float(flipped[np.abs(sums) >= total].sum()))


def _fair_coins(number: int) -> NDArray[np.float64]:
    """Return the probabilities of 0 to `number` heads among `number` fair coins."""
    from scipy.special import gammaln

    heads = np.arange(number + 1)
    return np.exp(gammaln(number + 1) - gammaln(heads + 1) - gammaln(number - heads + 1) - number * math.log(2))
