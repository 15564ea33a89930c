"""The result of an evaluation: the report, the predictions behind it and the facts about the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.evaluation.identity import Images
from cnnkit.api.evaluation.ood import OodEvaluation
from cnnkit.api.evaluation.trained_images import Lookup
from cnnkit.api.inference.target import Target
from cnnkit.errors import CheckFailedError
from cnnkit.files import fingerprint
from cnnkit.metrics.classification import ClassificationReport
from cnnkit.metrics.confusion import Normalize, normalized
from cnnkit.metrics.named_score import NamedScore
from cnnkit.metrics.selective import SelectiveReport
from cnnkit.metrics.temperature_effect import TemperatureEffect
from cnnkit.metrics.units import Units
from cnnkit.model.tta import PLAIN_VIEW, Views
from cnnkit.run_dir import StoredMetrics


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The result of a model on N labelled images: the report, the predictions behind it and the folder of the files (None: not written).

    `probabilities` is (N, K) float32, `labels` (N,) int64, both in the order of `paths`, as are the `units` of the images. `bad` lists the
    unreadable images, each with the reason. `selective` holds risk against coverage, `effect` the effect of the model's temperature on its
    probabilities, `ood` the result on out-of-distribution images. `opened` counts the evaluations of the run's test split, this one
    included; 0 for other images. `scores` are those of the metrics of other packages. `views` are the views of every image that the
    probabilities are the mean of. `normalize` is that of the confusion matrix. `images` is the identity of the images. `lookup` counts the
    images of other data that the model was trained on, and `left_out` lists those that are not measured.
    """

    target: Target
    report: ClassificationReport
    paths: tuple[str, ...]
    units: Units
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    bad: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    folder: Path | None
    selective: SelectiveReport
    effect: TemperatureEffect
    ood: OodEvaluation | None = None
    opened: int = 0
    views: Views = PLAIN_VIEW
    normalize: Normalize = "none"
    images: Images | None = None
    lookup: Lookup | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    scores: tuple[NamedScore, ...] = ()

    def __repr__(self) -> str:
        report = self.report
        files = f", files {str(self.folder)!r}" if self.folder else ""
        return f"Evaluation({str(self.target.path)!r}, {report.summary}{files})"

    def _repr_html_(self) -> str:
        from cnnkit.report.page.notebook import report_html

        return report_html(self.report, self.scores)

    @property
    def heading(self) -> str:
        """The line above the figures, which names the views; empty for plain images."""
        return "" if self.views == PLAIN_VIEW else str(self.views)

    @property
    def model_name(self) -> str:
        """The name of the run, or of the model file if it belongs to no run or was exported."""
        run, file = self.target.run, self.target.path
        if run is None:
            return file.name
        return run.name if file == run.best else f"{run.name}/{file.name}"

    def to_dict(self, *, confusion: bool = False) -> dict[str, Any]:
        """Return the figures of metrics.json; with `confusion`, the object that ``eval --json`` prints."""
        tta = {} if self.views == PLAIN_VIEW else {"tta": self.views.to_dict()}
        ood = {"ood": self.ood.to_dict()} if self.ood else {}
        shares = normalized(self.report.confusion, self.normalize).tolist()
        shown = {"normalize": self.normalize, "confusion_normalized": shares} if confusion and self.normalize != "none" else {}
        metrics = {"metrics": {score.text: score.to_dict() for score in self.scores}} if self.scores else {}
        lookup = {"lookup": self.lookup.to_dict()} if self.lookup else {}
        return {
            "format": StoredMetrics.newest_format,
            **self.report.to_dict(confusion=confusion),
            **shown,
            "calibration": self.effect.to_dict(),
            **self.selective.to_dict(),
            **ood,
            **tta,
            **lookup,
            **metrics,
        }

    def to_metrics(self) -> StoredMetrics:
        """Return the content of metrics.json: the figures, the model file by its SHA-256, and the unreadable images."""
        model = {"file": self.target.path.name, "sha256": fingerprint(self.target.path)}
        unreadable = [{"path": path, "error": error} for path, error in self.bad]
        opened = {"opened": self.opened} if self.opened else {}
        images = {}
        if self.images and (self.images.data or self.images.classes):
            data = {"source": self.images.data, "sha256": self.images.sha256} if self.images.data else {}
            images = {"images": {**data, "classes": list(self.images.classes)}}
        return StoredMetrics.model_validate({**self.to_dict(), **images, "model": model, "unreadable": unreadable, **opened})

    def require_accuracy(self, minimum: float) -> str:
        """Return a sentence that compares the accuracy with `minimum`, in [0, 1]; raises `CheckFailedError` if it is below."""
        from cnnkit.report.terminal.numbers import images_text

        report = self.report
        accuracy = report.accuracy
        images = images_text(report.n, report.units, report.split)
        measured = f"the accuracy is {accuracy.value:.4f} (95 % interval {accuracy.low:.4f} to {accuracy.high:.4f}, {images})"
        if accuracy.value < minimum:
            raise CheckFailedError(f"{measured}; --min-accuracy asks for at least {minimum:g}")
        below = ", but the interval begins below it: other images may give less" if accuracy.low < minimum else ""
        return f"{measured}; --min-accuracy {minimum:g} is met{below}"
