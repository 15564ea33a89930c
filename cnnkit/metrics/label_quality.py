"""Which labels are probably wrong: confident learning, after Northcutt, Jiang and Chuang 2021 (JAIR 70, pages 1373–1411).

Needs probabilities by a model that was not trained on the images it judges; one that was repeats what it was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.counts import Counts, check_indices

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def confident_joint(labels: ArrayLike, probabilities: ArrayLike) -> Counts:
    """Count images by given label (rows) and confidently seen class (columns): int64 (K, K).

    An image counts as class j if its probability of j reaches that class's threshold, the mean probability of j over the images
    labelled j; where several do, the most probable counts; where none does, the image is not counted (section 3.1, equation 1).
    `labels` (N,) are 0..K-1, `probabilities` (N, K). Raises `DataError` if they do not fit.
    """
    given, chances = _checked(labels, probabilities)
    classes = chances.shape[1]
    sizes = np.bincount(given, minlength=classes)
    own = np.bincount(given, weights=chances[np.arange(len(given)), given], minlength=classes)
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    confident = chances >= thresholds - 1e-12  # a class of equal probabilities must reach its own mean despite rounding
    seen = np.where(confident, chances, -1.0).argmax(axis=1)
    counted = confident.any(axis=1)
    cells = given[counted] * classes + seen[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def label_issues(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.intp]:
    """Return the rows whose label is probably wrong, the most certain first.

    The confident joint, scaled so that its rows sum to the class sizes, says how many images of label i are really j
    (section 3.1, equation 2); that many are taken, those of the greatest margin of j over i (section 3.2, "prune by noise rate"),
    as long as the margin is positive: an image whose own label is still the likelier is no suspect. Ranked by the margin of
    the most probable other class over the label. Raises `DataError` as `confident_joint` does.
    """
    given, chances = _checked(labels, probabilities)
    joint = confident_joint(given, chances).astype(np.float64)
    sizes = np.bincount(given, minlength=len(joint))
    joint *= (sizes / np.maximum(joint.sum(axis=1), 1))[:, None]
    np.fill_diagonal(joint, 0)
    wrong = np.zeros(len(given), bool)
    rows_of = [np.flatnonzero(given == label) for label in range(len(joint))]
    for label, seen in np.argwhere(np.rint(joint) > 0):
        rows = rows_of[label]
        margin = chances[rows, seen] - chances[rows, label]
        first = np.argsort(-margin, kind="stable")[: int(np.rint(joint[label, seen]))]
        wrong[rows[first[margin[first] > 0]]] = True
    found = np.flatnonzero(wrong)
    others = chances[found].copy()
    others[np.arange(len(found)), given[found]] = -1.0
    margin = others.max(axis=1, initial=-1.0) - chances[found, given[found]]
    return found[np.lexsort((chances[found, given[found]], -margin))]  # confident models give margins of 1 by the dozen


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    given, chances = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if chances.ndim != 2 or given.shape != chances.shape[:1]:  # noqa: PLR2004 (N, K)
        raise DataError(
            f"labels of shape {given.shape} and probabilities of shape {chances.shape} do not fit: they must be (N,) and (N, K)"
        )
    check_indices("labels", given, chances.shape[1])
    if not np.isfinite(chances).all():
        raise DataError("probabilities are not finite: train again with a lower --lr, or leave these images out")
    return given.astype(np.int64), chances
