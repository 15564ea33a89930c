"""How right answers grow with training images: a power law through a few counts, with a band, and what more images would bring.

The error falls as a + b n^-c over a wide range of n (Hestness et al. 2017, arXiv:1712.00409; Rosenfeld et al. 2020, arXiv:1909.12673,
extrapolate it to 16 times the images). Three or four sizes cannot settle three numbers, so what matters here is the band.
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

# Exponents tried. Measured ones lie between 0.07 and 0.35 (arXiv:1712.00409, vision 0.3 and above); theory gives 0.5 and 1.
EXPONENTS = np.linspace(0.05, 1.0, 20)
LEAST_SIZES = 3  # a power law with a floor has three numbers


@dataclass(frozen=True, eq=False)
class Sizes:
    """What trainings on S sizes reached on the same `support` images, of one class or of all.

    `images` (S,) are the training images, ascending; `hits` (S,) the right answers, a mean where several seeds were trained.
    """

    images: NDArray[np.float64]
    hits: NDArray[np.float64]
    support: int


class LearningCurve:
    """A power law fitted to `sizes` by weighted least squares, and `draws` more of it from a parametric bootstrap.

    Weights are those of a proportion of `support` images. A draw replaces every count by one from the fitted curve, binomial times
    `dispersion` (see there), and fits again. Two choices were made by simulation (docs/more-data.md has the coverage): the sign of b
    is left free, else a flat curve seems to rise; and draws come from the curve with one right and one wrong answer added, else a class
    without a single mistake has no uncertainty. What comes out speaks of the expected share of right answers.
    Raises `ConfigError` for fewer than three sizes or no image to measure on.
    """

    def __init__(self, sizes: Sizes, *, dispersion: float = 1.0, draws: int = DRAWS, seed: int = 0) -> None:
        if len(sizes.images) < LEAST_SIZES or sizes.support < 1:
            raise ConfigError(
                f"a learning curve through {len(sizes.images)} sizes measured on {sizes.support} images: "
                f"it takes {LEAST_SIZES} sizes and an image"
            )
        self.sizes = sizes
        self._whole = float(sizes.images[-1])
        n = sizes.support
        self._fitted = self._fit(1 - sizes.hits[None] / n)
        expected = (self._errors(self._fitted, sizes.images)[0] * n + 1) / (n + 2)
        self._drawn = self._fit(_draw(expected, n, dispersion, draws, np.random.default_rng(seed)))

    def at(self, images: float, confidence: float = CONFIDENCE) -> Estimate:
        """Return the expected share of right answers after training on so many `images`, with its band."""
        return _estimate(1 - self._errors(self._fitted, [images])[0, 0], 1 - self._errors(self._drawn, [images])[:, 0], confidence)

    def gain(self, added: float, confidence: float = CONFIDENCE) -> Estimate:
        """Return by how much the expected share would rise if `added` images came to those of the largest training."""
        value = self._gains(self._fitted, added)[0]
        return _estimate(value, self._gains(self._drawn, added), confidence)

    def gains(self, added: float) -> NDArray[np.float64]:
        """Return that gain in every draw (D,)."""
        return self._gains(self._drawn, added)

    def misfit(self) -> float:
        """Return Pearson's chi-square of the counts against the fitted curve."""
        n = self.sizes.support
        expected = self._errors(self._fitted, self.sizes.images)[0]
        smooth = (expected * n + 1) / (n + 2)
        return float((((n - self.sizes.hits) / n - expected) ** 2 / (smooth * (1 - smooth) / n)).sum())

    def _gains(self, curves: NDArray[np.float64], added: float) -> NDArray[np.float64]:
        errors = self._errors(curves, [self._whole, self._whole + added])
        return errors[:, 0] - errors[:, 1]

    def _errors(self, curves: NDArray[np.float64], images: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors (D, M) of `curves` (D, 3) at so many images (M,)."""
        floor, slope, exponent = curves.T
        scaled = np.asarray(images, np.float64)[None] / self._whole
        return np.clip(floor[:, None] + slope[:, None] * scaled ** -exponent[:, None], 0.0, 1.0)

    def _fit(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (D, 3) floor, slope and exponent for `errors` (D, S): for each exponent a weighted line, then the best exponent.

        The line is in (n / largest n)^-c, which keeps the numbers near 1; its floor stays at 0 or above.
        """
        n = self.sizes.support
        smooth = (errors * n + 1) / (n + 2)  # Agresti and Coull: a count of 0 must not weigh without bound
        weights = n / (smooth * (1 - smooth))
        x = (self.sizes.images[None] / self._whole) ** -EXPONENTS[:, None]  # (G, S)
        total, y, yy = (column.sum(1)[:, None] for column in (weights, weights * errors, weights * errors**2))
        wx, wxx, wxy = weights @ x.T, weights @ (x * x).T, (weights * errors) @ x.T  # (D, G)
        spread = total * wxx - wx**2
        slope = np.where(spread > 1e-9 * total * wxx, (total * wxy - wx * y) / np.maximum(spread, 1e-300), 0.0)  # one size only: flat
        floor = (y - slope * wx) / total
        slope, floor = np.where(floor < 0, wxy / wxx, slope), np.maximum(floor, 0.0)
        misfit = yy - 2 * floor * y - 2 * slope * wxy + floor**2 * total + 2 * floor * slope * wx + slope**2 * wxx
        row, best = np.arange(len(errors)), misfit.argmin(1)
        return np.stack([floor[row, best], slope[row, best], EXPONENTS[best]], axis=1)


def dispersion(curves: Sequence[LearningCurve]) -> float:
    """Return how many times the variance of the counts exceeds the binomial one, at least 1, pooled over `curves`.

    Another seed gives other mistakes even on the same images, which the sizes of one class are too few to show, and all classes
    together are not: chi-square over its degrees of freedom, a quasi-binomial model (McCullagh and Nelder 1989, section 4.5). A curve
    takes two of them: its exponent is held in so narrow a range that it follows no noise (simulated: 1.0 where the truth is 1, 3.1
    where it is 3).
    """
    freedom = sum(len(curve.sizes.images) - 2 for curve in curves)
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
