"""What a model must beat to be worth anything: simple answers to the same images, compared image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.intervals import Estimate, wilson
from cnnkit.metrics.paired import SIGNIFICANCE, PairedCounts, accuracy_difference, mcnemar, paired_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAJORITY, COLOUR = "majority", "colour-histogram"


@dataclass(frozen=True)
class Baseline:
    """A simple way to answer: its accuracy, and how the model compares with it on the same images.

    `difference` is the model's accuracy minus this one's, in [-1, 1]; `counts` has this one as the first and the model as the second;
    `p_value` is that of the exact McNemar test. `trained_on` is the number of images it learned from.
    """

    name: str
    summary: str
    accuracy: Estimate
    difference: Estimate
    counts: PairedCounts
    p_value: float
    trained_on: int = 0

    @property
    def beaten(self) -> bool:
        """Whether the model is clearly better: right more often, and by more than chance explains."""
        return self.difference.value > 0 and self.p_value < SIGNIFICANCE

    def to_dict(self) -> dict[str, Any]:
        """Return the item of the list ``baselines`` in metrics.json."""
        return {
            "name": self.name,
            "summary": self.summary,
            "accuracy": self.accuracy.to_dict(),
            "trained_on": self.trained_on,
            "difference": self.difference.to_dict(),
            "only_model_right": self.counts.only_second,
            "only_baseline_right": self.counts.only_first,
            "mcnemar_p": self.p_value,
            "beaten": self.beaten,
        }


def baseline(name: str, summary: str, right: NDArray[np.bool_], model_right: NDArray[np.bool_], trained_on: int = 0) -> Baseline:
    """Compare a simple answer with the model: `right` and `model_right` (N,) say on which images each is right."""
    counts = paired_counts(right, model_right)
    accuracy = wilson(int(right.sum()), len(right))
    return Baseline(name, summary, accuracy, accuracy_difference(counts), counts, mcnemar(counts), trained_on)
