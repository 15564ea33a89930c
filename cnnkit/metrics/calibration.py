"""Whether a probability means what it says: calibration error, Brier score, reliability bins, and the temperature that repairs it.

A model is calibrated if of the images it calls a bee with 80 % about 80 % are bees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.counts import check_indices
from cnnkit.metrics.intervals import CONFIDENCE, DRAWS, Estimate, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BINS = 15  # as in Guo et al. 2017 (arXiv:1706.04599)
BARS = 20  # of the histogram of confidences
COLDEST, HOTTEST = 0.05, 20.0  # temperatures: beyond, every answer is certain, or every answer a shrug
_ENTRIES_AT_ONCE = 4_000_000  # numbers held at a time: 32 MB, whatever the number of images or classes
_MOST_RESAMPLED = 200_000_000  # images of all draws together, 2 s; above 200,000 images there are fewer draws, of narrower spread

_FACTORS = np.linspace(0.0, 3.0, 61)  # of the differences found: the true ones may be anything from none to three times as large


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of similar confidence (the probability of the predicted class), from `low` to `high`, both among them.

    `count` images, their mean `confidence`, and the `accuracy` they have, with Wilson's interval. Calibrated means that the last two agree.
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
    """N images in ascending order of `confidence`, whether each was a `hit`, and where each of the B bins begins."""

    confidence: NDArray[np.float64]
    hit: NDArray[np.bool_]
    starts: NDArray[np.intp]

    @property
    def gaps(self) -> NDArray[np.float64]:
        """Hit (0 or 1) minus confidence: (N,); the sum over a bin is what it is too modest (or, negative, too sure) by."""
        return self.hit - self.confidence


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Return how far confidence and accuracy lie apart on average, in [0, 1]: 0 is calibrated.

    Only the predicted class counts (top-label; Guo et al. 2017, arXiv:1706.04599): the images are sorted by its probability and
    divided into `bins` of equal numbers (equal-mass, adaptive; Nguyen and O'Connor 2015, arXiv:1508.05154; Nixon et al. 2019,
    arXiv:1904.01685), and the |accuracy - mean confidence| of the bins are averaged by their number of images. Bins of equal width would
    leave all but a few images of a good model in the last one. Equal probabilities are never divided between bins, so the order of the
    images does not matter. A perfectly calibrated model scores above 0 on finitely many images (about 0.01 on 10,000 of them).

    `labels` (N,) are indices of classes, `probabilities` is (N, K). Raises `DataError` for no image, shapes that do not fit, or NaN.
    """
    ordered = _sorted(labels, probabilities, bins)
    return _error(ordered)


def calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = BINS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return `expected_calibration_error` with its interval, from images drawn anew with replacement; the bins stay where they are.

    Noise can only add to a mean of absolute differences, so percentiles of the draws miss a truth that is small (of a calibrated
    model they held it in 30 % of cases). Instead the differences found are scaled by a factor from 0 up, the noise of the draws is
    added, and the interval holds those factors for which the value found is none of the 2.5 % largest or smallest. Its coverage:
    see docs/benchmarks/LOG.md, "Coverage of the calibration error".
    If every image is right, or wrong, the draws do not show that some might not be; Wilson's bound on those is then added.
    """
    ordered = _sorted(labels, probabilities, bins)
    value, n = _error(ordered), len(ordered.hit)
    gaps = np.add.reduceat(ordered.gaps, ordered.starts)
    noise = _resampled(ordered, max(DRAWS // 10, min(draws, _MOST_RESAMPLED // n)), seed) - gaps
    levels = [(1 - confidence) / 2, (1 + confidence) / 2]
    ends = np.array([np.quantile(np.abs(factor * gaps + noise).sum(axis=1) / n, levels) for factor in _FACTORS])
    below, above = np.maximum.accumulate(ends, axis=0).T
    low, high = (value * float(np.interp(value, end, _FACTORS)) for end in (above, below))
    unseen = wilson(0, n, confidence).high if ordered.hit.all() or not ordered.hit.any() else 0.0
    return Estimate(value, max(0.0, min(value, low) - unseen), min(1.0, max(value, high) + unseen))


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return the bins of `expected_calibration_error`, from the least to the most confident; fewer than `bins` where numbers are tied."""
    ordered = _sorted(labels, probabilities, bins)
    ends = [*ordered.starts[1:], len(ordered.hit)]
    found: list[ReliabilityBin] = []
    for start, end in zip(ordered.starts, ends, strict=True):
        part, count = ordered.confidence[start:end], int(end - start)
        hits = int(ordered.hit[start:end].sum())
        found.append(ReliabilityBin(float(part[0]), float(part[-1]), count, float(part.mean()), wilson(hits, count)))
    return tuple(found)


