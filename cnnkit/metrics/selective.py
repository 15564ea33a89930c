"""What comes of not answering everything: risk against coverage on labelled images, and how the model's own rules did there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.abstention import Abstention, Operating, operating, risk_coverage
from cnnkit.metrics.conformal import LabelSets, SetOutcome, set_outcome

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class SelectiveReport:
    """Risk and coverage on N images: `top` (N,) and `wrong` (N,), a `table` of round coverages, and what the stored rules did.

    `abstention` and `label_sets` are the model's rules, `answered` and `sets` their outcomes here; None where there is no rule.
    """

    top: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    table: tuple[Operating, ...]
    abstention: Abstention | None
    answered: Operating | None
    label_sets: LabelSets | None
    sets: SetOutcome | None

    def to_dict(self) -> dict[str, Any]:
        """Return the keys ``risk_coverage``, and ``abstention`` and ``label_sets`` of those rules that there are, for metrics.json."""
        result: dict[str, Any] = {"risk_coverage": [row.to_dict() for row in self.table]}
        if self.abstention and self.answered:
            result["abstention"] = {**asdict(self.abstention), "evaluated": self.answered.to_dict()}
        if self.label_sets and self.sets:
            result["label_sets"] = {**asdict(self.label_sets), "evaluated": self.sets.to_dict()}
        return result


def selective_report(
    labels: ArrayLike, probabilities: ArrayLike, abstention: Abstention | None = None, label_sets: LabelSets | None = None
) -> SelectiveReport:
    """Return what not answering does to labels (N,) and probabilities (N, K), N > 0; raises `DataError` for NaN."""
    true, chances = np.asarray(labels), np.asarray(probabilities)
    top, wrong = chances.max(axis=1).astype(np.float64), chances.argmax(axis=1) != true
    return SelectiveReport(
        top=top,
        wrong=wrong,
        table=risk_coverage(top, wrong),
        abstention=abstention,
        answered=operating(top, wrong, abstention.threshold) if abstention else None,
        label_sets=label_sets,
        sets=set_outcome(true, chances, label_sets) if label_sets else None,
    )
