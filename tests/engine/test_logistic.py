from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cnnkit.engine.logistic import STRENGTHS, LinearMap, regressions


def clouds(classes: int = 3, images: int = 90) -> tuple[Tensor, Tensor]:
    """Return features (N, 6) of overlapping classes on very different scales, the last feature constant, and labels."""
    numbers = np.random.default_rng(0)
    labels = np.arange(images) % classes
    features = numbers.normal(size=(images, 6)) + 1.5 * numbers.normal(size=(classes, 6))[labels]
    features = features * [1, 100, 0.01, 1, 1, 0] + [0, 5, 0, -3, 0, 2]
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("balanced", [False, True])
def test_regressions_equal_those_of_scikit_learn_on_standardised_features(balanced):
    features, labels = clouds()
    features, labels = features[:-20], labels[:-20].clone()
    labels[:20] = 0
    weights = len(labels) / (3 * torch.bincount(labels)) if balanced else None
    scaled = StandardScaler().fit_transform(features.numpy())
    found = list(regressions(features, labels, 3, weights))
    assert len(found) == len(STRENGTHS)
    for strength, head in zip(STRENGTHS, found, strict=True):
        reference = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000, class_weight="balanced" if balanced else None)
        expected = reference.fit(scaled, labels.numpy()).predict_proba(scaled)
        np.testing.assert_allclose(head.logits(features).softmax(1).numpy(), expected, atol=2e-3)


def test_a_constant_feature_has_no_weight():
    for head in regressions(*clouds(), 3):
        assert not head.weight[:, 5].any()
        assert head.weight.isfinite().all()


def test_the_same_features_give_the_same_map_bit_for_bit():
    (first, *_), (second, *_) = regressions(*clouds(), 3), regressions(*clouds(), 3)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_a_class_without_images_is_improbable():
    features, labels = clouds()
    *_, weakest = regressions(features, labels, 4)
    assert float(weakest.logits(features).softmax(1)[:, 3].max()) < 0.05


def test_zero_makes_all_classes_equally_probable():
    zero = LinearMap.zero(4, 6, torch.device("cpu"))
    assert zero.logits(clouds()[0]).softmax(1).unique().tolist() == [0.25]
