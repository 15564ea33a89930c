"""What colours alone tell: a linear model on colour histograms, the least that a classifier of pictures must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 4  # per channel: 64 colours. 3 and 6 do as well: see docs/benchmarks/LOG.md, "Colour baseline"
MOST = 2_000  # training images that are looked at: 20 ms, and where they must be decoded first a few seconds
LEAST = 5  # of each class, however many classes there are
_RIDGE = 1.0  # logistic regression does as well for 150 times the work: see docs/benchmarks/LOG.md, "Colour baseline"


def colour_histograms(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Map images, uint8 RGB (N, H, W, 3), to the square roots of the shares of their `LEVELS`³ colours, (N, 64)."""
    levels = images.reshape(len(images), images.shape[1] * images.shape[2], 3) // (256 // LEVELS)
    colours = (levels.astype(np.int64) * [LEVELS**2, LEVELS, 1]).sum(axis=2) + np.arange(len(images))[:, None] * LEVELS**3
    counts = np.bincount(colours.ravel(), minlength=len(images) * LEVELS**3).reshape(len(images), LEVELS**3)
    return np.sqrt(counts / colours.shape[1])


def colour_answers(images: NDArray[np.uint8], labels: NDArray[np.int64], asked: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Learn the classes `labels` (M,) of `images` (M, H, W, 3) by their colours; return the classes of `asked` (N, H, W, 3), (N,).

    Ridge regression of +1 for the class and -1 for the others, as scikit-learn's RidgeClassifier; solved here, since to import that one
    takes 0.4 s and to solve it 20 ms. There is nothing to draw and nothing to tune.
    """
    known, targets = np.unique(labels, return_inverse=True)
    seen = colour_histograms(images)
    centre, signs = seen.mean(axis=0), 2.0 * np.eye(len(known))[targets] - 1
    weights = np.linalg.solve((seen - centre).T @ (seen - centre) + _RIDGE * np.eye(seen.shape[1]), (seen - centre).T @ signs)
    return known[((colour_histograms(asked) - centre) @ weights + signs.mean(axis=0)).argmax(axis=1)]


def spread_sample(labels: Sequence[str]) -> list[int]:
    """Return the places of up to `MOST` images, equally many of each class (`LEAST` at least) and evenly spread over it."""
    by_class: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        by_class.setdefault(label, []).append(place)
    share = max(LEAST, MOST // max(1, len(by_class)))
    chosen: list[int] = []
    for members in by_class.values():
        kept = min(share, len(members))
        chosen += [members[i * len(members) // kept] for i in range(kept)]
    return sorted(chosen)
