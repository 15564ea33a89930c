"""Drift of the images that a model predicts: their appearance and confidence beside the fingerprint in the model's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.appearance import appearance, features
from cnnkit.errors import ModelFileError
from cnnkit.metrics.drift import MIN_IMAGES, Drift, Fingerprint, Outlier, compare, find_outliers, fingerprint
from cnnkit.model.canvas import make_canvases
from cnnkit.model.classifier import CanvasClassifier, Classifier, ClassifierWithRules

CONFIDENCE = "confidence"  # the feature that comes after those of the image: the highest probability
MAX_PIXELS = 2**18  # whose appearance is measured at once: 10 MB


def take_fingerprint(looks: NDArray[np.float32], probabilities: NDArray[np.float32], *, split: str) -> Fingerprint:
    """Return the fingerprint of the N images of `split`: `looks` (N, F) is their `appearance`, `probabilities` (N, K) their prediction."""
    names = _names(3 if looks.shape[1] == len(features(3)) else 1)
    return fingerprint(names, _with_confidence(looks, probabilities), probabilities.argmax(1), probabilities.shape[1], split=split)


def check_fingerprint(classifier: Classifier, path: Path) -> None:
    """Raise `ModelFileError` if the fingerprint in the file `path` of `classifier` has other features than `take_fingerprint` takes."""
    if not isinstance(classifier, ClassifierWithRules) or classifier.rules.fingerprint is None or classifier.preprocessing is None:
        return
    found, expected = classifier.rules.fingerprint.features, _names(classifier.preprocessing.channels)
    if found != expected:
        raise ModelFileError(
            f"{path}: its fingerprint has the features {', '.join(found)!r:.100}; expected {', '.join(expected)}; restore the file from a "
            "copy, or train again"
        )


class DriftWatch:
    """A record of every image that a classifier predicts, compared at the end with the fingerprint of the classifier's file."""

    def __init__(self) -> None:
        self._known: Fingerprint | None = None
        self._looks: list[NDArray[np.float32]] = []
        self._predicted: list[NDArray[np.int64]] = []

    def probabilities(self, classifier: Classifier, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probabilities (N, K) of decoded images, uint8 (H, W, 3) each and N > 0, and record their appearance."""
        if not isinstance(classifier, ClassifierWithRules) or classifier.rules.fingerprint is None or classifier.preprocessing is None:
            return classifier.probabilities(images)
        canvases = make_canvases(images, classifier.preprocessing)
        if isinstance(classifier, CanvasClassifier) and classifier.canvas_spec is not None:
            return self.canvas_probabilities(classifier, canvases)
        probabilities = classifier.probabilities(images)
        self._record(classifier.rules.fingerprint, canvases, probabilities)
        return probabilities

    def canvas_probabilities(self, classifier: CanvasClassifier, canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities (N, K) of canvases, uint8 (N, C, S, S) and N > 0, and record their appearance."""
        probabilities = classifier.predict_canvases(canvases)
        if isinstance(classifier, ClassifierWithRules) and classifier.rules.fingerprint is not None:
            self._record(classifier.rules.fingerprint, canvases, probabilities)
        return probabilities

    def _record(self, known: Fingerprint, canvases: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
        self._known = known
        count = max(1, MAX_PIXELS // canvases.shape[-1] ** 2)
        for start in range(0, len(canvases), count):
            part = slice(start, start + count)
            self._looks.append(_with_confidence(appearance(canvases[part]), probabilities[part]))
        self._predicted.append(probabilities.argmax(1))

    def result(self) -> Drift | None:
        """Return the comparison with the fingerprint; None if the file has none or fewer than `MIN_IMAGES` images were predicted."""
        if self._known is None or sum(map(len, self._predicted)) < MIN_IMAGES:
            return None
        return compare(self._known, np.concatenate(self._looks), np.concatenate(self._predicted))

    def outliers(self) -> list[Outlier]:
        """Return the images whose appearance is unlike that of the fingerprint, by their number among the readable ones.

        A low confidence alone is a matter of the abstention threshold. The list is empty for `MIN_IMAGES` images or more, whose
        distribution `result` compares.
        """
        if self._known is None or sum(map(len, self._predicted)) >= MIN_IMAGES:
            return []
        return find_outliers(self._known, np.concatenate(self._looks)[:, :-1])


def _names(channels: int) -> tuple[str, ...]:
    """Return the features of a fingerprint of canvases with `channels` channels."""
    return (*features(channels), CONFIDENCE)


def _with_confidence(looks: NDArray[np.float32], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append the highest probability of each image as the last column: (N, F) and (N, K) give (N, F + 1)."""
    return np.concatenate([looks, probabilities.max(1, keepdims=True)], axis=1)
