"""The mean loss of a batch: cross-entropy, or the loss of another package with the same weights and the same mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.engine.custom import LossTerms

Criterion = Callable[[Tensor, Tensor], Tensor]


def make_criterion(loss: LossTerms | None, class_weights: Tensor | None, label_smoothing: float, device: torch.device) -> Criterion:
    """Return the mean loss as a function of logits (n, K) and labels: class indices (n,), or shares of the classes (n, K).

    Without a `loss` it is the cross-entropy of torch. `class_weights` (K,) and `label_smoothing` have the meaning of torch's
    cross-entropy for every loss.
    """
    if loss is None:
        return nn.CrossEntropyLoss(weight=class_weights, label_smoothing=label_smoothing).to(device)
    return _MeanLoss(loss, None if class_weights is None else class_weights.to(device), label_smoothing)


class _MeanLoss:
    """The mean of a loss over the images of a batch, weighted by the class."""

    def __init__(self, loss: LossTerms, class_weights: Tensor | None, label_smoothing: float) -> None:
        self._loss = loss
        self._weights = class_weights
        self._smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, divided as torch's cross-entropy does: by the images, or by the sum of the weights of their classes."""
        classes = logits.shape[1]
        shares = functional.one_hot(labels, classes).to(logits) if labels.ndim == 1 else labels
        targets = shares * (1 - self._smoothing) + self._smoothing / classes if self._smoothing else shares
        losses = self._loss(logits, targets)
        if self._weights is None:
            return losses.sum() / len(labels)
        weighted = losses * (self._weights if losses.ndim > 1 else shares @ self._weights)
        return weighted.sum() / (self._weights[labels].sum() if labels.ndim == 1 else len(labels))
