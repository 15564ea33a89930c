from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from cnnkit.doctor.suspects import _covariance, out_of_fold, suspects


def clouds(classes=3, each=60, features=8):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    return (3 * np.eye(classes, features)[labels] + random.normal(0, 0.7, (len(labels), features))).astype(np.float32), labels


def test_planted_wrong_labels_are_found_and_named() -> None:
    features, labels = clouds()
    given = labels.copy()
    given[[3, 70]] = [1, 2]
    probabilities = out_of_fold(features, given, np.arange(len(given)))
    finding = suspects([f"{row}.jpg" for row in range(len(given))], given, probabilities, ["ants", "bees", "wasps"])
    assert finding is not None
    assert finding.severity == "warning"
    assert {"3.jpg", "70.jpg"} <= {path for (path,) in finding.files}
    assert len(finding.files) <= 4
    assert "'bees' that looks like 'ants' (1)" in finding.message


def test_right_labels_raise_no_suspicion() -> None:
    features, labels = clouds()
    probabilities = out_of_fold(features, labels, np.arange(len(labels)))
    assert suspects(["x"] * len(labels), labels, probabilities, ["a", "b", "c"]) is None
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.97
    assert probabilities.sum(axis=1) == pytest.approx(1)


def test_few_suspects_are_a_note() -> None:
    labels = np.repeat([0, 1], 200)
    probabilities = np.where(np.eye(2)[labels] == 1, 0.9, 0.1)
    labels[0] = 1
    finding = suspects([str(row) for row in range(400)], labels, probabilities, ["a", "b"])
    assert finding is not None
    assert (finding.severity, finding.files) == ("note", (("0",),))


def test_no_model_judges_an_image_whose_copy_it_saw() -> None:
    """The features are noise, so that only a copy can reveal the class."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(50, 200)), 4, axis=0).astype(np.float32)
    labels = np.repeat(np.arange(50) % 2, 4)
    together = out_of_fold(features, labels, np.repeat(np.arange(50), 4)).argmax(axis=1)
    apart = out_of_fold(features, labels, np.arange(200)).argmax(axis=1)
    assert (together == labels).mean() < 0.7
    assert (apart == labels).mean() > 0.95


def test_constant_features_and_classes_of_one_image_do_not_crash() -> None:
    features, labels = clouds()
    features[:, 5] = 1.0
    labels[0] = 3
    probabilities = out_of_fold(features, labels, np.arange(len(labels)))
    assert probabilities.shape == (180, 4)
    assert np.isfinite(probabilities).all()
    assert probabilities[0, 3] == 0


@pytest.mark.parametrize("shape", [(300, 20), (30, 80)])
def test_the_covariance_equals_ledoit_and_wolfs(shape) -> None:
    random = np.random.default_rng(0)
    centred = (random.normal(size=shape) * np.linspace(0.5, 2, shape[1])).astype(np.float32)
    assert _covariance(centred) == pytest.approx(ledoit_wolf(centred, assume_centered=True)[0], abs=1e-4)
