from __future__ import annotations

import numpy as np

from cnnkit.report.page import gallery as page_gallery
from cnnkit.report.page.gallery import (
    CLASS_RIGHT_IMAGES,
    CLASS_SAMPLES,
    HEAT_MAP_IMAGES,
    MAX_CELL_IMAGES,
    MAX_SAMPLED_CLASSES,
    ImagePrediction,
    choose,
    matrix,
    pairs,
)


def prediction(path: str, true: int, predicted: int, loss: float, probability: float = 0.9) -> ImagePrediction:
    return ImagePrediction(path, true, predicted, probability, loss)


TRAINING = {0: [f"a{row}" for row in range(20)], 1: ["b0"]}


def test_the_worst_images_of_each_cell_come_first_up_to_a_limit():
    many = [prediction(f"m{row:02d}", 0, 1, float(row)) for row in range(MAX_CELL_IMAGES + 5)]
    choice = choose([*many, prediction("other", 1, 0, 0.5)], TRAINING)
    mistakes = [one.path for one in choice.gallery if not one.right]
    assert mistakes[:2] == [f"m{MAX_CELL_IMAGES + 4}", "other"]  # the first of every cell, then the second
    assert len(mistakes) == MAX_CELL_IMAGES + 1
    assert "m04" not in mistakes
    assert choice.worst[0].path == f"m{MAX_CELL_IMAGES + 4}"
    assert len(choice.worst) == HEAT_MAP_IMAGES


def test_an_infinite_or_missing_loss_is_the_worst():
    choice = choose([prediction("a", 0, 1, 3.0), prediction("b", 0, 1, float("nan"))], TRAINING)
    assert [one.path for one in choice.worst] == ["b", "a"]


def test_the_least_confident_prediction_may_be_right():
    choice = choose([prediction("sure", 0, 1, 3.0, 0.9), prediction("unsure", 1, 1, 0.7, 0.5)], TRAINING)
    assert [one.path for one in choice.unsure] == ["unsure", "sure"]


def test_right_predictions_and_training_images_are_spread_over_the_class():
    right = [prediction(f"r{row:02d}", 0, 0, 0.1, 1 - row / 100) for row in range(24)]
    choice = choose(right, TRAINING)
    assert [one.path for one in choice.gallery] == ["r00", "r04", "r08", "r12", "r16", "r20"]
    assert len(choice.gallery) == CLASS_RIGHT_IMAGES
    assert choice.samples == {0: ("a0", "a3", "a6", "a10", "a13", "a16"), 1: ("b0",)}
    assert len(choice.samples[0]) == CLASS_SAMPLES
    assert choice.paths() == list(
        dict.fromkeys([*[one.path for one in choice.unsure], *(f"r{row:02d}" for row in range(24)), *choice.paths()])
    )


def test_with_many_classes_the_images_of_the_listed_pairs_come_first(monkeypatch):
    monkeypatch.setattr(page_gallery, "MAX_PAIRS", 1)
    frequent = [prediction(f"f{row}", 3, 4, 0.1) for row in range(3)]
    choice = choose([prediction("rare", 1, 2, 9.0), *frequent], {label: [f"{label}"] for label in range(500)})
    assert [one.path for one in choice.gallery] == ["f0", "f1", "f2", "rare"]
    assert len(choice.samples) == MAX_SAMPLED_CLASSES


def test_a_cell_is_shaded_by_its_share_and_an_empty_row_has_no_recall():
    rows = matrix(np.array([[99, 1], [0, 0]]), ["ant", "bee"])
    assert [[cell.count for cell in row.cells] for row in rows] == [[99, 1], [0, 0]]
    assert [cell.shade for cell in rows[0].cells] == [8, 1]
    assert [cell.shade for cell in rows[1].cells] == [0, 0]
    assert [(row.total, row.recall) for row in rows] == [(100, "99.0"), (0, "-")]


def test_pairs_have_the_indices_of_their_classes():
    (pair,) = pairs(np.array([[5, 0], [2, 5]]), ["ant", "bee"])
    assert (pair.true, pair.predicted, pair.pair.count) == (1, 0, 2)