def confidence_counts(probabilities: ArrayLike, bars: int = BARS) -> tuple[int, ...]:
    """Return how many rows of `probabilities` (N, K) have their largest in each of `bars` equal parts of [0, 1]."""
    counts, _ = np.histogram(np.minimum(np.asarray(probabilities).max(axis=1), 1.0), bins=bars, range=(0.0, 1.0))
    return tuple(map(int, counts))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean of `brier_scores`: 0 for sure and right, 2 for sure and wrong, 1 - 1/K for a shrug."""
    return float(brier_scores(labels, probabilities).mean())


def brier_scores(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the squared distance of each row of probabilities from the truth, summed over the K classes (Brier 1950): (N,) in [0, 2]."""
    true, chances = _checked(labels, probabilities)
    chances = chances.astype(np.float64)
    mine = chances[np.arange(len(true)), true]
    return (chances**2).sum(axis=1) - 2 * mine + 1


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the T for which softmax(logits / T) has the least mean -log p of the true class (temperature scaling, arXiv:1706.04599).

    The loss is convex in 1/T, so its slope has one zero, which is searched between `COLDEST` and `HOTTEST`. Where the loss still falls at
    one of these, that one is returned: the coldest if every image is right, since nothing then speaks against certainty. 1 is returned
    where the images do not tell: one class, equal logits, no image. Images with a logit that is NaN or infinite have no loss to
    improve and are left out.

    `logits` is (N, K), `labels` (N,) indices of classes. Raises `DataError` for shapes that do not fit or labels out of range.
    """
    from scipy.optimize import root_scalar

    scores, true = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or true.shape != scores.shape[:1]:  # noqa: PLR2004 (rows and columns)
        raise DataError(f"logits of shape {scores.shape} and labels of shape {true.shape} do not fit: they must be (N, K) and (N,)")
    check_indices("labels", true, scores.shape[1])
    usable = np.isfinite(scores).all(axis=1)
    scores, true = scores[usable], true[usable]
    at_once = max(1, _ENTRIES_AT_ONCE // max(1, scores.shape[1]))

    def slope(log_cold: float) -> float:
        """Derivative of the summed loss by 1/T, at 1/T = exp(`log_cold`): the expected logit minus the true class's."""
        cold, total = math.exp(log_cold), 0.0
        for start in range(0, len(scores), at_once):
            part, own = scores[start : start + at_once].astype(np.float64), true[start : start + at_once]
            part -= part.max(axis=1, keepdims=True)
            weights = np.exp(cold * part)
            total += float(((weights * part).sum(axis=1) / weights.sum(axis=1) - part[np.arange(len(own)), own]).sum())
        return total

    hot, cold = -math.log(HOTTEST), -math.log(COLDEST)
    falls_when_hotter, falls_when_colder = slope(hot) >= 0, slope(cold) <= 0
    if falls_when_hotter and falls_when_colder:  # flat
        return 1.0
    if falls_when_hotter or falls_when_colder:
        return HOTTEST if falls_when_hotter else COLDEST
    return math.exp(-float(root_scalar(slope, bracket=(hot, cold), method="brentq", xtol=1e-9).root))


def _resampled(ordered: _Sorted, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the sum of the gaps in each bin when the N images are drawn with replacement: (`draws`, B)."""
    gaps, n = ordered.gaps, len(ordered.gaps)
    rng = np.random.default_rng(seed)
    at_once = max(1, _ENTRIES_AT_ONCE // n)
    sums: list[NDArray[np.float64]] = []
    for done in range(0, draws, at_once):
        count = min(at_once, draws - done)
        places = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(places.ravel(), minlength=count * n).reshape(count, n)
        sums.append(np.add.reduceat(times * gaps, ordered.starts, axis=1))
    return np.concatenate(sums)


def _error(ordered: _Sorted) -> float:
    return float(np.abs(np.add.reduceat(ordered.gaps, ordered.starts)).sum() / len(ordered.hit))


def _sorted(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> _Sorted:
    true, chances = _checked(labels, probabilities)
    if bins < 1:
        raise DataError(f"{bins} bins: there must be at least 1, such as {BINS}")
    top = chances.argmax(axis=1)
    confidence = chances[np.arange(len(true)), top].astype(np.float64)
    order = np.argsort(confidence, kind="stable")
    confidence = confidence[order]
    starts = len(confidence) * np.arange(bins) // bins
    starts = np.unique(np.searchsorted(confidence, confidence[starts], side="left"))  # to the first of those that are equal
    return _Sorted(confidence, (top == true)[order], starts)


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    true, chances = np.asarray(labels), np.asarray(probabilities)
    if true.ndim != 1 or chances.ndim != 2 or len(true) != len(chances) or not chances.size:  # noqa: PLR2004 (rows and columns)
        raise DataError(
            f"labels of shape {true.shape} and probabilities of shape {chances.shape} do not fit: they must be (N,) and (N, K), "
            f"of at least one image"
        )
    check_indices("labels", true, chances.shape[1])
    if np.isnan(chances.max()):
        raise DataError(f"{int(np.isnan(chances).any(axis=1).sum())} of {len(chances)} images have probabilities that are NaN")
    return true, chances
