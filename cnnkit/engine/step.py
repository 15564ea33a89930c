"""One update of the weights, as the training loop and the learning-rate range test make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.criterion import make_criterion
from cnnkit.engine.custom import LossTerms
from cnnkit.engine.ranks import ONE, Ranks, SharedClock
from cnnkit.engine.replicas import Replicas
from cnnkit.engine.runtime import Runtime


def keep_norm_statistics(model: nn.Module) -> None:
    """Put batch normalisation into eval mode, so that it uses and keeps its statistics; the rest of `model` stays in its mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm):
            module.eval()


class Weights(NamedTuple):
    """The share of this rank in the mean loss of each batch of a step, and the number of images of each batch on all ranks."""

    shares: list[float]
    images: list[int]


class BatchTotal(NamedTuple):
    """A batch of a step on all ranks: the mean `loss`, the number of `correct` predictions and the number of `images`."""

    loss: Tensor
    correct: Tensor
    images: int


def class_indices(labels: Tensor) -> Tensor:
    """Return the class index of each image (n,); mixed images have probabilities (n, K), of which the largest counts."""
    return labels if labels.ndim == 1 else labels.argmax(1)


class CompiledNetwork:
    """The network `model` compiled by torch.compile for batches of one shape; others pass it uncompiled, as they would compile it again.

    `shape` (N, C, H, W) is by default that of the first batch. While `paused`, all batches pass the network uncompiled.
    """

    def __init__(self, model: nn.Module, mode: str, shape: tuple[int, ...] | None = None) -> None:
        self._model = model
        self._compiled: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False, mode=mode)
        self._has_graphs = mode == "reduce-overhead"
        self._shape = shape
        self.paused = False

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits (n, K)."""
        self._shape = self._shape or tuple(images.shape)
        if self.paused or images.shape != self._shape:
            return self._model(images)
        if not self._has_graphs:
            return self._compiled(images)
        torch.compiler.cudagraph_mark_step_begin()
        return self._compiled(images).clone()  # the next call writes over its outputs


class Step:
    """One optimizer update: the gradients of one or more batches, then the change of the weights.

    With several `ranks`, each of them has a part of every batch. `weigh` comes before `gradients`, and `join` after them. If `runtime`
    compiles the network, it does so for batches (N, C, H, W) of `compiled_shape`, by default that of the first batch.
    """

    def __init__(  # noqa: PLR0913 (values flow, not namespaces)
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: OptimConfig,
        runtime: Runtime,
        class_weights: Tensor | None,
        loss: LossTerms | None = None,
        *,
        scaler_state: dict[str, Any] | None = None,
        ranks: Ranks = ONE,
        compiled_shape: tuple[int, ...] | None = None,
    ) -> None:
        self._model = model
        self._ranks = ranks
        self._statistics: list[Tensor] = []  # before the step
        # The graphs of a GPU keep their outputs until the next call, and the gradients of several batches need them for longer.
        mode = "reduce-overhead" if runtime.device.type == "cuda" and config.accumulate == 1 else "default"
        self._compiled = CompiledNetwork(model, mode, compiled_shape) if runtime.compiled else None
        self._optimizer = optimizer
        self._clip_grad = config.clip_grad
        self._runtime = runtime
        self._class_weights = None if class_weights is None else class_weights.to(runtime.device)
        self._criterion = make_criterion(loss, class_weights, config.label_smoothing, runtime.device)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        if scaler_state:
            self._scaler.load_state_dict(scaler_state)
        self._replicas = Replicas(model, runtime.replicas, runtime.threads) if runtime.replicas > 1 else None

    def weigh(self, group: Sequence[tuple[Tensor, Tensor]], clock: SharedClock | None = None) -> Weights:
        """Return the weights of this rank's parts of a group of batches; with several ranks, agree on a reading of `clock` too."""
        sizes = [len(labels) for _, labels in group]
        if not self._ranks.several:
            return Weights([1.0] * len(group), sizes)
        own = [self._total_weight(labels) for _, labels in group]
        reading = clock.own_reading() if clock is not None else 0.0
        agreed, *totals = self._ranks.totals([reading, *sizes, *own])
        if clock is not None:
            clock.set(agreed)
        self._statistics = [buffer.clone() for buffer in self._float_buffers()]
        images, weights = totals[: len(group)], totals[len(group) :]
        return Weights([mine / total for mine, total in zip(own, weights, strict=True)], [int(number) for number in images])

    def gradients(
        self, group: Sequence[tuple[Tensor, Tensor]], parts: int = 1, shares: Sequence[float] | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Compute the gradients of the mean loss of a group of batches; yield each batch's loss, logits (n, K) and labels, detached.

        Each batch passes the network in `parts` parts, which need less memory; the sum of their gradients is that of the batch. `shares`
        are those of this rank in the mean losses; the loss is then this share of it.
        """
        self._optimizer.zero_grad(set_to_none=True)
        for (images, labels), share in zip(group, shares or [1.0] * len(group), strict=True):
            if parts == 1:
                loss, logits = self._backward(images, labels, share, len(group))
            else:
                loss, logits = self._backward_in_parts(images, labels, min(parts, len(labels)), share, len(group))
            yield loss, logits, labels

    def join(self, done: Sequence[tuple[Tensor, Tensor, Tensor]], weights: Weights) -> list[BatchTotal]:
        """Add up the gradients of all ranks, average the statistics of batch normalisation, and return the batches of the step.

        `done` is the result of `gradients` on this rank.
        """
        losses = [loss for loss, _, _ in done]
        correct = [(logits.argmax(1) == class_indices(labels)).sum() for _, logits, labels in done]
        if self._ranks.several:
            scores = torch.stack([*losses, *(count.to(losses[0]) for count in correct)])
            self._sum_over_ranks(scores)
            losses, correct = list(scores[: len(done)]), [count.long() for count in scores[len(done) :]]
        return [BatchTotal(*batch) for batch in zip(losses, correct, weights.images, strict=True)]

    def update(self) -> None:
        """Update the weights by the gradients, which ``config.clip_grad`` limits."""
        if self._clip_grad:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def pause_compiled(self, *, paused: bool) -> None:
        """Compute with the uncompiled network while `paused`: frozen parameters would compile it once more."""
        if self._compiled is not None:
            self._compiled.paused = paused

    def scaler_state(self) -> dict[str, Any]:
        """Return the scale of the loss in fp16 and its history, for a resume; it is empty in every other precision."""
        return self._scaler.state_dict()

    def _backward(self, images: Tensor, labels: Tensor, share: float, batches: int) -> tuple[Tensor, Tensor]:
        """Add `share` / `batches` of the gradients of the mean loss; return this share of the loss, and the logits, both detached."""
        if self._replicas is not None:
            return self._backward_on_replicas(self._replicas, images, labels, share, batches)
        loss, logits = self._forward(self._compiled or self._model, images, labels)
        loss = loss * share if share < 1 else loss
        self._scaler.scale(loss / batches).backward()
        return loss.detach(), logits.detach()

    @torch.no_grad()
    def _sum_over_ranks(self, scores: Tensor) -> None:
        """Replace gradients and `scores` by their sums over the ranks, and each statistic by the mean of its changes on the ranks.

        A parameter that no rank has used keeps no gradient.
        """
        learning = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        unused = [parameter for parameter in learning if parameter.grad is None]
        uses = torch.tensor([float(parameter.grad is not None) for parameter in learning], device=scores.device)
        for parameter in unused:
            parameter.grad = torch.zeros_like(parameter)
        changes = [(now - before).nan_to_num(nan=0.0) for now, before in zip(self._float_buffers(), self._statistics, strict=True)]
        self._ranks.sum([*(parameter.grad for parameter in learning if parameter.grad is not None), uses, *changes, scores])
        for buffer, before, change in zip(self._float_buffers(), self._statistics, changes, strict=True):
            buffer.copy_(before + change / self._ranks.world)
        if unused:  # only now, since the numbers would wait for the device
            counts = dict(zip(map(id, learning), uses.tolist(), strict=True))
            for parameter in unused:
                if not counts[id(parameter)]:
                    parameter.grad = None

    def _float_buffers(self) -> list[Tensor]:
        """Return the buffers that may be statistics; they are read at every step, since a module may replace a buffer's tensor."""
        return [buffer for buffer in self._model.buffers() if buffer.is_floating_point()]

    def _backward_in_parts(self, images: Tensor, labels: Tensor, parts: int, share: float, batches: int) -> tuple[Tensor, Tensor]:
        """Add `share` / `batches` of the gradients of a batch, part by part; return this share of the mean loss, and the logits."""
        total_weight = self._total_weight(labels)
        done = [
            self._backward(part, own, share * (self._total_weight(own) / total_weight), batches)
            for part, own in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
        ]
        losses, logits = zip(*done, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    def _forward(self, network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
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
        return float(self._class_weights[labels.to(self._class_weights.device)].sum())
