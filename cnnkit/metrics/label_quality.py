"""Probably wrong labels, found by confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70, pages 1373–1411).

The probabilities must come from a model that was not trained on these images; a trained model repeats their labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.counts import Counts, check_indices

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def confident_joint(labels: ArrayLike, probabilities: ArrayLike) -> Counts:
    """Count images by given label (rows) and confidently predicted class (columns): int64 (K, K).

    An image counts as class j if its probability of j reaches the threshold of j: the mean probability of j over the images labelled j.
    If several classes reach their thresholds, the most probable class counts. If none does, the image is not counted (section 3.1,
    equation 1). `labels` (N,) are 0..K-1, `probabilities` (N, K). Raises `DataError` if they do not fit.
    """
    given, probs = _checked(labels, probabilities)
    classes = probs.shape[1]
    sizes = np.bincount(given, minlength=classes)
    own = np.bincount(given, weights=probs[np.arange(len(given)), given], minlength=classes)
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    confident = probs >= thresholds - 1e-12  # a class of equal probabilities must reach its own mean despite rounding
    seen = np.where(confident, probs, -1.0).argmax(axis=1)
    counted = confident.any(axis=1)
    cells = given[counted] * classes + seen[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def label_issues(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.intp]:
    """Return the rows whose label is probably wrong, the most certain first.

    The confident joint is scaled so that its rows sum to the class sizes. It then estimates the number of images with label i and true
    class j (section 3.1, equation 2). As many images are selected, by the largest margin of j over i (section 3.2, "prune by noise
    rate"). The margin must be positive: an image whose own label is more probable is not suspect. The margin of the most probable other
    class over the label ranks the rows. Raises the same errors as `confident_joint`.
    """
    given, probs = _checked(labels, probabilities)
    joint = confident_joint(given, probs).astype(np.float64)
    sizes = np.bincount(given, minlength=len(joint))
    joint *= (sizes / np.maximum(joint.sum(axis=1), 1))[:, None]
    np.fill_diagonal(joint, 0)
    wrong = np.zeros(len(given), bool)
    rows_of = [np.flatnonzero(given == label) for label in range(len(joint))]
    for label, seen in np.argwhere(np.rint(joint) > 0):
        rows = rows_of[label]
        margin = probs[rows, seen] - probs[rows, label]
        first = np.argsort(-margin, kind="stable")[: int(np.rint(joint[label, seen]))]
        wrong[rows[first[margin[first] > 0]]] = True
    found = np.flatnonzero(wrong)
    others = probs[found].copy()
    others[np.arange(len(found)), given[found]] = -1.0
    margin = others.max(axis=1, initial=-1.0) - probs[found, given[found]]
    return found[np.lexsort((probs[found, given[found]], -margin))]  # ties are common: a confident model gives many margins of 1


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    given, probs = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probs.ndim != 2 or given.shape != probs.shape[:1]:  # noqa: PLR2004 (N, K)
        raise DataError(f"labels of shape {given.shape} and probabilities of shape {probs.shape} do not fit: they must be (N,) and (N, K)")
    check_indices("labels", given, probs.shape[1])
    if not np.isfinite(probs).all():
        raise DataError("some probabilities are not finite: train again with a lower --lr, or leave these images out")
    return given.astype(np.int64), probs
