"""The metrics of other packages that ``--metric`` names: loaded and tried first, measured after the predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ConfigError
from cnnkit.extension.results import is_number, is_possible, shown
from cnnkit.extension.values import Metric
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.named_score import NamedScore
from cnnkit.metrics.resampling import bootstrap_scores
from cnnkit.metrics.units import Units
from cnnkit.registry import METRIC_KIND, Extension, load_extension

ROUNDING = 1e-9  # beyond the bounds of a metric, which a sum of many numbers may pass
TRIAL_IMAGES = 3  # of each class


def named_metrics(texts: Sequence[str], classes: int) -> tuple[Extension[Metric], ...]:
    """Return the metrics that `texts` name, each tried on a few made-up predictions of `classes` classes.

    Raises `ConfigError` for a metric that is named twice, and the errors of `load_extension` and `score_of`.
    """
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise ConfigError(f"--metric {twice} is given twice; leave one out")
    found = tuple(load_extension(METRIC_KIND, text) for text in texts)
    labels = np.repeat(np.arange(classes), TRIAL_IMAGES)
    probabilities = np.full((len(labels), classes), 0.5 / classes, np.float32)
    probabilities[np.arange(len(labels)), np.roll(labels, 1)] += 0.5
    for metric in found:
        score_of(metric, labels, probabilities)(np.arange(len(labels)))
    return found


def measure_metrics(
    metrics: Sequence[Extension[Metric]], labels: NDArray[np.int64], probabilities: NDArray[np.float32], units: Units
) -> tuple[NamedScore, ...]:
    """Return the score of each metric for `labels` (N,) and `probabilities` (N, K), with a bootstrap interval over `units`."""
    scores: list[NamedScore] = []
    for metric in metrics:
        found = bootstrap_scores(score_of(metric, labels, probabilities), units)
        low, high = metric.value.bounds or (-math.inf, math.inf)
        ends = np.clip([found.low, found.high], low, high).tolist()
        origin = metric.entry.package, metric.entry.version, metric.options
        scores.append(NamedScore(metric.text, metric.value.summary, *origin, Estimate(found.value, *ends)))
    return tuple(scores)


def score_of(
    metric: Extension[Metric], labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> Callable[[NDArray[np.int64]], float]:
    """Return the function that computes `metric` for chosen images, by their rows; the metric gets copies of the arrays.

    The function raises `PluginError` for an error of the metric, and for a result that is no number or beyond the bounds.
    """
    predicted = probabilities.argmax(axis=1)

    def score(rows: NDArray[np.int64]) -> float:
        found = metric.call(labels[rows], predicted[rows], probabilities[rows])
        if not is_number(found):
            raise metric.refuse(f"its compute returns {shown(found)}; it must return one number")
        value = float(found)
        if not is_possible(value, metric.value, ROUNDING):
            limits = "a number from {:g} to {:g}".format(*metric.value.bounds) if metric.value.bounds else "a finite number"
            raise metric.refuse(f"its compute returns {value:g}; it must return {limits}, or NaN if the images do not define it")
        return value

    return score
