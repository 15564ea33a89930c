"""The colour baseline: a linear model on colour histograms, which an image classifier should beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 4  # per channel, so 64 colours; 3 and 6 levels are as good: see docs/benchmarks/LOG.md, "Colour baseline"
MAX_TRAINING_IMAGES = 2_000  # take 20 ms, or a few seconds if they must be decoded
MIN_CLASS_IMAGES = 5  # even if all classes together then exceed MAX_TRAINING_IMAGES
_RIDGE_PENALTY = 1.0  # logistic regression is as good and costs 150 times as much: see docs/benchmarks/LOG.md, "Colour baseline"


def colour_histograms(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the square roots of the shares of the `LEVELS`³ colours, (N, 64), in images, uint8 RGB (N, H, W, 3)."""
    levels = images.reshape(len(images), images.shape[1] * images.shape[2], 3) // (256 // LEVELS)
    colours = (levels.astype(np.int64) * [LEVELS**2, LEVELS, 1]).sum(axis=2) + np.arange(len(images))[:, None] * LEVELS**3
    counts = np.bincount(colours.ravel(), minlength=len(images) * LEVELS**3).reshape(len(images), LEVELS**3)
    return np.sqrt(counts / colours.shape[1])


def colour_predictions(images: NDArray[np.uint8], labels: NDArray[np.int64], unseen: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the predicted classes (N,) of `unseen` (N, H, W, 3), learned from the colours of `images` (M, H, W, 3) and `labels` (M,).

    The model is a ridge regression of +1 for the class and -1 for the others, as scikit-learn's RidgeClassifier. That takes 0.4 s to
    import; the solution here takes 20 ms. The model draws no random numbers and has nothing to tune.
    """
    known, targets = np.unique(labels, return_inverse=True)
    seen = colour_histograms(images)
    centre, signs = seen.mean(axis=0), 2.0 * np.eye(len(known))[targets] - 1
    weights = np.linalg.solve((seen - centre).T @ (seen - centre) + _RIDGE_PENALTY * np.eye(seen.shape[1]), (seen - centre).T @ signs)
    return known[((colour_histograms(unseen) - centre) @ weights + signs.mean(axis=0)).argmax(axis=1)]


def spread_sample(labels: Sequence[str]) -> list[int]:
    """Return the indices of up to `MAX_TRAINING_IMAGES` images, evenly spread over each class.

    Each class gets an equal share, at least `MIN_CLASS_IMAGES`.
    """
    by_class: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    share = max(MIN_CLASS_IMAGES, MAX_TRAINING_IMAGES // max(1, len(by_class)))
    chosen: list[int] = []
    for members in by_class.values():
        kept = min(share, len(members))
        chosen += [members[i * len(members) // kept] for i in range(kept)]
    return sorted(chosen)
