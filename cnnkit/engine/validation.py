"""Validation: one pass over a split in eval mode, after an epoch of the training loop or with a loaded model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.engine.runtime import Runtime
from cnnkit.metrics.counts import confusion_counts


@dataclass(frozen=True, eq=False)
class Validation:
    """The score of a model on a split: mean loss in nats, confusion counts (K, K), and the logits and labels behind them.

    `logits` (N, K) float32 and `labels` (N,) are in the order of the batches. With several ranks they are whole on rank 0; another rank
    has those of its own part.
    """

    loss: float
    table: NDArray[np.int64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


def validate(model: nn.Module, batches: BatchSource, runtime: Runtime, num_classes: int, ranks: Ranks = ONE) -> Validation:
    """Return the score of `model` in eval mode on one pass over `batches`: sums over all images of all ranks, then one division."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device="cpu" if runtime.device.type == "mps" else runtime.device)
    kept = _LogitBuffer(num_classes, runtime.device)
    with torch.inference_mode():
        for images, labels in batches.epoch(0):
            if not len(labels):  # there are fewer images than ranks
                continue
            logits = model(runtime.to_memory_format(images)).float()
            loss += functional.cross_entropy(logits, labels, reduction="sum").to(loss)
            kept.add(logits, labels)
    logits, labels = kept.arrays()
    table = confusion_counts(labels, logits.argmax(1), num_classes)
    if not ranks.several:
        return Validation(loss.item() / len(labels), table, logits, labels)
    counts, totals = torch.from_numpy(table), torch.tensor([loss.item(), len(labels)], dtype=torch.float64)
    ranks.sum([counts, totals])
    total, images = totals.tolist()
    return Validation(total / images, counts.numpy(), ranks.joined(logits), ranks.joined(labels))


def validation_of(logits: Tensor, labels: Tensor, num_classes: int) -> Validation:
    """Return the score of `logits` (N, K) for `labels` (N,)."""
    loss = functional.cross_entropy(logits, labels).item()
    known, predicted = labels.cpu().numpy(), logits.argmax(1).cpu().numpy()
    return Validation(loss, confusion_counts(known, predicted, num_classes), logits.cpu().numpy(), known)


class _LogitBuffer:
    """A growing buffer of logits (n, K) and labels (n,) on a device; many small tensors instead would fragment the memory.

    The host reads it once, at the end, so that adding a batch does not wait for a GPU.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._images = 0
        self._logits = torch.empty((0, num_classes), device=device)
        self._labels = torch.empty(0, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        end = self._images + len(labels)
        if end > len(self._labels):
            capacity = max(end, 2 * len(self._labels))
            self._logits = _grown(self._logits, capacity)
            self._labels = _grown(self._labels, capacity)
        self._logits[self._images : end] = logits
        self._labels[self._images : end] = labels
        self._images = end

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the logits and the labels on the host."""
        return self._logits[: self._images].cpu().numpy(), self._labels[: self._images].cpu().numpy()


def _grown(values: Tensor, capacity: int) -> Tensor:
    """Return a tensor of `capacity` rows that begins with `values`."""
    grown = values.new_empty((capacity, *values.shape[1:]))
    grown[: len(values)] = values
    return grown
