"""The training loop: a generator that yields one result per epoch and owns schedule, early stopping and the NaN stop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig, StopConfig
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.early_stopping import EarlyStopping
from cnnkit.engine.ema import MovingAverage
from cnnkit.engine.optim import build_optimizer, learning_rate, set_learning_rate
from cnnkit.engine.progress import Clock, choose_pace
from cnnkit.engine.progressive import resized
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step
from cnnkit.engine.validation import Validation, validate
from cnnkit.errors import TrainingStoppedError
from cnnkit.metrics.scores import accuracy, macro_f1


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave. Losses in nats per image, accuracies in [0, 1].

    `step` counts optimizer updates since the start; `lr` is the rate of the last one. The training figures are averages
    over the epoch on augmented images, while the weights changed; the validation figures are those of its end (with ``--ema``
    of the average of the weights), in fp32 without label smoothing or class weights, as `cnnkit eval` computes them; None after an
    epoch for whose evaluation a time budget had no room (`ByTime.due`). `seconds` and `images_per_second` are of training alone.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_macro_f1: float | None
    seconds: float
    images_per_second: float
    is_best: bool


@dataclass
class TrainingState:
    """What changes while training, beside the weights.

    It is all an exact resume needs: every random draw is a function of seed and epoch, the learning rate one of the step. (With
    a time budget it is one of the time `spent`, and a resumed run goes on with what is left.)
    """

    optimizer: torch.optim.Optimizer
    stopping: EarlyStopping
    average: MovingAverage | None = None
    epoch: int = 0
    step: int = 0
    spent: float = 0.0  # seconds, of a training with a time budget
    validation: Validation | None = None  # of the last epoch, if it was evaluated; no resumed training needs it

    def result(self, model: nn.Module) -> nn.Module:
        """Return what is validated and kept: the average of the weights if there is one, else `model` itself."""
        return model if self.average is None else self.average.module


def start(model: nn.Module, optim: OptimConfig, stop: StopConfig) -> TrainingState:
    """Return the state before the first epoch; `model` must already be on its device."""
    return TrainingState(
        build_optimizer(model, optim),
        EarlyStopping(stop.monitor, stop.patience, stop.min_delta),
        MovingAverage(model, optim.ema) if optim.ema else None,
    )


def fit(  # noqa: PLR0913 (values flow, not namespaces)
    model: nn.Module,
    batches: BatchSource,
    val_batches: BatchSource,
    config: OptimConfig,
    runtime: Runtime,
    state: TrainingState,
    *,
    num_classes: int,
    seed: int = 0,
    class_weights: Tensor | None = None,
    head: frozenset[str] = frozenset(),
    clock: Clock = time.perf_counter,
) -> Iterator[EpochResult]:
    """Train `model` from where `state` stands, yielding an `EpochResult` after every epoch.

    Ends after ``config.epochs``, or when ``config.budget`` seconds are over (the last epoch is then cut short), or when patience
    has run out. `head` names the parameters that train while the rest is
    frozen. Raises `TrainingStoppedError` with the step's number when the loss is no longer finite.
    """
    step = Step(model, state.optimizer, config, runtime, class_weights)
    steps = math.ceil(batches.steps / config.accumulate)
    pace = choose_pace(config, steps, validation=val_batches.steps, spent=state.spent, clock=clock)
    while not pace.over(state.epoch) and not state.stopping.exhausted:
        state.epoch += 1
        first_step = state.step + 1
        torch.manual_seed(_epoch_seed(seed, state.epoch))  # dropout: a function of the epoch, resumed or not
        frozen = head if state.epoch <= config.freeze_epochs else None
        started = clock()
        sums = _Sums(batches.steps, runtime.device)
        lr = 0.0
        _train_mode(model, state.optimizer, frozen)
        for group in _grouped(batches.epoch(state.epoch), config.accumulate):
            lr = learning_rate(state.step, pace, config)
            set_learning_rate(state.optimizer, lr)
            sized = list(resized(group, config.start_size, pace.fall(state.step)))
            for loss, logits, labels in step.gradients(sized):
                sums.add(loss, logits, hard(labels))
            state.step += 1
            if runtime.device.type == "cpu":  # elsewhere looking would wait for the device: once per epoch, below
                _stop_if_diverged(sums.losses[-len(group) :], config.accumulate, state, state.step, lr)
            step.update()
            if state.average is not None:
                state.average.update(model, state.step)
            if pace.stop(state.step):
                break
        _stop_if_diverged(sums.losses, config.accumulate, state, first_step, lr)
        train_loss, train_accuracy = sums.means()
        trained = clock()
        seconds = trained - started
        state.validation = None  # its room serves the next one
        if due := pace.due():
            state.validation = validate(state.result(model), val_batches, runtime, num_classes)
        figures = _figures(state.validation)
        score = figures[state.stopping.monitor]
        is_best = score is not None and state.stopping.update(state.epoch, score)
        state.spent = pace.spent
        yield EpochResult(
            epoch=state.epoch,
            step=state.step,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            **figures,
            seconds=seconds,
            images_per_second=sums.images / seconds if seconds else 0.0,
            is_best=is_best,
        )
        if due:
            pace.evaluated(clock() - trained)


def _figures(found: Validation | None) -> dict[str, float | None]:
    """The figures of an evaluation by their names in `EpochResult`; None for each if there was none."""
    if found is None:
        return dict.fromkeys(("val_loss", "val_accuracy", "val_macro_f1"))
    return {"val_loss": found.loss, "val_accuracy": accuracy(found.table), "val_macro_f1": macro_f1(found.table)}


def hard(labels: Tensor) -> Tensor:
    """Return the class of each image (n,): of probabilities (n, K), as mixed images have them, the largest."""
    return labels if labels.ndim == 1 else labels.argmax(1)


class _Sums:
    """Running sums of an epoch of `batches` batches, on the device so that adding to them waits for nothing.

    They are written into tensors made beforehand: a new small tensor kept from every step would lie between the freed
    activations of two steps and keep the allocator from using their room again: see docs/benchmarks/LOG.md, "Running sums of an epoch".
    """

    def __init__(self, batches: int, device: torch.device) -> None:
        self.images = self._added = 0
        self._losses = torch.zeros(batches, device=device)
        self._sizes = torch.zeros(batches)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._losses[self._added] = loss
        self._sizes[self._added] = len(labels)
        self._correct += (logits.argmax(1) == labels).sum()
        self.images += len(labels)
        self._added += 1

    @property
    def losses(self) -> Tensor:
        """The loss of every batch added so far."""
        return self._losses[: self._added]

    def means(self) -> tuple[float, float]:
        total = (self.losses.cpu().double() * self._sizes[: self._added].double()).sum()
        return float(total / self.images), int(self._correct) / self.images


def _stop_if_diverged(losses: Tensor, accumulate: int, state: TrainingState, first_step: int, lr: float) -> None:
    """Raise if one of the `losses` is not finite, naming its step; the first `accumulate` of them are of `first_step`."""
    finite = torch.isfinite(losses).cpu()
    if bool(finite.all()):
        return
    index = int((~finite).int().argmax())
    step = first_step + index // accumulate
    kept = f"the best model, of epoch {state.stopping.best_epoch}, is kept" if state.stopping.best_epoch else "no epoch was finished"
    raise TrainingStoppedError(
        f"the loss became {float(losses[index])} in epoch {state.epoch} at step {step} (learning rate {lr:.2g}); {kept}; "
        f"try a smaller rate, such as --lr {lr / 10:.1g}, or --clip-grad 1"
    )


def _train_mode(model: nn.Module, optimizer: torch.optim.Optimizer, frozen_but: frozenset[str] | None) -> None:
    """Put `model` into train mode; with `frozen_but` only those parameters learn and BatchNorm keeps its statistics."""
    model.train()
    learning = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(id(parameter) in learning and (frozen_but is None or name in frozen_but))
    if frozen_but is not None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm):
                module.eval()


def _grouped(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield lists of `size` batches, the last one shorter."""
    group: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch
