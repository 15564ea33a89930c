"""The best model of a training knows what the images looked like that chose it, and what it answered; none is asked about again."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.drift import take_fingerprint
from cnnkit.data.appearance import appearance
from cnnkit.data.batches import Batches
from cnnkit.data.source import VAL
from cnnkit.data.store.stream import gather, in_batches
from cnnkit.engine.validation import Validation
from cnnkit.metrics.temperature import softmax
from cnnkit.model.file import ModelHeader

MOST = 2000  # images: more would only tell differences below `drift.SMALLEST`


class Fingerprints:
    """Of val, `batches`, one for every model that is validated on it; of more than `MOST` images evenly spread ones.

    Val and not train: the weights are fitted to train, and the model is surer of those images than of any new ones.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._some = slice(None, None, -(-len(batches.rows) // MOST))

    def added(self, header: ModelHeader, validation: Validation) -> ModelHeader:
        """Return `header`, whose temperature is known, with the fingerprint of `validation`; with none unless all answers are finite."""
        answers = softmax(validation.logits[self._some], header.temperature).astype(np.float32)
        known = take_fingerprint(self._looks, answers, split=VAL) if np.isfinite(answers).all() else None
        return header.model_copy(update={"fingerprint": known})

    @cached_property
    def _looks(self) -> NDArray[np.float32]:
        rows = self._batches.rows[self._some]
        return np.concatenate([appearance(canvases) for canvases in gather(self._batches.canvases, in_batches(rows))])
