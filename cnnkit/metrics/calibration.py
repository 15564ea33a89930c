"""Calibration of probabilities: calibration error, Brier score, reliability bins, and the temperature that corrects them.

A model is calibrated if about 80 % of the images that it calls a bee with probability 0.8 are bees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.counts import check_indices
from cnnkit.metrics.intervals import CONFIDENCE, DRAWS, Estimate
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.units import Units, proportion, unit_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BINS = 15  # as in Guo et al. 2017 (arXiv:1706.04599)
MIN_BIN_UNITS, MIN_BINS = 10, 5  # fewer units of a bin, or fewer bins, make an error of noise: at 5 units a bin, 0.1 where the truth is 0
BARS = 20  # in the histogram of confidences
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0  # below, every prediction is certain; above, every prediction is uniform
_MAX_ENTRIES = 4_000_000  # held in memory at a time: 32 MB for any number of images and classes
_MAX_RESAMPLED_IMAGES = 200_000_000  # over all draws: 2 s; more than 200,000 images get fewer draws, which then spread less

_FACTORS = np.linspace(0.0, 3.0, 61)  # a true difference may be zero to three times the measured difference


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of images whose confidence (the probability of the predicted class) lies between `low` and `high`, ends included.

    `count` is the number of images, `confidence` their mean confidence, and `accuracy` has the interval of a proportion. A calibrated
    model has equal confidence and accuracy.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the bin for JSON."""
        return {
            "low": self.low,
            "high": self.high,
            "count": self.count,
            "confidence": self.confidence,
            "accuracy": self.accuracy.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class _Sorted:
    """N images in ascending order of `confidence`: `hit` (N,) tells whether each is right, `starts` (B,) where each bin begins."""

    confidence: NDArray[np.float64]
    hit: NDArray[np.bool_]
    starts: NDArray[np.intp]
    units: Units

    @property
    def gaps(self) -> NDArray[np.float64]:
        """Hit (0 or 1) minus confidence, (N,); its sum over a bin is negative if the model is too sure."""
        return self.hit - self.confidence


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Return the mean distance between confidence and accuracy, in [0, 1]; 0 means calibrated.

    Only the predicted class counts (top-label; Guo et al. 2017, arXiv:1706.04599). Its probability sorts the images into `bins` of
    equal numbers (equal-mass, adaptive; Nguyen and O'Connor 2015, arXiv:1508.05154; Nixon et al. 2019, arXiv:1904.01685). The error is
    the mean |accuracy - mean confidence| of the bins, weighted by their images. Bins of equal width would put nearly all images of a
    good model into the last bin. Images of equal confidence share a bin, so the order of the images does not matter. A perfectly
    calibrated model scores above 0 on a finite number of images (about 0.01 on 10,000 images).

    `labels` (N,) are class indices, `probabilities` is (N, K). Raises `DataError` for no image, shapes that do not fit, or NaN.
    """
    return _error(_sorted(labels, probabilities, bins))


def num_bins(units: int) -> int:
    """Return the number of bins for images of a number of units: `BINS`, or fewer for `MIN_BIN_UNITS` each; 0 for fewer than `MIN_BINS`."""
    bins = min(BINS, units // MIN_BIN_UNITS)
    return bins if bins >= MIN_BINS else 0


def calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    units: Units | None = None,
) -> Estimate:
    """Return `expected_calibration_error` with its interval, from units drawn with replacement into fixed bins.

    `bins` is by default that of `num_bins`; where this is 0, value and interval are NaN.

    Noise can only add to a mean of absolute differences. Percentiles of the draws therefore miss a small true error: they held the
    true error of a calibrated model in 30 % of cases. Instead, the measured differences are scaled by factors from 0 upwards and the
    noise of the draws is added. The interval holds the factors for which the measured value is not among the 2.5 % largest or smallest.
    Its coverage: see docs/benchmarks/LOG.md, "Coverage of the calibration error". If every image is right, or every image wrong, the
    draws do not vary; Wilson's bound is then added.
    """
    of_images = units or Units.single(len(np.asarray(labels)))
    bins = num_bins(of_images.count) if bins is None else bins
    if not bins:
        _checked(labels, probabilities)
        return Estimate(math.nan, math.nan, math.nan)
    ordered = _sorted(labels, probabilities, bins, of_images)
    value, n = _error(ordered), len(ordered.hit)
    gaps = np.add.reduceat(ordered.gaps, ordered.starts)
    noise = _resampled(ordered, max(DRAWS // 10, min(draws, _MAX_RESAMPLED_IMAGES // n)), seed) - gaps
    levels = [(1 - confidence) / 2, (1 + confidence) / 2]
    ends = np.array([np.quantile(np.abs(factor * gaps + noise).sum(axis=1) / n, levels) for factor in _FACTORS])
    below, above = np.maximum.accumulate(ends, axis=0).T
    low, high = (value * float(np.interp(value, end, _FACTORS)) for end in (above, below))
    unseen = wilson(0, ordered.units.count, confidence).high if ordered.hit.all() or not ordered.hit.any() else 0.0
    return Estimate(value, max(0.0, min(value, low) - unseen), min(1.0, max(value, high) + unseen))


def reliability_bins(
    labels: ArrayLike, probabilities: ArrayLike, bins: int | None = None, *, units: Units | None = None
) -> tuple[ReliabilityBin, ...]:
    """Return the bins of `calibration_error`, the least confident first; none where it is NaN. Ties may leave fewer than `bins` bins."""
    of_images = units or Units.single(len(np.asarray(labels)))
    bins = num_bins(of_images.count) if bins is None else bins
    if not bins:
        _checked(labels, probabilities)
        return ()
    ordered = _sorted(labels, probabilities, bins, of_images)
    ends = [*ordered.starts[1:], len(ordered.hit)]
    found: list[ReliabilityBin] = []
    for start, end in zip(ordered.starts, ends, strict=True):
        part, count = ordered.confidence[start:end], int(end - start)
        accuracy = proportion(ordered.hit[start:end], ordered.units.of_rows(slice(start, end)))
        found.append(ReliabilityBin(float(part[0]), float(part[-1]), count, float(part.mean()), accuracy))
    return tuple(found)


def confidence_counts(probabilities: ArrayLike, bars: int = BARS) -> tuple[int, ...]:
    """Return the number of rows of `probabilities` (N, K) whose largest value lies in each of `bars` equal parts of [0, 1]."""
    counts, _ = np.histogram(np.minimum(np.asarray(probabilities).max(axis=1), 1.0), bins=bars, range=(0.0, 1.0))
    return tuple(map(int, counts))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean of `brier_scores`: 0 for certain and right, 2 for certain and wrong, 1 - 1/K for uniform probabilities."""
    return float(brier_scores(labels, probabilities).mean())


def brier_scores(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the squared distance of each row of probabilities from the true class (Brier 1950): (N,) in [0, 2]."""
    true, probs = _checked(labels, probabilities)
    probs = probs.astype(np.float64)
    own = probs[np.arange(len(true)), true]
    return (probs**2).sum(axis=1) - 2 * own + 1


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the T that minimises the mean -log p of the true class under softmax(logits / T) (temperature scaling, arXiv:1706.04599).

    The loss is convex in 1/T, so its slope has one zero, searched between `MIN_TEMPERATURE` and `MAX_TEMPERATURE`. If the loss still
    falls at one of these bounds, the function returns that bound. It returns the minimum if every image is right, because no image
    then speaks against certainty. It returns 1 if no temperature is better than another: one class, equal logits, no image. Images
    with a NaN or infinite logit are left out.

    `logits` is (N, K), `labels` (N,) class indices. Raises `DataError` for shapes that do not fit or labels out of range.
    """
    from scipy.optimize import root_scalar

    scores, true = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or true.shape != scores.shape[:1]:  # noqa: PLR2004 (rows and columns)
        raise DataError(f"logits of shape {scores.shape} and labels of shape {true.shape} do not fit: they must be (N, K) and (N,)")
    check_indices("labels", true, scores.shape[1])
    usable = np.isfinite(scores).all(axis=1)
    scores, true = scores[usable], true[usable]
    at_once = max(1, _MAX_ENTRIES // max(1, scores.shape[1]))

    def slope(log_cold: float) -> float:
        """Return the derivative of the summed loss by 1/T at 1/T = exp(`log_cold`): the expected logit minus the true logit."""
        cold, total = math.exp(log_cold), 0.0
        for start in range(0, len(scores), at_once):
            part, own = scores[start : start + at_once].astype(np.float64), true[start : start + at_once]
            part -= part.max(axis=1, keepdims=True)
            weights = np.exp(cold * part)
            total += float(((weights * part).sum(axis=1) / weights.sum(axis=1) - part[np.arange(len(own)), own]).sum())
        return total

    hot, cold = -math.log(MAX_TEMPERATURE), -math.log(MIN_TEMPERATURE)
    falls_when_hotter, falls_when_colder = slope(hot) >= 0, slope(cold) <= 0
    if falls_when_hotter and falls_when_colder:  # flat
        return 1.0
    if falls_when_hotter or falls_when_colder:
        return MAX_TEMPERATURE if falls_when_hotter else MIN_TEMPERATURE
    return math.exp(-float(root_scalar(slope, bracket=(hot, cold), method="brentq", xtol=1e-9).root))


def _resampled(ordered: _Sorted, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the sum of the gaps in each bin when the units of the N images are drawn with replacement: (`draws`, B)."""
    gaps, n = ordered.gaps, len(ordered.gaps)
    rng = np.random.default_rng(seed)
    if not ordered.units.are_single:
        ends = [*ordered.starts[1:], n]
        in_bins = np.zeros((ordered.units.count, len(ordered.starts)))
        for number, (start, end) in enumerate(zip(ordered.starts, ends, strict=True)):
            np.add.at(in_bins[:, number], ordered.units.index[start:end], gaps[start:end])
        return np.concatenate([unit_weights(ordered.units, 1, rng) @ in_bins for _ in range(draws)])
    at_once = max(1, _MAX_ENTRIES // n)
    sums: list[NDArray[np.float64]] = []
    for done in range(0, draws, at_once):
        count = min(at_once, draws - done)
        rows = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(rows.ravel(), minlength=count * n).reshape(count, n)
        sums.append(np.add.reduceat(times * gaps, ordered.starts, axis=1))
    return np.concatenate(sums)


def _error(ordered: _Sorted) -> float:
    return float(np.abs(np.add.reduceat(ordered.gaps, ordered.starts)).sum() / len(ordered.hit))


def _sorted(labels: ArrayLike, probabilities: ArrayLike, bins: int, units: Units | None = None) -> _Sorted:
    true, probs = _checked(labels, probabilities)
    if bins < 1:
        raise DataError(f"{bins} bins: a calibration error needs at least 1 bin, such as {BINS}")
    top = probs.argmax(axis=1)
    confidence = probs[np.arange(len(true)), top].astype(np.float64)
    order = np.argsort(confidence, kind="stable")
    confidence = confidence[order]
    starts = len(confidence) * np.arange(bins) // bins
    starts = np.unique(np.searchsorted(confidence, confidence[starts], side="left"))  # back to the first equal confidence
    return _Sorted(confidence, (top == true)[order], starts, (units or Units.single(len(true))).of_rows(order))


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    true, probs = np.asarray(labels), np.asarray(probabilities)
    if true.ndim != 1 or probs.ndim != 2 or len(true) != len(probs) or not probs.size:  # noqa: PLR2004 (rows and columns)
        raise DataError(
            f"labels of shape {true.shape} and probabilities of shape {probs.shape} do not fit: they must be (N,) and (N, K), "
            f"with at least 1 image"
        )
    check_indices("labels", true, probs.shape[1])
    if np.isnan(probs.max()):
        nan = int(np.isnan(probs).any(axis=1).sum())
        raise DataError(f"{nan} of {len(probs)} images have NaN probabilities: the model's weights may be damaged")
    return true, probs
