"""While a model answers, an eye on what it is shown: do the images still look like those it was trained for?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.data.appearance import appearance, features
from cnnkit.metrics.drift import MIN_IMAGES, Drift, Fingerprint, compare, fingerprint
from cnnkit.model.classifier import Classifier, ClassifierWithRules
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.torch_classifier import TorchClassifier

CONFIDENCE = "confidence"  # the feature beside those of the image: the top probability


def take_fingerprint(looks: NDArray[np.float32], probabilities: NDArray[np.float32], *, split: str) -> Fingerprint:
    """Return the fingerprint of images whose `appearance` is `looks` (N, F) and to which a model answered `probabilities` (N, K)."""
    names = (*features(3 if looks.shape[1] == len(features(3)) else 1), CONFIDENCE)
    return fingerprint(names, _with_confidence(looks, probabilities), probabilities.argmax(1), probabilities.shape[1], split=split)


class DriftWatch:
    """Sees every image that a classifier answers, and compares them at the end with the fingerprint of its file."""

    def __init__(self) -> None:
        self._known: Fingerprint | None = None
        self._looks: list[NDArray[np.float32]] = []
        self._predicted: list[NDArray[np.int64]] = []

    def answers(self, classifier: Classifier, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probabilities (N, K) of decoded images, N > 0, and remember how these look."""
        if not isinstance(classifier, ClassifierWithRules) or classifier.rules.fingerprint is None or classifier.preprocessing is None:
            return classifier.probabilities(images)
        self._known = classifier.rules.fingerprint
        if isinstance(classifier, TorchClassifier):  # one preprocessing serves both
            canvases = classifier.canvases(images)
            probabilities = classifier.canvas_probabilities(canvases)
        else:
            canvases = Preprocess(classifier.preprocessing).canvases(images)
            probabilities = classifier.probabilities(images)
        for part, chances in zip(canvases.split(64), torch.from_numpy(probabilities).split(64), strict=True):
            self._looks.append(_with_confidence(appearance(part.numpy()), chances.numpy()))
        self._predicted.append(probabilities.argmax(1))
        return probabilities

    def result(self) -> Drift | None:
        """Compare; None if the file has no fingerprint, or too few images were seen to tell."""
        if self._known is None or sum(map(len, self._predicted)) < MIN_IMAGES:
            return None
        return compare(self._known, np.concatenate(self._looks), np.concatenate(self._predicted))


def _with_confidence(looks: NDArray[np.float32], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([looks, probabilities.max(1, keepdims=True)], axis=1)
