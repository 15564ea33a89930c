"""One update of the weights, as the training loop and the learning-rate range test make it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.criterion import make_criterion
from cnnkit.engine.custom import LossTerms
from cnnkit.engine.replicas import Replicas
from cnnkit.engine.runtime import Runtime


def keep_norm_statistics(model: nn.Module) -> None:
    """Put batch normalisation into eval mode, so that it uses and keeps its statistics; the rest of `model` stays in its mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm):
            module.eval()


class Step:
    """One optimizer update: the gradients of one or more batches, then the change of the weights."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: OptimConfig,
        runtime: Runtime,
        class_weights: Tensor | None,
        loss: LossTerms | None = None,
        scaler_state: dict[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._network = runtime.compile(model)
        self._optimizer = optimizer
        self._clip_grad = config.clip_grad
        self._runtime = runtime
        self._class_weights = None if class_weights is None else class_weights.to(runtime.device)
        self._criterion = make_criterion(loss, class_weights, config.label_smoothing, runtime.device)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        if scaler_state:
            self._scaler.load_state_dict(scaler_state)
        self._replicas = Replicas(model, runtime.replicas, runtime.threads) if runtime.replicas > 1 else None

    def gradients(self, group: Sequence[tuple[Tensor, Tensor]], parts: int = 1) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Compute the gradients of the mean loss of a group of batches; yield each batch's loss, logits (n, K) and labels, detached.

        Each batch passes the network in `parts` parts, which need less memory; the sum of their gradients is that of the batch.
        """
        self._optimizer.zero_grad(set_to_none=True)
        for images, labels in group:
            if parts == 1:
                loss, logits = self._backward(images, labels, 1.0, len(group))
            else:
                loss, logits = self._backward_in_parts(images, labels, min(parts, len(labels)), len(group))
            yield loss, logits, labels

    def update(self) -> None:
        """Update the weights by the gradients, which ``config.clip_grad`` limits."""
        if self._clip_grad:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def scaler_state(self) -> dict[str, Any]:
        """Return the scale of the loss in fp16 and its history, for a resume; it is empty in every other precision."""
        return self._scaler.state_dict()

    def _backward(self, images: Tensor, labels: Tensor, share: float, batches: int) -> tuple[Tensor, Tensor]:
        """Add `share` / `batches` of the gradients of the mean loss; return this share of the loss, and the logits, both detached."""
        if self._replicas is not None:
            return self._backward_on_replicas(self._replicas, images, labels, share, batches)
        loss, logits = self._forward(self._network, images, labels)
        loss = loss * share if share < 1 else loss
        self._scaler.scale(loss / batches).backward()
        return loss.detach(), logits.detach()

    def _backward_in_parts(self, images: Tensor, labels: Tensor, parts: int, batches: int) -> tuple[Tensor, Tensor]:
        """Add 1 / `batches` of the gradients of a batch, part by part; return the mean loss and the logits."""
        total_weight = self._total_weight(labels)
        done = [
            self._backward(part, own, self._total_weight(own) / total_weight, batches)
            for part, own in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
        ]
        losses, logits = zip(*done, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    def _forward(self, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits."""
        with self._runtime.autocast():
            logits = network(self._runtime.to_memory_format(images))
        return self._criterion(logits.float(), labels), logits

    def _backward_on_replicas(
        self, replicas: Replicas, images: Tensor, labels: Tensor, share: float, batches: int
    ) -> tuple[Tensor, Tensor]:
        """Do the work of `_backward` with a part of the images on each replica."""
        total_weight = self._total_weight(labels)

        def part_loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            loss, logits = self._forward(network, images, labels)
            return loss * (self._total_weight(labels) / total_weight * share / batches), logits

        loss, logits = replicas.gradients(images, labels, part_loss)
        return loss * batches, logits

    def _total_weight(self, labels: Tensor) -> float:
        """Return the divisor of the mean loss of these images: their number, or the sum of their class weights."""
        if self._class_weights is None or labels.ndim > 1:
            return len(labels)
        return float(self._class_weights[labels].sum())
