"""Parts for cross-validation that keep cluster_ids together and classes in proportion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def folds_of(labels: NDArray[Any], cluster_ids: NDArray[Any], seed: int = 0) -> NDArray[np.int64]:
    """Deal N images with `labels` (N,) to `FOLDS` parts, (N,); images of equal `cluster_ids` (N,) land in one part.

    Each set of cluster_ids counts as the class of its first image; sets of a class are dealt out in random order, one to each part
    in turn. scikit-learn's StratifiedGroupKFold visits every set in Python, which a check of 60,000 images cannot afford: see
    docs/benchmarks/LOG.md, "Folds by StratifiedGroupKFold".
    """
    _, first, member = np.unique(cluster_ids, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(labels[first][order], kind="stable")]  # class by class, random inside
    part = np.empty(len(first), np.int64)
    part[order] = np.arange(len(first)) % FOLDS
    return part[member]
