"""One pass over a split in eval mode: what the loop learns of val after an epoch, and others of a model they have loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.runtime import Runtime
from cnnkit.metrics.counts import confusion_counts


@dataclass(frozen=True, eq=False)
class Validation:
    """What a model scored on a split: the mean loss in nats, the confusion counts (K, K), and what they come from.

    `logits` (N, K) float32 and `labels` (N,) are on the CPU, in the order of the batches.
    """

    loss: float
    table: NDArray[np.int64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


def validate(model: nn.Module, batches: BatchSource, runtime: Runtime, num_classes: int) -> Validation:
    """Return what `model` in eval mode scores on one pass over `batches`: sums, then one division."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device="cpu" if runtime.device.type == "mps" else runtime.device)
    kept = _Answers(num_classes)
    with torch.inference_mode():
        for images, labels in batches.epoch(0):
            logits = model(runtime.laid_out(images)).float()
            loss += functional.cross_entropy(logits, labels, reduction="sum").to(loss)
            kept.add(logits, labels)
    table = confusion_counts(kept.labels, kept.predicted, num_classes)
    return Validation(loss.item() / len(kept.labels), table, kept.logits, kept.labels)


class _Answers:
    """The logits (n, K) and labels of batches put below each other, in few large arrays: small ones would scatter the heap."""

    def __init__(self, num_classes: int) -> None:
        self._images = 0
        self._logits = np.empty((0, num_classes), np.float32)
        self._labels = np.empty(0, np.int64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        end = self._images + len(labels)
        if end > len(self._labels):
            room = max(end, 2 * len(self._labels))
            self._logits = np.resize(self._logits, (room, self._logits.shape[1]))
            self._labels = np.resize(self._labels, room)
        self._logits[self._images : end] = logits.cpu().numpy()
        self._labels[self._images : end] = labels.cpu().numpy()
        self._images = end

    @property
    def logits(self) -> NDArray[np.float32]:
        return self._logits[: self._images]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels[: self._images]

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.logits.argmax(1)
