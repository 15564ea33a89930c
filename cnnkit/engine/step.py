"""One update of the weights: what the training loop and the learning-rate range test both make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from cnnkit.config import OptimConfig
from cnnkit.engine.runtime import Runtime


class Step:
    """Gradients of one or more batches, then the update by `optimizer`, as `config` and `runtime` say."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, config: OptimConfig, runtime: Runtime, class_weights: Tensor | None
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._clip_grad = config.clip_grad
        self._runtime = runtime
        self._criterion = nn.CrossEntropyLoss(weight=class_weights, label_smoothing=config.label_smoothing).to(runtime.device)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")

    def gradients(self, group: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Work out the gradients of the mean loss of a group of batches, yielding (loss, logits (n, K), labels) of each, detached."""
        self._optimizer.zero_grad(set_to_none=True)
        for images, labels in group:
            with self._runtime.autocast():
                logits = self._model(self._runtime.laid_out(images))
            loss = self._criterion(logits.float(), labels)
            self._scaler.scale(loss / len(group)).backward()
            yield loss.detach(), logits.detach(), labels

    def update(self) -> None:
        """Change the weights by the gradients."""
        if self._clip_grad:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()
