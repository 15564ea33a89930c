"""The interface of a trained model, which maps decoded images to class probabilities.

Evaluation, prediction and the parity check use a `Classifier`, so they do not depend on torch or on an export format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules


class Classifier(Protocol):
    """A trained model or an exported file, which maps decoded images to class probabilities."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the probabilities."""
        ...

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map decoded RGB images, uint8 (H, W, 3) of any and differing sizes, to probabilities (N, K) float32."""
        ...


@runtime_checkable
class ClassifierWithRules(Protocol):
    """A classifier whose file also holds rules and preprocessing; an export format may lack both."""

    @property
    def rules(self) -> Rules:
        """The rules of the file."""
        ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing of decoded images to canvases; None if the file lacks it."""
        ...


@runtime_checkable
class CanvasClassifier(Protocol):
    """A classifier that also takes canvases, so that a photograph is resized as soon as it is decoded."""

    @property
    def canvas_spec(self) -> Preprocessing | None:
        """The preprocessing of the canvases; None if this file takes decoded images alone."""
        ...

    def predict_canvases(self, canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), to probabilities (N, K) float32, as `Classifier.probabilities` maps their images."""
        ...


def draft_side_of(classifier: Classifier) -> int | None:
    """Return the `draft_side` of the preprocessing in the file of `classifier`; None if JPEGs are decoded whole."""
    preprocessing = classifier.preprocessing if isinstance(classifier, ClassifierWithRules) else None
    return preprocessing.draft_side if preprocessing else None


def rules_of(classifier: Classifier) -> Rules:
    """Return the rules in the file of `classifier`, or empty rules if its format has none."""
    return classifier.rules if isinstance(classifier, ClassifierWithRules) else Rules()
