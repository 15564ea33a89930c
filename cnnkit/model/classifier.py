"""The interface of a trained model: decoded images to class probabilities, from a model file or an exported file.

Evaluation, prediction and the parity check use a `Classifier`; they do not know whether torch or an exported file computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules


class Classifier(Protocol):
    """Whatever maps decoded images to class probabilities."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the probabilities."""
        ...

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map decoded RGB images, uint8 (H, W, 3) of any and differing sizes, to probabilities (N, K) float32."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A classifier whose file also says when not to answer, and how images become what it looks at; formats may leave that out."""

    @property
    def rules(self) -> Rules:
        """The rules of the file."""
        ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How a decoded image becomes a canvas; None if the file does not say."""
        ...


def rules_of(classifier: Classifier) -> Rules:
    """Return the rules that came with a classifier: none at all where its format keeps none."""
    return classifier.rules if isinstance(classifier, Limited) else Rules()
