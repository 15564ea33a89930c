"""Folds for cross-validation that keep clusters together and classes in proportion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def folds_of(labels: NDArray[Any], cluster_ids: NDArray[Any], seed: int = 0) -> NDArray[np.int64]:
    """Return the fold (N,), 0 to `FOLDS` - 1, of N images with `labels` (N,); images of equal `cluster_ids` (N,) share a fold.

    A cluster has the class of its first image. The clusters of a class go to the folds in random order, in turn. scikit-learn's
    StratifiedGroupKFold is too slow for 60,000 images: see docs/benchmarks/LOG.md, "Folds by StratifiedGroupKFold".
    """
    _, first, member = np.unique(cluster_ids, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(labels[first][order], kind="stable")]  # by class, in random order within a class
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return fold[member]
