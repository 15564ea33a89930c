"""What a comparison of two models says, in words."""

from __future__ import annotations

import math

from cnnkit.metrics.comparison import PairComparison
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.paired import POWER

_FINE = 0.002  # width of an interval, as a share, below which a tenth of a point is too coarse
_SMALL_P, _LARGE_P = 0.001, 0.1
_LIMIT = "0.05"


def verdict(pair: PairComparison) -> str:
    """Return who is better and by how much, or that it cannot be told and what it would take, in one sentence."""
    first, second, counts = pair.first, pair.second, pair.counts
    if pair.same_model:
        return f"{second} and {first} are identical: their model files are equal"
    if pair.identical:
        return f"{second} and {first} are identical on these {counts.n:,} images: the same answers with the same probabilities"
    if not counts.only_first and not counts.only_second:
        return f"no difference can be told: {second} and {first} are right on the same {counts.both:,} of {counts.n:,} images"
    told = f"{p_text(pair.corrected)}" + (f" (Holm, {pair.pairs} pairs)" if pair.pairs > 1 else "")
    if pair.better:
        worse = first if pair.better == second else second
        gain = pair.accuracy if pair.better == second else _negative(pair.accuracy)
        return f"{pair.better} is better than {worse}: {points(gain)}, {told}"
    return f"no difference can be told: {second} against {first} {points(pair.accuracy)}, {told}; {_what_would_tell(pair)}"


def points(difference: Estimate) -> str:
    """Return a difference of shares and its interval in percentage points: ``+1.2 points (0.4 to 2.0)``."""
    digits = 1 if difference.high - difference.low >= _FINE else 2
    low, high = (f"{_no_minus_zero(100 * end, digits):.{digits}f}" for end in (difference.low, difference.high))
    return f"{signed(100 * difference.value, digits)} points ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """Return `value` with its sign and `digits` decimals; no sign where all of them are 0."""
    rounded = _no_minus_zero(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{rounded:.{digits}f}"


def p_text(p: float) -> str:
    """Return a p-value as ``p = 0.012`` or ``p < 0.001``; never on the other side of 0.05, nor on it."""
    if p < _SMALL_P:
        return f"p < {_SMALL_P}"
    if p >= _LARGE_P:
        return f"p = {p:.2f}"
    short = f"{p:.2g}"
    return f"p = {short if short != _LIMIT else f'{p:.4f}'}"


def about(count: int) -> str:
    """Return a number of images with the two digits that an estimate of it has: ``about 4,100``."""
    digits = max(0, math.floor(math.log10(count)) - 1) if count > 0 else 0
    return f"about {round(count / 10**digits) * 10**digits:,}"


def _what_would_tell(pair: PairComparison) -> str:
    at = f"at {100 * POWER:.0f} % power"
    if pair.needed is not None:
        return f"{about(pair.needed)} test images would be needed to tell a difference of this size {at}"
    if pair.smallest is not None:
        return f"these images would tell a difference of {100 * pair.smallest:.1f} points or more {at}"
    return f"they disagree on {pair.counts.only_first + pair.counts.only_second} images, too few to tell anything"


def _negative(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _no_minus_zero(value: float, digits: int) -> float:
    return round(value, digits) + 0.0
