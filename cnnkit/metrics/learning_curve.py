"""Learning curve: a power law of the share of right predictions over the number of training images, with a band.

The error falls as a + b n^-c over a wide range of n (Hestness et al. 2017, arXiv:1712.00409; Rosenfeld et al. 2020, arXiv:1909.12673,
extrapolate it to 16 times the images). Three or four sizes cannot determine three parameters, so the band matters most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.errors import ConfigError
from cnnkit.metrics.intervals import CONFIDENCE, DRAWS, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Measured exponents lie between 0.07 and 0.35 (arXiv:1712.00409, vision 0.3 and above); theory gives 0.5 and 1.
EXPONENTS = np.linspace(0.05, 1.0, 20)
MIN_SIZES = 3  # a power law with a floor has three parameters


@dataclass(frozen=True, eq=False)
class CurvePoints:
    """The results of trainings of S sizes on the same `support` validation images, of one class or of all.

    `images` (S,) are the numbers of training images, ascending; `hits` (S,) the right predictions, a mean over the seeds.
    """

    images: NDArray[np.float64]
    hits: NDArray[np.float64]
    support: int


class LearningCurve:
    """A power law fitted to `points` by weighted least squares, with `draws` power laws of a parametric bootstrap.

    The weights are those of a proportion of `support` images. A draw replaces every count by a random count from the fitted curve, with
    `dispersion` times the binomial variance, and fits again. Two choices come from simulation (docs/more-data.md has the coverage).
    The sign of b is free, because otherwise a flat curve seems to rise. The draws come from the curve with one right and one wrong
    prediction added, because otherwise a class without a mistake has no uncertainty. The curve and its band describe the expected share
    of right predictions.
    Raises `ConfigError` if there are fewer than three sizes or no validation image.
    """

    def __init__(self, points: CurvePoints, *, dispersion: float = 1.0, draws: int = DRAWS, seed: int = 0) -> None:
        if len(points.images) < MIN_SIZES or points.support < 1:
            raise ConfigError(
                f"a learning curve needs at least {MIN_SIZES} sizes and 1 validation image, "
                f"got {len(points.images)} sizes and {points.support} images"
            )
        self.points = points
        self._whole = float(points.images[-1])
        n = points.support
        self._fitted = self._fit(1 - points.hits[None] / n)
        expected = (self._errors(self._fitted, points.images)[0] * n + 1) / (n + 2)
        self._drawn = self._fit(_draw(expected, n, dispersion, draws, np.random.default_rng(seed)))

    def at(self, images: float, confidence: float = CONFIDENCE) -> Estimate:
        """Return the expected share of right predictions after training on `images` images, with its band."""
        return _estimate(1 - self._errors(self._fitted, [images])[0, 0], 1 - self._errors(self._drawn, [images])[:, 0], confidence)

    def gain(self, added: float, confidence: float = CONFIDENCE) -> Estimate:
        """Return the expected rise of this share if the largest training had `added` more images, with its band."""
        value = self._gains(self._fitted, added)[0]
        return _estimate(value, self._gains(self._drawn, added), confidence)

    def gains(self, added: float) -> NDArray[np.float64]:
        """Return the gain from `added` more images in every draw (D,)."""
        return self._gains(self._drawn, added)

    def misfit(self) -> float:
        """Return Pearson's chi-square of the counts against the fitted curve."""
        n = self.points.support
        expected = self._errors(self._fitted, self.points.images)[0]
        smooth = (expected * n + 1) / (n + 2)
        return float((((n - self.points.hits) / n - expected) ** 2 / (smooth * (1 - smooth) / n)).sum())

    def _gains(self, curves: NDArray[np.float64], added: float) -> NDArray[np.float64]:
        errors = self._errors(curves, [self._whole, self._whole + added])
        return errors[:, 0] - errors[:, 1]

    def _errors(self, curves: NDArray[np.float64], images: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the errors (D, M) of `curves` (D, 3) at the numbers of `images` (M,)."""
        floor, slope, exponent = curves.T
        scaled = np.asarray(images, np.float64)[None] / self._whole
        return np.clip(floor[:, None] + slope[:, None] * scaled ** -exponent[:, None], 0.0, 1.0)

    def _fit(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return floor, slope and exponent (D, 3) for `errors` (D, S): a weighted line for each exponent, then the best exponent.

        The line is a function of (n / largest n)^-c, which keeps the numbers near 1. Its floor is at least 0.
        """
        n = self.points.support
        smooth = (errors * n + 1) / (n + 2)  # Agresti and Coull: bounds the weight of a count of 0
        weights = n / (smooth * (1 - smooth))
        x = (self.points.images[None] / self._whole) ** -EXPONENTS[:, None]  # (G, S)
        total, y, yy = (column.sum(1)[:, None] for column in (weights, weights * errors, weights * errors**2))
        wx, wxx, wxy = weights @ x.T, weights @ (x * x).T, (weights * errors) @ x.T  # (D, G)
        spread = total * wxx - wx**2
        slope = np.where(spread > 1e-9 * total * wxx, (total * wxy - wx * y) / np.maximum(spread, 1e-300), 0.0)  # flat for one size
        floor = (y - slope * wx) / total
        slope, floor = np.where(floor < 0, wxy / wxx, slope), np.maximum(floor, 0.0)
        misfit = yy - 2 * floor * y - 2 * slope * wxy + floor**2 * total + 2 * floor * slope * wx + slope**2 * wxx
        row, best = np.arange(len(errors)), misfit.argmin(1)
        return np.stack([floor[row, best], slope[row, best], EXPONENTS[best]], axis=1)


def dispersion(curves: Sequence[LearningCurve]) -> float:
    """Return the ratio of the variance of the counts to the binomial variance, at least 1, pooled over `curves`.

    Another seed makes other mistakes on the same images. The few sizes of one class cannot show this variance; all classes together can.
    The ratio is chi-square over its degrees of freedom, as in a quasi-binomial model (McCullagh and Nelder 1989, section 4.5). A curve
    takes two degrees of freedom, because its exponent is too restricted to follow noise (simulated: 1.0 for a true ratio of 1, 3.1 for
    a true ratio of 3).
    """
    freedom = sum(len(curve.points.images) - 2 for curve in curves)
    return max(1.0, sum(curve.misfit() for curve in curves) / freedom) if freedom else 1.0


def _draw(expected: NDArray[np.float64], n: int, dispersion: float, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return (D, S) shares of `n`, of mean `expected` (S,) and `dispersion` times the binomial variance (beta-binomial)."""
    likeness = min((dispersion - 1) / (n - 1), 0.99) if n > 1 else 0.0
    shares = np.broadcast_to(expected, (draws, len(expected)))
    if likeness > 0:
        weight = 1 / likeness - 1
        shares = random.beta(expected * weight, (1 - expected) * weight, size=shares.shape)
    return random.binomial(n, shares) / n


def _estimate(value: float, drawn: NDArray[np.float64], confidence: float) -> Estimate:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), min(float(value), float(low)), max(float(value), float(high)))
