"""The verdict of a comparison of two models, in one sentence."""

from __future__ import annotations

import math

from cnnkit.metrics.comparison import PairComparison
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.paired import POWER

_NARROW_WIDTH = 0.002  # a narrower interval, as a share, needs hundredths of a point
_SMALL_P, _LARGE_P = 0.001, 0.1
_SIGNIFICANCE_TEXT = "0.05"


def verdict(pair: PairComparison) -> str:
    """Return the better model and its gain, or the number of images that would show a difference, in one sentence."""
    first, second, counts = pair.first, pair.second, pair.counts
    if pair.same_model:
        return f"{second} and {first} are identical: their model files are equal"
    if pair.identical:
        return f"{second} and {first} are identical on these {counts.n:,} images: equal predictions with equal probabilities"
    if not counts.only_first and not counts.only_second:
        return f"no significant difference: {second} and {first} are right on the same {counts.both:,} of {counts.n:,} images"
    p = f"{p_text(pair.corrected)}" + (f" (Holm, {pair.pairs} pairs)" if pair.pairs > 1 else "")
    if pair.better:
        worse = first if pair.better == second else second
        gain = pair.accuracy if pair.better == second else _negative(pair.accuracy)
        return f"{pair.better} is better than {worse}: {points(gain)}, {p}"
    return f"no significant difference: {second} against {first} {points(pair.accuracy)}, {p}; {_power_sentence(pair)}"


def points(difference: Estimate) -> str:
    """Return a difference of shares with its interval in percentage points: ``+1.2 points (0.4 to 2.0)``."""
    digits = 1 if difference.high - difference.low >= _NARROW_WIDTH else 2
    low, high = (f"{_no_minus_zero(100 * end, digits):.{digits}f}" for end in (difference.low, difference.high))
    return f"{signed(100 * difference.value, digits)} points ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """Return `value` with its sign and `digits` decimals; no sign if it rounds to 0."""
    rounded = _no_minus_zero(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{rounded:.{digits}f}"


def p_text(p: float) -> str:
    """Return a p-value as ``p = 0.012`` or ``p < 0.001``, rounded so that it stays above or below 0.05."""
    if p < _SMALL_P:
        return f"p < {_SMALL_P}"
    if p >= _LARGE_P:
        return f"p = {p:.2f}"
    short = f"{p:.2g}"
    return f"p = {short if short != _SIGNIFICANCE_TEXT else f'{p:.4f}'}"


def about(count: int) -> str:
    """Return an estimated number of images with two significant digits: ``about 4,100``."""
    digits = max(0, math.floor(math.log10(count)) - 1) if count > 0 else 0
    return f"about {round(count / 10**digits) * 10**digits:,}"


def _power_sentence(pair: PairComparison) -> str:
    power = f"with {100 * POWER:.0f} % power"
    if pair.needed is not None:
        return f"it takes {about(pair.needed)} test images to show a difference of this size {power}"
    if pair.smallest is not None:
        return f"these images show a difference of at least {100 * pair.smallest:.1f} points {power}"
    return f"they disagree on {pair.counts.only_first + pair.counts.only_second} images, too few to show any difference"


def _negative(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _no_minus_zero(value: float, digits: int) -> float:
    return round(value, digits) + 0.0
