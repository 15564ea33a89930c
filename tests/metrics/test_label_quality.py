from __future__ import annotations

import numpy as np
import pytest

from cnnkit.errors import DataError
from cnnkit.metrics.label_quality import confident_joint, label_issues


def test_the_joint_counts_confident_images_by_label_and_predicted_class() -> None:
    labels = [0, 0, 0, 1, 1, 1]
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05]])
    # thresholds: 0.6 for class 0 and 1.55 / 3 = 0.517 for class 1
    assert confident_joint(labels, probs).tolist() == [[2, 1], [1, 2]]


def test_an_image_without_a_confident_class_is_not_counted() -> None:
    labels = [0, 0, 1, 1]
    probs = np.array([[0.9, 0.1], [0.55, 0.45], [0.1, 0.9], [0.2, 0.8]])
    assert confident_joint(labels, probs).tolist() == [[1, 0], [0, 1]]


def test_the_most_probable_of_several_confident_classes_counts() -> None:
    labels = [0, 1, 2, 2]
    probs = np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.45, 0.5, 0.05], [0.1, 0.1, 0.8]])
    assert confident_joint(labels, probs)[2].tolist() == [0, 1, 1]


def test_a_class_without_labels_is_never_confident() -> None:
    joint = confident_joint([0, 0, 1, 1], np.array([[0.5, 0.1, 0.4], [0.6, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.2, 0.7]]))
    assert joint[:, 2].tolist() == [0, 0, 0]


def test_the_margin_of_another_class_ranks_the_issues() -> None:
    labels = np.repeat([0, 1], 50)
    probs = np.where(np.eye(2)[labels] == 1, 0.9, 0.1)
    probs[7], probs[60], probs[61] = [0.06, 0.94], [0.97, 0.03], [0.91, 0.09]
    assert label_issues(labels, probs).tolist() == [60, 7, 61]


def test_an_image_whose_own_label_is_more_probable_is_no_issue() -> None:
    """Class 1 has low probabilities and a low threshold, so the joint counts images as 1 that are more probably 0."""
    labels = np.repeat([0, 1], 50)
    probs = np.where(np.eye(2)[labels] == 1, 0.95, 0.05)
    probs[50:] = [0.7, 0.3]
    probs[:5] = [0.65, 0.35]
    assert confident_joint(labels, probs)[0, 1] == 5
    assert not set(label_issues(labels, probs)) & set(range(5))


def test_most_planted_wrong_labels_are_found_with_good_precision() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 5, 2000)
    logits = 3.5 * np.eye(5)[truth] + random.normal(0, 1, (2000, 5))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = truth.copy()
    wrong = random.choice(2000, 100, replace=False)
    given[wrong] = (truth[wrong] + random.integers(1, 5, 100)) % 5
    found = label_issues(given, probs)
    assert np.isin(wrong, found).mean() > 0.85
    assert np.isin(found, wrong).mean() > 0.75
    assert np.isin(found[:50], wrong).mean() > 0.95


def test_right_labels_have_no_issues() -> None:
    labels = np.arange(30) % 3
    assert label_issues(labels, np.eye(3)[labels]).tolist() == []
    assert label_issues(np.zeros(0, np.int64), np.zeros((0, 3))).tolist() == []


@pytest.mark.parametrize(
    ("labels", "probs", "message"),
    [
        ([0, 1], np.full((3, 2), 0.5), r"\(2,\)"),
        ([0, 2], np.full((2, 2), 0.5), r"0\.\.1"),
        ([0, 1], np.array([[0.5, 0.5], [np.nan, 0.5]]), "some probabilities are not finite"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(labels, probs, message) -> None:
    with pytest.raises(DataError, match=message):
        label_issues(labels, probs)
