"""Selective prediction on labelled images: risk against coverage, and the outcome of the model's own rules."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.abstention import Abstention, OperatingPoint, operating_point, risk_coverage
from cnnkit.metrics.conformal import LabelSetOutcome, LabelSets, label_set_outcome
from cnnkit.metrics.units import Units

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class SelectiveReport:
    """Risk and coverage on N images: top probabilities `top` (N,), mistakes `wrong` (N,), their `units`, and a `table` of round coverages.

    `abstention` and `label_sets` are the model's stored rules, `abstention_outcome` and `label_set_outcome` their results on these
    images; None without such a rule.
    """

    top: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    units: Units
    table: tuple[OperatingPoint, ...]
    abstention: Abstention | None
    abstention_outcome: OperatingPoint | None
    label_sets: LabelSets | None
    label_set_outcome: LabelSetOutcome | None

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of metrics.json: ``risk_coverage``, and ``abstention`` and ``label_sets`` if the model has these rules."""
        result: dict[str, Any] = {"risk_coverage": [row.to_dict() for row in self.table]}
        if self.abstention and self.abstention_outcome:
            result["abstention"] = {**asdict(self.abstention), "evaluated": self.abstention_outcome.to_dict()}
        if self.label_sets and self.label_set_outcome:
            result["label_sets"] = {**asdict(self.label_sets), "evaluated": self.label_set_outcome.to_dict()}
        return result


def selective_report(
    labels: ArrayLike,
    probabilities: ArrayLike,
    abstention: Abstention | None = None,
    label_sets: LabelSets | None = None,
    units: Units | None = None,
) -> SelectiveReport:
    """Return the report on images with labels (N,) and probabilities (N, K), N > 0; raises `DataError` for NaN.

    By default every image is a unit of its own.
    """
    true, probs = np.asarray(labels), np.asarray(probabilities)
    of_images = units or Units.single(len(true))
    top, wrong = probs.max(axis=1).astype(np.float64), probs.argmax(axis=1) != true
    return SelectiveReport(
        top=top,
        wrong=wrong,
        units=of_images,
        table=risk_coverage(top, wrong, units=of_images),
        abstention=abstention,
        abstention_outcome=operating_point(top, wrong, abstention.threshold, of_images) if abstention else None,
        label_sets=label_sets,
        label_set_outcome=label_set_outcome(true, probs, label_sets, of_images) if label_sets else None,
    )
