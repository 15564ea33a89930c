from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.source import open_source


@pytest.fixture
def dataset(image_folder):
    root = image_folder({"ants": 60, "bees": 24})
    return load_dataset(open_source(str(root)), DataConfig(data=str(root), split=(0.8, 0.2)), None, 0)


def counts(dataset):
    return Counter((sample.split, sample.label) for sample in dataset.samples)


def test_the_share_of_every_class_stays_in_train_and_val_is_whole(dataset):
    whole, half = counts(dataset), counts(dataset.thinned(0.5, 0))
    for name in ("ants", "bees"):
        assert half["train", name] == -(-whole["train", name] // 2)
        assert half["val", name] == whole["val", name]
    assert dataset.thinned(1.0, 0).samples == dataset.samples


def test_a_third_is_a_third_in_spite_of_binary_fractions(dataset):
    whole = counts(dataset)["train", "ants"]
    assert counts(dataset.thinned(7 / whole, 0))["train", "ants"] == 7


def test_a_smaller_share_is_a_subset_of_a_larger_and_another_seed_draws_other_images(dataset):
    eighth, half = ({sample.path for sample in dataset.thinned(share, 3).samples} for share in (1 / 8, 1 / 2))
    assert eighth < half
    assert half != {sample.path for sample in dataset.thinned(1 / 2, 4).samples}


def test_at_least_one_image_of_a_class_stays(dataset):
    assert min(counts(dataset.thinned(1e-6, 0))[("train", name)] for name in ("ants", "bees")) == 1


def test_images_of_one_group_stay_together(image_folder):
    """Half of the images are about half of the groups. Half of every group would show nearly the whole variety."""
    root = image_folder({"ants": 80, "bees": 80})
    config = DataConfig(data=str(root), split=(0.9, 0.1), group_by=r"(\d\d)\d\.jpg")  # ten images each
    dataset = load_dataset(open_source(str(root), group_by=config.group_by), config, None, 0)
    half = dataset.thinned(0.5, 0)
    for name in ("ants", "bees"):
        groups = Counter(s.unit for s in half.samples if s.split == "train" and s.label == name)
        whole = Counter(s.unit for s in dataset.samples if s.split == "train" and s.label == name)
        assert sum(groups[group] < whole[group] for group in groups) <= 1
        assert len(groups) <= len(whole) / 2 + 1


def test_the_selection_does_not_depend_on_the_order(dataset):
    paths = {sample.path for sample in dataset.thinned(0.3, 0).samples}
    backwards = type(dataset)(dataset.samples[::-1], dataset.classes, dataset.store, (), ())
    assert {sample.path for sample in backwards.thinned(0.3, 0).samples} == paths
    rows, labels = dataset.thinned(0.3, 0).arrays("train")
    assert len(rows) == len(np.unique(rows)) == len(labels)
