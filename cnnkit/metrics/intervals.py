"""Confidence intervals of F1, of means over classes, and of means over images.

An interval refers to other images from the same source and to one trained model. It does not cover another seed or drifting data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import ConfigError
from cnnkit.metrics.counts import Counts, Margins, confusion_counts
from cnnkit.metrics.proportion import CONFIDENCE, Estimate, check_confidence
from cnnkit.metrics.scores import Scores
from cnnkit.metrics.units import Units, unit_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DRAWS = 1000  # rest the 2.5 % and 97.5 % points on 25 draws each; with fewer draws the ends vary with the seed

_MAX_ENTRIES = 4_000_000  # resampled numbers held at a time: 32 MB for any number of classes and images
_MAX_RESAMPLED_IMAGES = 100_000  # beyond, the bootstrap of a mean agrees with the normal interval and takes seconds


def f1_interval(share: Estimate) -> Estimate:
    """Return the F1 of a class with its interval, from the `share` of hits among the images that have the label or the prediction.

    F1 = 2q / (1 + q) for the share q, a proportion (Hand, Christen and Kirielle 2021, Machine Learning 110:451, call it F*). A bootstrap
    of a class without a mistake, or without a hit, has no spread. With few images it covers less: see docs/benchmarks/RESULTS.md,
    "Intervals of the other scores".
    """
    return Estimate(*(2 * end / (1 + end) for end in (share.value, share.low, share.high)))


def bootstrap_counts(
    table: Counts,
    statistic: Callable[[Margins], Scores],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return `statistic`, a score in [0, 1] of a (K, K) table, with its bias-corrected percentile bootstrap interval.

    `statistic` maps the margins of D tables, each (D, K), to (D,), as the scores of `cnnkit.metrics.scores` do. Resampling N images
    with replacement equals one multinomial draw over the cells. Only occupied cells are drawn, so the cost grows with N instead of K²,
    and memory is bounded.

    Few images per class bias a mean over classes: resamples deviate from the value about as much as the value deviates from the truth.
    The percentiles are therefore shifted by twice the bias: see docs/benchmarks/LOG.md, "Bias-corrected bootstrap of means over
    classes". The interval always holds the value.
    Raises `ConfigError` if the table is empty, `draws` is below 1, or `confidence` is not between 0 and 1.
    """
    rows, columns = np.nonzero(table)
    found = bootstrap_cells(
        table[rows, columns],
        lambda drawn: statistic(margins_of_cells(drawn, rows, columns, len(table))),
        draws=draws,
        seed=seed,
        confidence=confidence,
    )
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def bootstrap_cells(
    occupied: Counts,
    statistic: Callable[[Counts], Scores],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return `statistic` of the images counted in M cells, with its bias-corrected percentile bootstrap interval.

    `occupied` (M,) holds the images of every cell that is not empty; `statistic` maps D resampled counts (D, M) to (D,).
    `bootstrap_counts` applies this function to a (K, K) table and raises the same errors.
    """
    check_confidence(confidence)
    n = int(occupied.sum())
    if n == 0 or draws < 1:
        raise ConfigError(f"a bootstrap needs at least 1 draw and 1 image, got {draws} draws and {n} images")
    rng = np.random.default_rng(seed)
    shares = occupied / n
    at_once = max(1, _MAX_ENTRIES // len(occupied))
    values = [statistic(rng.multinomial(n, shares, size=min(at_once, draws - done))) for done in range(0, draws, at_once)]
    drawn = np.concatenate(values)
    value = float(statistic(occupied[None])[0])
    return percentiles(value, drawn - 2 * (drawn.mean() - value), confidence)


def bootstrap_units(
    cells: NDArray[np.integer],
    statistic: Callable[[Counts], Scores],
    units: Units,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return what `bootstrap_cells` returns, with an interval from drawing `units` of images instead of images.

    `cells` (N,) is the cell of each image, from 0 to M - 1; `statistic` maps D resampled counts (D, M) to (D,). The interval is wider for
    few units. It is NaN for a single unit, which has no spread.
    """
    from scipy.sparse import csr_array

    check_confidence(confidence)
    n, width = len(cells), int(cells.max()) + 1
    value = float(statistic(np.bincount(cells)[None])[0])
    if units.count < 2:  # noqa: PLR2004 (a spread needs two units)
        return Estimate(value, math.nan, math.nan)
    of_units = csr_array((np.ones(n), (units.index, cells)), shape=(units.count, width))
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_ENTRIES // max(units.count, width))
    counts = (unit_weights(units, min(at_once, draws - done), rng) @ of_units for done in range(0, draws, at_once))
    drawn = np.concatenate([statistic(np.rint(each).astype(np.int64)) for each in counts])
    unbiased = drawn - 2 * (np.nanmean(drawn) - value)
    return percentiles(value, value + (unbiased[np.isfinite(unbiased)] - value) * units.widening(confidence), confidence)


def bootstrap_confusion(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int, statistic: Callable[[Margins], Scores], units: Units
) -> Estimate:
    """Return `statistic` of the confusion matrix of `labels` and `predicted` (N,) with its bootstrap interval over `units`."""
    if units.are_single:
        return bootstrap_counts(confusion_counts(labels, predicted, classes), statistic)
    pairs, cells = np.unique(labels.astype(np.int64) * classes + predicted, return_inverse=True)
    rows, columns = np.divmod(pairs, classes)
    found = bootstrap_units(cells, lambda drawn: statistic(margins_of_cells(drawn, rows, columns, classes)), units)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def bootstrap_mean(
    values: ArrayLike, *, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE, units: Units | None = None
) -> Estimate:
    """Return the mean of `values` (N,) with its interval, in their unit; the interval counts `units`.

    Losses have a long right tail, because a few confident mistakes carry most of the sum. The percentile bootstrap follows the tail,
    a symmetric interval does not. Above 100,000 values the two agree, and the interval is the normal one. It is NaN if a value is not
    finite, and for a single value, which has no spread.
    """
    check_confidence(confidence)
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean()) if sample.size else math.nan
    n = len(sample)
    if n < 2 or not np.isfinite(sample).all():  # noqa: PLR2004 - a spread needs two values
        return Estimate(mean, math.nan, math.nan)
    if n > _MAX_RESAMPLED_IMAGES:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * float(sample.std(ddof=1)) / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half)
    if units is not None and not units.are_single:
        return bootstrap_unit_means([mean], (sample - mean)[:, None] / n, units, draws=draws, seed=seed, confidence=confidence)[0]
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_ENTRIES // n)
    means = [sample[rng.integers(n, size=(min(at_once, draws - done), n))].mean(axis=1) for done in range(0, draws, at_once)]
    return percentiles(mean, np.concatenate(means), confidence)


