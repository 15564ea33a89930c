"""The one model of a server: its file, its name and its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.predict import Prediction, apply_rules
from cnnkit.api.inference.target import ModelName, Target, find_target
from cnnkit.errors import ModelFileError, shell_line
from cnnkit.exporters.opening import is_exported, open_classifier
from cnnkit.exporters.session_classifier import MAX_BATCH_PIXELS, SessionClassifier, max_canvases
from cnnkit.files import check_file
from cnnkit.model.classifier import CanvasClassifier, draft_side_of, rules_of


def find_served(model: ModelName) -> Target:
    """Return the exported file of `model`: itself, or ``export/model.onnx`` of a run; raise `ModelFileError` with the command for it."""
    target = find_target(model)
    if is_exported(target.path):
        return target
    if target.run is None or target.path.suffix != target.run.best.suffix:  # a file of another format is no run
        command = shell_line(["cnnkit", "export", "--onnx", "--model", str(target.path), "--out", "model.onnx"])
        raise ModelFileError(f"--model {target.path}: cnnkit serve takes an exported file; write one with: {command}")
    path = target.run.export / "model.onnx"
    if not path.is_file():
        command = shell_line(["cnnkit", "export", "--onnx", "--model", str(target.run.path)])
        raise ModelFileError(f"{target.run.path}: the run has no export/model.onnx; write it with: {command}")
    check_file(path)
    return Target(path, target.run, target.chosen)


class ServedModel:
    """An open exported file under the name by which clients ask for it: that of its run, or of its file.

    `max_batch` is the largest number of images that the network takes together.
    """

    def __init__(self, target: Target) -> None:
        self.path: Path = target.path
        self.name = target.name
        self._classifier = open_classifier(target.path)
        self._on_canvases = self._classifier if isinstance(self._classifier, CanvasClassifier) else None
        self.classes = self._classifier.classes
        self.rules = rules_of(self._classifier)
        self.spec = self._on_canvases.canvas_spec if self._on_canvases else None
        self.draft_side = draft_side_of(self._classifier)
        self.max_batch = self._max_batch()

    def _max_batch(self) -> int:
        if self.spec is None:
            return 1
        size = self.spec.image_size
        return self._classifier.batch_of(size) if isinstance(self._classifier, SessionClassifier) else max_canvases(size)

    def max_pixels(self, megapixels: float) -> int:
        """Return the limit of an image's pixels: a network that resizes itself gets no more than it takes in a batch."""
        wanted = round(1e6 * megapixels)
        return wanted if self.spec else min(wanted, MAX_BATCH_PIXELS)

    def probabilities(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map images of `cnnkit.serve.preparation` to probabilities (N, K)."""
        if self._on_canvases is None or self.spec is None:
            return self._classifier.probabilities(prepared)
        return self._on_canvases.predict_canvases(np.stack(prepared))

    def predictions(self, probabilities: NDArray[np.float32]) -> list[Prediction]:
        """Return the predictions for rows of probabilities (N, K), by the rules of the file."""
        return list(apply_rules(probabilities, self.classes, self.rules))
