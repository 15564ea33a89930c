"""Confidence intervals of F1, of means over classes, and of means over images.

An interval refers to other images from the same source and to one trained model. It does not cover another seed or drifting data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.errors import ConfigError
from cnnkit.metrics.counts import Counts, Margins
from cnnkit.metrics.proportion import CONFIDENCE, Estimate, check_confidence, wilson
from cnnkit.metrics.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DRAWS = 1000  # rest the 2.5 % and 97.5 % points on 25 draws each; with fewer draws the ends vary with the seed

_MAX_ENTRIES = 4_000_000  # resampled numbers held at a time: 32 MB for any number of classes and images
_MAX_RESAMPLED_IMAGES = 100_000  # beyond, the bootstrap of a mean agrees with the normal interval and takes seconds


def f1_interval(hits: float, support: float, predicted: float) -> Estimate:
    """Return the F1 of a class with its interval, from `hits` among `support` images of the class and `predicted` predictions of it.

    F1 = 2q / (1 + q), where q is the share of hits among the images that have the label or the prediction. q is a proportion with
    Wilson's interval (Hand, Christen and Kirielle 2021, Machine Learning 110:451, call it F*). A bootstrap of a class without a mistake,
    or without a hit, has no spread. With few images it covers less: see docs/benchmarks/RESULTS.md, "Intervals of the other scores".
    """
    share = wilson(hits, support + predicted - hits)
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


def bootstrap_mean(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of `values` (N,) with its interval, in their unit.

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
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_ENTRIES // n)
    means = [sample[rng.integers(n, size=(min(at_once, draws - done), n))].mean(axis=1) for done in range(0, draws, at_once)]
    return percentiles(mean, np.concatenate(means), confidence)


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
