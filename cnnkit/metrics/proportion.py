"""Proportions with score intervals, in pure Python: numpy takes longer to import than a few intervals take to compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from cnnkit.errors import ConfigError

CONFIDENCE = 0.95
_MAX_POISSON_COUNT, _MAX_SMALL_SAMPLE = 2, 50  # Brown, Cai and DasGupta widen up to 2 successes of 50 images, and 3 of more images


@dataclass(frozen=True)
class Estimate:
    """A measured value and the ends of its confidence interval, all in the unit of the value."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return ``{"value", "low", "high"}`` for JSON; a number that is not finite becomes None (null)."""
        return {"value": finite(self.value), "low": finite(self.low), "high": finite(self.high)}


def finite(value: float) -> float | None:
    """Return `value`, or None for NaN and infinity, which strict JSON lacks."""
    return float(value) if math.isfinite(value) else None


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Estimate:
    """Return a proportion with its score interval (Wilson 1927, JASA 22:209), widened near 0 and 1 as Brown, Cai and DasGupta advise.

    Unlike the textbook p ± 1.96 s, the interval stays inside [0, 1] and has a width at 0 and n successes. With at most two successes or
    failures (three of more than 50), the end near 0 or 1 is that of a Poisson count. Brown, Cai and DasGupta advise this in 2001,
    Statistical Science 16:101, section 4.1.1. The plain interval holds a true 0.99 in 91.1 % of all samples of 50, the widened interval
    in 98.6 %; such a sample allows no coverage in between. docs/benchmarks/intervals.py measures the coverage over n and accuracy. The
    mid-p and Jeffreys intervals fall to 92.9 % at n = 500 and 0.99.

    Without a trial (`n` = 0) the value is NaN and the interval [0, 1].
    Raises `ConfigError` if `confidence` is not between 0 and 1, or `successes` not in 0..n.
    """
    check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ConfigError(f"{successes} successes of {n} trials: successes must lie in 0..{n}")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = min(centre - half, _poisson_bound(successes, n, confidence))
    high = max(centre + half, 1 - _poisson_bound(n - successes, n, confidence))
    # min and max only remove rounding errors: at 0 and n successes the formula gives 0 and 1 exactly
    return Estimate(share, max(0.0, min(share, low)), min(1.0, max(share, high)))


def _poisson_bound(successes: float, n: float, confidence: float) -> float:
    """Return the lower bound of the share behind a small count of successes; 1 for other counts, where Wilson's formula applies."""
    if not 0 < successes <= (_MAX_POISSON_COUNT if n <= _MAX_SMALL_SAMPLE else _MAX_POISSON_COUNT + 1):
        return 1.0
    from scipy.special import gammaincinv

    return float(gammaincinv(successes, 1 - confidence)) / n  # half a quantile of chi-squared with 2 · successes degrees of freedom


def check_confidence(confidence: float) -> None:
    """Raise `ConfigError` unless `confidence` lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise ConfigError(f"the confidence must lie between 0 and 1, such as 0.95, got {confidence}")
