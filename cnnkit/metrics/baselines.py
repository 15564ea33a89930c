"""Baselines: simple predictions for the same images, compared with the model image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.paired import SIGNIFICANCE, PairedCounts, paired_test
from cnnkit.metrics.units import Units, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAJORITY_BASELINE, COLOUR_BASELINE = "majority", "colour-histogram"


@dataclass(frozen=True)
class Baseline:
    """The accuracy of a simple predictor, and its comparison with the model on the same images.

    `difference` is the model's accuracy minus the baseline's, in [-1, 1]. In `counts` the baseline is the first and the model the
    second. `p_value` is that of `paired_test`. `trained_on` is the number of images that trained the baseline.
    """

    name: str
    summary: str
    accuracy: Estimate
    difference: Estimate
    counts: PairedCounts
    p_value: float
    trained_on: int = 0

    @property
    def is_beaten(self) -> bool:
        """Tell whether the model is right significantly more often than the baseline."""
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
            "beaten": self.is_beaten,
        }


def baseline(
    name: str, summary: str, right: NDArray[np.bool_], model_right: NDArray[np.bool_], trained_on: int = 0, units: Units | None = None
) -> Baseline:
    """Return a baseline compared with the model; `right` and `model_right` (N,) tell on which images, of `units`, each is right."""
    test = paired_test(right, model_right, units)
    accuracy = proportion(right, units or Units.single(len(right)))
    return Baseline(name, summary, accuracy, test.difference, test.counts, test.p, trained_on)
