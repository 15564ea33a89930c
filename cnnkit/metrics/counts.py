"""The table of counts, the basis of every classification score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnkit.errors import DataError

Counts = NDArray[np.int64]


def confusion_counts(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> Counts:
    """Count the pairs of true and predicted class: int64 (K, K), rows true, columns predicted.

    `labels` and `predicted` are integers (N,) in [0, num_classes). Tables of several batches may be added.
    Raises `DataError` if the two differ in length, are not integers, or lie outside the range.
    """
    true, pred = np.asarray(labels), np.asarray(predicted)
    if true.ndim != 1 or true.shape != pred.shape:
        raise DataError(f"labels of shape {true.shape} and predictions of shape {pred.shape}: both must be (N,), one per image")
    for name, values in (("labels", true), ("predictions", pred)):
        check_indices(name, values, num_classes)
    cells = true.astype(np.int64) * num_classes + pred.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def check_indices(name: str, values: NDArray[np.generic], num_classes: int) -> None:
    """Raise `DataError` unless `values` are integers in [0, num_classes); the message calls them `name`."""
    if values.size == 0:
        return
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{name} have type {values.dtype}: they must be integers, the indices of classes")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= num_classes:
        raise DataError(f"{name} range from {low} to {high}: with {num_classes} classes they must lie in 0..{num_classes - 1}")


@dataclass(frozen=True, eq=False)
class Margins:
    """The diagonal and the sums of one table, or of D tables at once, each (..., K).

    `hits` is the diagonal, `support` the images of each class (row sums), `predicted` the images predicted as each class (column sums).
    """

    hits: Counts
    support: Counts
    predicted: Counts


def margins(table: Counts) -> Margins:
    """Return the diagonal, row sums and column sums of tables (..., K, K)."""
    return Margins(
        hits=np.diagonal(table, axis1=-2, axis2=-1),
        support=table.sum(axis=-1),
        predicted=table.sum(axis=-2),
    )
