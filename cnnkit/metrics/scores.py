"""Scores of a table of counts.

A ratio with denominator 0 is undefined: NaN here, null in JSON. Examples are the recall of a class without images and the precision of
a class without predictions. An undefined score counts neither as 0 nor as 1; means over classes leave it out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.metrics.counts import Counts, Margins, margins

Scores = NDArray[np.float64]


def accuracy(table: Counts) -> float:
    """Return the share of images on the diagonal of a (K, K) table; NaN for an empty table."""
    return float(accuracy_of(margins(table)))


def macro_f1(table: Counts) -> float:
    """Return the plain mean of F1 over the classes that occur in a (K, K) table; NaN for an empty table.

    A class occurs if it is the true or the predicted class of an image, as in scikit-learn's ``f1_score(..., average="macro")``
    without `labels`.
    """
    return float(macro_f1_of(margins(table)))


def accuracy_of(tables: Margins) -> Scores:
    """Return the accuracy of each table: (..., K) to (...)."""
    return ratio(tables.hits.sum(axis=-1), tables.support.sum(axis=-1))


def balanced_accuracy_of(tables: Margins) -> Scores:
    """Return the mean recall over the classes that have images: (..., K) to (...)."""
    return _mean_of_defined(recall_of(tables))


def macro_f1_of(tables: Margins) -> Scores:
    """Return the mean F1 over the classes that occur: (..., K) to (...)."""
    return _mean_of_defined(f1_of(tables))


def weighted_f1_of(tables: Margins) -> Scores:
    """Return the mean F1 weighted by the images of each class: (..., K) to (...)."""
    f1 = f1_of(tables)
    return ratio((np.where(np.isnan(f1), 0.0, f1) * tables.support).sum(axis=-1), tables.support.sum(axis=-1))


def precision_of(tables: Margins) -> Scores:
    """Return the share of hits among the predictions of each class: (..., K); NaN for a class without predictions."""
    return ratio(tables.hits, tables.predicted)


def recall_of(tables: Margins) -> Scores:
    """Return the share of hits among the images of each class: (..., K); NaN for a class without images."""
    return ratio(tables.hits, tables.support)


def f1_of(tables: Margins) -> Scores:
    """Return the harmonic mean of precision and recall: (..., K); 0 if one of them is undefined, NaN if both are."""
    return ratio(2 * tables.hits, tables.support + tables.predicted)


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Scores:
    """Return the quotient, NaN without a warning where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def _mean_of_defined(values: Scores) -> Scores:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))
