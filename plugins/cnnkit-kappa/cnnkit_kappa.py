"""Cohen's kappa (doi:10.1037/h0026256) for cnnkit: agreement beyond luck, with a cost that grows with the distance of two classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit import Metric

POWERS = {"none": 0, "linear": 1, "quadratic": 2}  # of the distance between two classes


def compute(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], probabilities: NDArray[np.floating[Any]], *, weights: str = "quadratic"
) -> float:
    """Return kappa for class indices `labels` and `predicted` (N,); NaN if only one class occurs, which leaves no mistake to expect.

    `probabilities` (N, K) tell the number of classes alone.
    """
    if weights not in POWERS:
        raise ValueError(f"weights={weights} must be one of {', '.join(POWERS)}")
    classes = probabilities.shape[1]
    table = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    distance = np.abs(np.arange(classes)[:, None] - np.arange(classes))
    cost = np.where(distance == 0, 0, distance ** POWERS[weights])
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    disagreement = float((cost * expected).sum())
    return 1 - float((cost * table).sum()) / disagreement if disagreement else math.nan


kappa = Metric(
    compute=compute,
    summary="Cohen's kappa, with quadratic weights for ordered classes",
    bounds=(-1.0, 1.0),
    reference="doi:10.1037/h0026256",
)
