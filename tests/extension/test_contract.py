"""The contract tests find every broken promise and name it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cnnkit import Metric
from cnnkit.testing import ExtensionCheckError, check_metric


def accuracy(labels: Any, predicted: Any, probabilities: Any, *, factor: float = 1.0) -> float:
    return factor * float((labels == predicted).mean())


def spoiled(labels: Any, predicted: Any, probabilities: Any) -> float:
    predicted[:] = 0
    return 0.5


def as_integer(labels: Any, predicted: Any, probabilities: Any, *, factor: int = 0.5) -> float:  # pyright: ignore[reportArgumentType]
    return 0.5


SHARE = Metric(compute=accuracy, summary="share of right predictions", bounds=(0.0, 1.0))


def test_a_good_metric_passes() -> None:
    check_metric(SHARE, "share")


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (accuracy, "is a function, not a cnnkit.Metric"),
        (replace(SHARE, compute=None), "its compute is a NoneType, not a function"),
        (replace(SHARE, summary=" "), "needs a summary, a text of one line"),
        (replace(SHARE, summary="two\nlines"), "needs a summary, a text of one line"),
        (replace(SHARE, compute=as_integer), "option 'factor' has type int, which cannot hold its default 0.5"),
        (replace(SHARE, compute=lambda *_: None), "returns a NoneType for 2 classes; expected one number"),
        (replace(SHARE, compute=lambda *_: True), "returns a bool for 2 classes; expected one number"),
        (replace(SHARE, compute=lambda *_: 1.5), "returns 1.5 for 2 classes; expected a finite number from 0 to 1"),
        (replace(SHARE, compute=lambda *_: float("inf"), bounds=None), "returns inf for 2 classes; expected a finite number"),
        (replace(SHARE, compute=lambda *_: float("nan")), "is not defined for 2 classes, although every class has an image"),
        (
            replace(SHARE, compute=lambda labels, *_: labels[:9].sum() / 90),
            "gives another number for 2 classes if the images have another order",
        ),
        (replace(SHARE, compute=spoiled), "changes its arrays for 2 classes"),
    ],
)
def test_a_broken_metric_is_named_with_its_problem(metric: Any, problem: str) -> None:
    with pytest.raises(ExtensionCheckError) as caught:
        check_metric(metric, "share")
    assert str(caught.value) == f"share: {problem}"
