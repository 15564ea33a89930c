from __future__ import annotations

import numpy as np
import pytest

from cnnkit.errors import DataError
from cnnkit.metrics.label_quality import confident_joint, label_issues


def test_the_joint_counts_confident_images_by_label_and_class_seen() -> None:
    labels = [0, 0, 0, 1, 1, 1]
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05]])
    # thresholds: 0.6 for class 0 and 1.55 / 3 = 0.517 for class 1
    assert confident_joint(labels, chances).tolist() == [[2, 1], [1, 2]]


def test_an_image_that_is_confidently_nothing_is_not_counted() -> None:
    labels = [0, 0, 1, 1]
    chances = np.array([[0.9, 0.1], [0.55, 0.45], [0.1, 0.9], [0.2, 0.8]])
    assert confident_joint(labels, chances).tolist() == [[1, 0], [0, 1]]


def test_of_several_confident_classes_the_most_probable_counts() -> None:
    labels = [0, 1, 2, 2]
    chances = np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.45, 0.5, 0.05], [0.1, 0.1, 0.8]])
    assert confident_joint(labels, chances)[2].tolist() == [0, 1, 1]


def test_a_class_that_no_label_names_is_never_seen() -> None:
    joint = confident_joint([0, 0, 1, 1], np.array([[0.5, 0.1, 0.4], [0.6, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.2, 0.7]]))
    assert joint[:, 2].tolist() == [0, 0, 0]


def test_issues_are_ranked_by_how_clearly_another_class_wins() -> None:
    labels = np.repeat([0, 1], 50)
    chances = np.where(np.eye(2)[labels] == 1, 0.9, 0.1)
    chances[7], chances[60], chances[61] = [0.06, 0.94], [0.97, 0.03], [0.91, 0.09]
    assert label_issues(labels, chances).tolist() == [60, 7, 61]


def test_an_image_whose_own_label_is_the_likelier_is_no_issue() -> None:
    """Class 1 is rarely believed, so its threshold is low and the joint counts images as 1 that are still likelier 0."""
    labels = np.repeat([0, 1], 50)
    chances = np.where(np.eye(2)[labels] == 1, 0.95, 0.05)
    chances[50:] = [0.7, 0.3]
    chances[:5] = [0.65, 0.35]
    assert confident_joint(labels, chances)[0, 1] == 5
    assert not set(label_issues(labels, chances)) & set(range(5))


def test_planted_labels_are_found_with_good_precision() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 5, 2000)
    logits = 3.5 * np.eye(5)[truth] + random.normal(0, 1, (2000, 5))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = truth.copy()
    wrong = random.choice(2000, 100, replace=False)
    given[wrong] = (truth[wrong] + random.integers(1, 5, 100)) % 5
    found = label_issues(given, chances)
    assert np.isin(wrong, found).mean() > 0.85
    assert np.isin(found, wrong).mean() > 0.75
    assert np.isin(found[:50], wrong).mean() > 0.95


def test_right_labels_have_no_issues() -> None:
    labels = np.arange(30) % 3
    assert label_issues(labels, np.eye(3)[labels]).tolist() == []
    assert label_issues(np.zeros(0, np.int64), np.zeros((0, 3))).tolist() == []


@pytest.mark.parametrize(
    ("labels", "chances", "said"),
    [
        ([0, 1], np.full((3, 2), 0.5), r"\(2,\)"),
        ([0, 2], np.full((2, 2), 0.5), r"0\.\.1"),
        ([0, 1], np.array([[0.5, 0.5], [np.nan, 0.5]]), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(labels, chances, said) -> None:
    with pytest.raises(DataError, match=said):
        label_issues(labels, chances)
