"""The bootstrap over images: intervals of scores with a known influence of each image, and of any score.

The scores of `bootstrap_rows` are resampled through their influence, the derivative of a score with respect to the weight of an image. For
means (loss, Brier score) this equals the plain bootstrap, and several scores share the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.metrics.intervals import CONFIDENCE, DRAWS, Estimate, bootstrap_unit_means, percentiles
from cnnkit.metrics.units import Units, unit_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_STRATUM_SIZE = 10  # a smaller stratum seems to vary too little; a stratum of one image does not vary at all
_MAX_ENTRIES = 1_000_000  # weights held at a time: about 30 MB with the arrays behind them, for any number of images
_MAX_RESAMPLED_IMAGES = 100_000_000  # over all draws: 3 s; more than 100,000 images get fewer draws
_MAX_SCORED_IMAGES = 20_000_000  # over all draws of any score, whose cost is unknown; more than 20,000 images get fewer draws
_MIN_DEFINED_SHARE = 0.5  # of the draws, for an interval of a score that some draws do not define


def bootstrap_rows(
    labels: NDArray[np.integer],
    values: Sequence[float],
    influences: NDArray[np.floating],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    units: Units | None = None,
) -> list[Estimate]:
    """Return M scores `values` of N images with their percentile bootstrap intervals.

    `influences` (N, M) is the change of a score for each additional time that an image is drawn; it sums to 0 over the images. Images
    are drawn within their class; classes of fewer than `MIN_STRATUM_SIZE` images are drawn together. More than 100,000 images get
    100,000,000 / N instead of `draws` draws, but at least 200. A single image has no spread, so its intervals are NaN.
    With `units` of several images, units are drawn instead of images, and not within classes.
    """
    if len(labels) == 1:
        return [Estimate(value, math.nan, math.nan) for value in values]
    if units is not None and not units.are_single:
        return bootstrap_unit_means(values, influences, units, draws=draws, seed=seed, confidence=confidence)
    draws = max(min(draws, DRAWS // 5), min(draws, _MAX_RESAMPLED_IMAGES // len(labels)))
    moved = np.concatenate([weights @ influences for weights in _weights(_strata(labels), draws, seed)])
    return [percentiles(value, value + column, confidence) for value, column in zip(values, moved.T, strict=True)]


def bootstrap_scores(
    score: Callable[[NDArray[np.int64]], float], units: Units, *, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """Return any score of N images with its percentile bootstrap interval; `score` gets the rows of the drawn images.

    Units are drawn with replacement, not within classes: of four kinds of draws, this one held the true kappa most often (see
    docs/benchmarks/LOG.md, "Intervals of a metric of another package"). More than 20,000 images get 20,000,000 / N instead of `draws`
    draws, but at least 200. Draws that do not define the score (NaN) are left out. The interval is NaN if half of them do not, if all
    draws agree, as those of predictions without a mistake do, and for a single unit.
    """
    n = len(units.index)
    value = float(score(np.arange(n)))
    undefined = Estimate(value, math.nan, math.nan)
    if units.count < 2 or math.isnan(value):  # noqa: PLR2004 (a spread needs two units)
        return undefined
    draws = max(min(draws, DRAWS // 5), min(draws, _MAX_SCORED_IMAGES // n))
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_ENTRIES // units.count)
    found: list[float] = []
    for done in range(0, draws, at_once):
        drawn = unit_weights(units, min(at_once, draws - done), rng).astype(np.int64)
        found += [float(score(np.repeat(np.arange(n), weights[units.index]))) for weights in drawn]
    defined = np.array([each for each in found if not math.isnan(each)])
    if len(defined) < _MIN_DEFINED_SHARE * draws or np.ptp(defined) == 0:
        return undefined
    return percentiles(value, value + (defined - value) * units.widening(confidence), confidence)


def _weights(strata: NDArray[np.int64], draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the number of times that each image is drawn, (d, N), in blocks until `draws` draws are complete."""
    rng = np.random.default_rng(seed)
    order = np.argsort(strata, kind="stable")
    _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    n = len(strata)
    at_once = max(1, _MAX_ENTRIES // n)
    for done in range(0, draws, at_once):
        count = min(at_once, draws - done)
        drawn = start + (rng.random((count, n)) * size).astype(np.int64)
        cells = order[drawn] + n * np.arange(count)[:, None]
        yield np.bincount(cells.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def _strata(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the stratum of each image: its class, or one common stratum for all small classes."""
    counts = np.bincount(labels)
    by_size = np.argsort(counts, kind="stable")
    together = np.cumsum(counts[by_size])
    # if the small classes together are still too few, the smallest of the others joins them
    small = (counts[by_size] < MIN_STRATUM_SIZE) | ((together - counts[by_size] < MIN_STRATUM_SIZE) & (together > counts[by_size]))
    group = np.arange(len(counts))
    group[by_size[small]] = -1
    return group[labels].astype(np.int64)
