"""The report of a comparison of models: the content of compare.json, compare.csv, the screen and a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import shortened
from cnnkit.metrics.comparison import Entrant, PairComparison, Score
from cnnkit.metrics.comparison_verdict import verdict
from cnnkit.metrics.intervals import CONFIDENCE
from cnnkit.metrics.paired import POWER, SIGNIFICANCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHANGE_COLUMNS = (  # of compare.csv
    *("first", "second", "path", "true"),
    *("first_predicted", "first_probability", "second_predicted", "second_probability", "change"),
)


@dataclass(frozen=True)
class ChangedImage:
    """An image on which exactly one model of a pair is right.

    The image is `fixed` if only the second model is right, and broken if only the first is. `first` and `second` are the predictions
    of the models: a class and its probability.
    """

    path: str
    true: str
    first: tuple[str, float]
    second: tuple[str, float]
    fixed: bool

    def row(self, pair: PairComparison) -> dict[str, object]:
        """Return the row of compare.csv, with the keys `CHANGE_COLUMNS`."""
        values = (pair.first, pair.second, self.path, self.true, *self.first, *self.second, "fixed" if self.fixed else "broken")
        return dict(zip(CHANGE_COLUMNS, values, strict=True))


@dataclass(frozen=True, eq=False)
class Contender:
    """One model of the comparison: its predictions, its scores on these images and its file.

    `evaluated` tells whether the comparison evaluated the model, instead of reading a stored evaluation.
    """

    entrant: Entrant
    score: Score
    model: str
    evaluated: bool

    @property
    def name(self) -> str:
        """The displayed name."""
        return self.entrant.name

    def to_dict(self) -> dict[str, Any]:
        """Return the item of the list ``runs`` in compare.json."""
        facts = {"name": self.name, "model": self.model, "sha256": self.entrant.sha256, "evaluated": self.evaluated}
        return {**facts, **self.score.to_dict()}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Models compared on the same N images of `split`; `labels` (N,) index `classes`, in the order of `paths`.

    The images are of `units` units. `data` is the source of the images. `left_out` lists images that are not compared, each with the
    reason. `folder` holds compare.json, compare.csv and compare.png (None: not written).
    """

    split: str
    data: str
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    units: int
    contenders: tuple[Contender, ...]
    pairs: tuple[PairComparison, ...]
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    folder: Path | None

    def __repr__(self) -> str:
        names = ", ".join(shortened(each.name for each in self.contenders))
        return f"Comparison({len(self.paths):,} {self.split} images, {len(self.classes)} classes: {names})"

    def changes(self, pair: PairComparison) -> Iterator[ChangedImage]:
        """Yield the fixed images of `pair`, then the broken images, the largest change of the loss first."""
        predictions = {each.name: each.entrant.predictions for each in self.contenders}
        for rows, fixed in ((pair.fixed, True), (pair.broken, False)):
            for row in rows:
                first, second = (
                    (self.classes[predictions[name].predicted[row]], float(predictions[name].probability[row]))
                    for name in (pair.first, pair.second)
                )
                yield ChangedImage(self.paths[row], self.classes[self.labels[row]], first, second, fixed)

    def to_dict(self) -> dict[str, Any]:
        """Return the object of compare.json, strictly valid JSON."""
        return {
            "split": self.split,
            "data": self.data,
            "n": len(self.paths),
            "units": self.units,
            "classes": list(self.classes),
            "confidence": CONFIDENCE,
            "significance": round(SIGNIFICANCE, 12),
            "power": POWER,
            "runs": [each.to_dict() for each in self.contenders],
            "pairs": [{**pair.to_dict(), "verdict": verdict(pair), "changes": self._changes(pair)} for pair in self.pairs],
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "notes": list(self.notes),
        }

    def _changes(self, pair: PairComparison) -> list[dict[str, object]]:
        return [{key: value for key, value in change.row(pair).items() if key not in {"first", "second"}} for change in self.changes(pair)]
