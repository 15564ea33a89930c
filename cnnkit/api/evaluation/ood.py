"""Images of another kind, shown to a model on purpose: what it makes of them, file by file and in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.predict import Prediction, image_paths, predictions
from cnnkit.data.store.scan import Progress
from cnnkit.errors import DataError
from cnnkit.files import write_csv
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.ood import OodReport, ood_report
from cnnkit.model.classifier import Classifier


@dataclass(frozen=True)
class OodEvaluation:
    """The figures, and one answer per file, abstained or not by the report's threshold."""

    report: OodReport
    answers: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``ood`` of metrics.json."""
        unreadable = [{"path": answer.path, "error": answer.error} for answer in self.answers if answer.error]
        return {**self.report.to_dict(), "unreadable": unreadable}

    def write(self, path: Path) -> None:
        """Write ood.csv: the columns of ``predict --out``."""
        columns = ("path", "predicted", "probability", "abstained", "error")
        rows = [{**answer.row(), "abstained": str(answer.abstained).lower()} for answer in self.answers]
        write_csv(path, columns, [{column: row[column] for column in columns} for row in rows])


def ood_files(folder: str | Path) -> list[Path]:
    """Return the images in and below `folder`; raises `DataError` if there is none."""
    if not Path(folder).is_dir():
        raise DataError(f"--ood {folder}: no such folder; name a folder of images that are of none of the model's classes")
    return image_paths([folder])


def evaluate_ood(
    classifier: Classifier, files: Sequence[Path], top: NDArray[np.floating[Any]], rule: Abstention | None, progress: Progress | None = None
) -> OodEvaluation:
    """Show a classifier `files`, images of another kind, and compare with `top` (N,), its top probabilities on its own images.

    The threshold is that of `rule`, if there is one. Raises `DataError` if no file can be read.
    """
    answers: list[Prediction] = []
    for answer in predictions(classifier, files):
        answers.append(answer)
        if progress:
            progress(len(answers), len(files))
    tops = [share for answer in answers for _, share in answer.top(1)]
    if not tops:
        raise DataError(f"--ood: not one of {len(files)} images can be read, such as {answers[0].path}: {answers[0].error}")
    report = ood_report(top, tops, rule.threshold if rule else None)
    return OodEvaluation(report, tuple(_judged(answer, report.threshold) for answer in answers))


def _judged(answer: Prediction, threshold: float) -> Prediction:
    """Mark an answer that is less sure than `threshold`."""
    return replace(answer, abstained=any(share < threshold for _, share in answer.top(1)))
