from __future__ import annotations

import numpy as np

from cnnkit.doctor.folds import FOLDS, folds_of


def test_clusters_stay_together_and_classes_in_proportion() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 1000)
    cluster_ids = np.arange(1000)
    cluster_ids[1::10] = cluster_ids[::10]
    part = folds_of(labels, cluster_ids)
    assert (part[1::10] == part[::10]).all()
    for label in range(4):
        share = np.bincount(part[labels == label], minlength=FOLDS) / (labels == label).sum()
        assert (abs(share - 1 / FOLDS) < 0.06).all()


def test_folds_depend_on_the_seed() -> None:
    labels, cluster_ids = np.zeros(100, np.int64), np.arange(100)
    assert np.array_equal(folds_of(labels, cluster_ids, 3), folds_of(labels, cluster_ids, 3))
    assert not np.array_equal(folds_of(labels, cluster_ids, 3), folds_of(labels, cluster_ids, 4))
    assert (np.bincount(folds_of(labels, cluster_ids)) == 20).all()