def bootstrap_unit_means(
    values: Sequence[float],
    influences: NDArray[np.floating[Any]],
    units: Units,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """Return M `values` with the intervals of a bootstrap over `units`, from the influence of each image (N, M) on each value.

    The influence is the derivative of a value by the weight of an image. The intervals are NaN for a single unit.
    """
    if units.count < 2:  # noqa: PLR2004 (a spread needs two units)
        return [Estimate(value, math.nan, math.nan) for value in values]
    of_units = np.stack([units.sums(column) for column in influences.T], axis=1)
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_ENTRIES // units.count)
    moved = np.concatenate([unit_weights(units, min(at_once, draws - done), rng) @ of_units for done in range(0, draws, at_once)])
    moved *= units.widening(confidence)
    return [percentiles(value, value + column, confidence) for value, column in zip(values, moved.T, strict=True)]


def margins_of_cells(drawn: Counts, rows: NDArray[np.intp], columns: NDArray[np.intp], num_classes: int) -> Margins:
    """Return the margins of D tables given by their occupied cells: the counts `drawn` (D, M) at `rows`, `columns` (M,)."""
    on_diagonal = rows == columns
    return Margins(
        hits=_sum_by_class(drawn[:, on_diagonal], rows[on_diagonal], num_classes),
        support=_sum_by_class(drawn, rows, num_classes),
        predicted=_sum_by_class(drawn, columns, num_classes),
    )


def _sum_by_class(drawn: Counts, classes: NDArray[np.intp], num_classes: int) -> Counts:
    """Sum the columns of `drawn` (D, M) that share a class: (D, K)."""
    sums = np.zeros((len(drawn), num_classes), dtype=np.int64)
    if len(classes):
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return sums


def percentiles(value: float, drawn: Scores, confidence: float = CONFIDENCE) -> Estimate:
    """Return a score with the percentile interval of its bootstrap draws (D,), extended to hold the value."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)))
