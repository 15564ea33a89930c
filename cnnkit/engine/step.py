"""One update of the weights: what the training loop and the learning-rate range test both make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.replicas import Replicas
from cnnkit.engine.runtime import Runtime


class Step:
    """Gradients of one or more batches, then the update by `optimizer`, as `config` and `runtime` say."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, config: OptimConfig, runtime: Runtime, class_weights: Tensor | None
    ) -> None:
        self._model = model
        self._network = runtime.compile(model)
        self._optimizer = optimizer
        self._clip_grad = config.clip_grad
        self._runtime = runtime
        self._class_weights = class_weights
        self._criterion = nn.CrossEntropyLoss(weight=class_weights, label_smoothing=config.label_smoothing).to(runtime.device)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self._replicas = Replicas(model, runtime.replicas, runtime.threads) if runtime.replicas > 1 else None

    def gradients(self, group: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Work out the gradients of the mean loss of a group of batches, yielding (loss, logits (n, K), labels) of each, detached."""
        self._optimizer.zero_grad(set_to_none=True)
        for images, labels in group:
            if self._replicas is None:
                loss, logits = self._forward(self._network, images, labels)
                self._scaler.scale(loss / len(group)).backward()
            else:
                loss, logits = self._divided(self._replicas, images, labels, len(group))
            yield loss.detach(), logits.detach(), labels

    def update(self) -> None:
        """Change the weights by the gradients."""
        if self._clip_grad:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _forward(self, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits."""
        with self._runtime.autocast():
            logits = network(self._runtime.laid_out(images))
        return self._criterion(logits.float(), labels), logits

    def _divided(self, replicas: Replicas, images: Tensor, labels: Tensor, batches: int) -> tuple[Tensor, Tensor]:
        """Work out the gradients of a batch, 1 / `batches` of them, a part on each replica; returns the mean loss and the logits."""
        whole = self._weight(labels)

        def share(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            loss, logits = self._forward(network, images, labels)
            return loss * (self._weight(labels) / whole / batches), logits

        loss, logits = replicas.gradients(images, labels, share)
        return loss * batches, logits

    def _weight(self, labels: Tensor) -> float:
        """What the mean loss of images with these labels is divided by: how many they are, or the sum of the classes' weights."""
        if self._class_weights is None or labels.ndim > 1:
            return len(labels)
        return float(self._class_weights[labels].sum())
