"""Statistics of units: images that are not independent, because they are copies or belong to one group, count as one.

A patient's three X-rays are right or wrong together, so 150 images of 50 patients tell less than 150 images of 150. The design effect
says how much less (Kish 1965, Survey Sampling): the variance of a mean over units, divided by that over as many independent images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.errors import ConfigError
from cnnkit.metrics.intervals import CONFIDENCE, Estimate, score_interval, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Standard errors that are added to a design effect before it is used, as it is estimated from the units with a mistake and these may be
# few. Without them 50 units of 1 to 6 images at 95 % accuracy are covered in 90 to 96 %, with them in 94 to 98: docs/benchmarks/units.py.
CAUTION = 0.45


def unit_proportion(hits: ArrayLike, units: NDArray[np.integer], confidence: float = CONFIDENCE) -> Estimate:
    """Return the share of `hits` (N,), booleans, with an interval that knows which images belong together.

    `units` (N,) number the unit of each image. Where every image is a unit of its own, this is `wilson`. Else it is the score interval
    of N / (design effect) images, with Student's quantile for the number of units less one. One unit says nothing: [0, 1].
    Raises `ConfigError` as `wilson` does, or if the two differ in length.
    """
    right = np.asarray(hits, dtype=np.float64)
    numbers = _numbered(units, len(right))
    count = int(numbers.max(initial=-1)) + 1
    if count == len(right):
        return wilson(float(right.sum()), len(right), confidence)
    share = float(right.mean())
    if count == 1:
        return Estimate(share, 0.0, 1.0)
    from scipy.special import stdtrit  # scipy.stats has the distribution by name, and takes 0.3 s to import

    effect = cautious_design_effect(right, numbers)
    return score_interval(share, len(right) / effect, float(stdtrit(count - 1, (1 + confidence) / 2)))


def cautious_design_effect(values: NDArray[np.floating], units: NDArray[np.integer]) -> float:
    """Return the design effect of the mean of 0 or 1 `values` (N,) over `units` (N,), from 1 to that of units that agree within.

    It is raised by `CAUTION` standard errors, about sqrt(2 / E) of itself where E units have the rarer value.
    """
    sizes, sums = np.bincount(units), np.bincount(units, weights=values)
    highest = float((sizes**2).sum() / sizes.sum())
    rare = min(int((sums > 0).sum()), int((sums < sizes).sum()))
    if rare == 0:
        return highest
    raised = design_effect(values, units) * (1 + CAUTION * math.sqrt(2 / rare))
    return min(max(raised, 1.0), highest)


def design_effect(values: NDArray[np.floating], units: NDArray[np.integer]) -> float:
    """Return the variance of the mean of `values` (N,) over `units` (N,), at least two, divided by that of N independent values.

    The numerator is the variance of a ratio of sums over units (Cochran 1977, Sampling Techniques, section 6.3). 1 for equal values.
    """
    mean, n = float(values.mean()), len(values)
    sizes, sums = np.bincount(units), np.bincount(units, weights=values)
    count = len(sizes)
    over_units = count / (count - 1) * float(np.square(sums - mean * sizes).sum()) / n**2
    independent = float(values.var()) / n
    return over_units / independent if independent > 0 else 1.0


def sign_flip_p(differences: NDArray[np.integer]) -> float:
    """Return the exact two-sided p-value that units favour neither of two models; `differences` (U,) are whole numbers.

    A unit's difference is the number of its images that the second model alone has right, less the first's. If the models are equally
    good, each unit's difference is as likely with the other sign, so the sum has a known distribution. With one image a unit this is the
    exact McNemar test. Without any difference it is 1.
    """
    from scipy.special import comb

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total, reach = abs(int(differences.sum())), int((sizes * counts).sum())
    if not reach:
        return 1.0
    chance = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        flips = np.zeros(2 * size * count + 1)
        flips[:: 2 * size] = comb(count, np.arange(count + 1)) / 2.0**count if count <= MAX_EXACT_UNITS else _binomial(count)
        chance = np.convolve(chance, flips)
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(chance[np.abs(sums) >= total].sum()))


MAX_EXACT_UNITS = 1000  # of one size: 2 to a larger power is no float64


def _binomial(count: int) -> NDArray[np.float64]:
    """Return the probabilities of 0 to `count` heads of a fair coin, by logarithms."""
    from scipy.special import gammaln

    heads = np.arange(count + 1)
    return np.exp(gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1) - count * math.log(2))


def _numbered(units: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    if units.shape != (n,):
        raise ConfigError(f"units of shape {units.shape} for {n} images: one number an image is needed")
    return np.unique(units, return_inverse=True)[1].astype(np.int64)
