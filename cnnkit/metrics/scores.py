"""Scores of a table of counts.

A ratio without a denominator (the recall of a class that has no image, the precision of one that was never predicted)
is undefined: NaN here, null in JSON. It counts neither as 0 nor as 1, and is left out of means over classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.metrics.counts import Counts, Margins, margins

Scores = NDArray[np.float64]


def accuracy(table: Counts) -> float:
    """Return the share of images on the diagonal of a (K, K) table; NaN for an empty one."""
    return float(accuracy_of(margins(table)))


def macro_f1(table: Counts) -> float:
    """Return the plain mean of F1 over the classes that occur in a (K, K) table; NaN for an empty one.

    A class occurs if it is the true or the predicted class of an image: what scikit-learn's
    ``f1_score(..., average="macro")`` averages over when it is not given `labels`.
    """
    return float(macro_f1_of(margins(table)))


def accuracy_of(tables: Margins) -> Scores:
    """Accuracy of each table: (..., K) to (...)."""
    return ratio(tables.hits.sum(axis=-1), tables.support.sum(axis=-1))


def balanced_accuracy_of(tables: Margins) -> Scores:
    """Mean recall over the classes that have images: (..., K) to (...)."""
    return _mean_of_defined(recall_of(tables))


def macro_f1_of(tables: Margins) -> Scores:
    """Mean F1 over the classes that occur: (..., K) to (...)."""
    return _mean_of_defined(f1_of(tables))


def weighted_f1_of(tables: Margins) -> Scores:
    """Mean F1 weighted by each class's images: (..., K) to (...)."""
    f1 = f1_of(tables)
    return ratio((np.where(np.isnan(f1), 0.0, f1) * tables.support).sum(axis=-1), tables.support.sum(axis=-1))


def precision_of(tables: Margins) -> Scores:
    """Of the images called so, the share that is: (..., K); NaN for a class never predicted."""
    return ratio(tables.hits, tables.predicted)


def recall_of(tables: Margins) -> Scores:
    """Of the class's images, the share that is found: (..., K); NaN for a class without images."""
    return ratio(tables.hits, tables.support)


def f1_of(tables: Margins) -> Scores:
    """Harmonic mean of precision and recall: (..., K); 0 if either is undefined, NaN if both are."""
    return ratio(2 * tables.hits, tables.support + tables.predicted)


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Scores:
    """Divide; NaN, without a warning, where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def _mean_of_defined(values: Scores) -> Scores:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))
