"""The training loop: a generator that yields one result per epoch and owns schedule, early stopping and the NaN stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig, StopConfig
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.custom import BUILT_IN, Custom
from cnnkit.engine.early_stopping import EarlyStopping
from cnnkit.engine.ema import MovingAverage
from cnnkit.engine.epoch_sums import EpochPart, EpochSums
from cnnkit.engine.optim import build_optimizer, learning_rate, set_learning_rate
from cnnkit.engine.progress import Clock, TrainingProgress, choose_progress
from cnnkit.engine.progressive import resize
from cnnkit.engine.random_state import get_random_state, set_random_state
from cnnkit.engine.ranks import ONE, Ranks, SharedClock, step_seed
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step, Weights, keep_norm_statistics
from cnnkit.engine.validation import Validation, validate
from cnnkit.errors import TrainingStoppedError, is_out_of_memory
from cnnkit.metrics.scores import accuracy, macro_f1

Batch = tuple[Tensor, Tensor]  # images and labels
MIN_PART_IMAGES = 2  # BatchNorm cannot learn from one image


@dataclass(frozen=True)
class EpochResult:
    """The metrics of one epoch: losses in nats per image, accuracies in [0, 1].

    `step` is the number of optimizer updates since the start of the training; `lr` is the learning rate of the last one.
    The training metrics are means over the augmented images of the epoch, taken while the weights changed. Epoch 0 is the
    network before the first update, if its last layer was fitted; its training metrics are those of the fit. The validation
    metrics describe the weights at the end of the epoch, or their moving average with ``--ema``. As in `cnnkit eval`, they
    are in fp32, without label smoothing and class weights. They are None if a time budget skipped the evaluation
    (`BudgetProgress.should_evaluate`). `seconds` and `images_per_second` measure training alone.
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


@dataclass(frozen=True)
class TrainingFigures:
    """The training half of an epoch, or the fit of the last layer before the first update: mean loss and accuracy over `images`.

    `lr` is the learning rate of the last update, 0 without an update.
    """

    loss: float
    accuracy: float
    images: int
    seconds: float
    lr: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The function that saves the state inside an epoch, and the least number of seconds between two of its calls."""

    save: Callable[[], None]
    interval: float


@dataclass
class TrainingState:
    """The part of a training that changes from step to step, beside the weights of the network.

    An exact resume needs nothing more. Every random draw for an image is a function of seed and epoch, and the learning rate
    is a function of the step. A state that is saved inside `epoch` has its `part`. With a time budget the learning rate is a
    function of the time `spent`, and a resumed run uses the rest of the budget. `start` describes a fitted last layer until
    the loop has validated it as epoch 0.
    """

    optimizer: torch.optim.Optimizer
    stopping: EarlyStopping
    average: MovingAverage | None = None
    epoch: int = 0
    step: int = 0
    spent: float = 0.0  # seconds of the time budget; 0 without one
    start: TrainingFigures | None = None
    part: EpochPart | None = None  # of `epoch`, only in a checkpoint and after its load; None if `epoch` has ended
    parts: int = 1  # of each batch in a step, because a whole batch does not fit into memory
    scaler: dict[str, Any] = field(default_factory=dict[str, Any])  # of the loss in fp16, as `Step.scaler_state` returns it
    result: EpochResult | None = None  # of the latest epoch; a resume adds it to the history if the row was not written
    validation: Validation | None = None  # of the latest epoch, if it was evaluated; not part of a resume

    @property
    def ended(self) -> int:
        """The number of epochs that have ended, as a saved state tells them."""
        return self.epoch if self.part is None else self.epoch - 1

    @property
    def position(self) -> str:
        """The place at which a saved training goes on, such as ``after epoch 3``."""
        return f"after epoch {self.epoch}" if self.part is None else f"in epoch {self.epoch}, after step {self.step}"

    def network_to_keep(self, model: nn.Module) -> nn.Module:
        """Return the network to validate and save: the moving average if there is one, else `model` itself."""
        return model if self.average is None else self.average.module


def initial_state(model: nn.Module, optim: OptimConfig, stop: StopConfig, custom: Custom = BUILT_IN) -> TrainingState:
    """Return the state before the first epoch; `model` must already be on its device."""
    return TrainingState(
        build_optimizer(model, optim, custom.optimizer),
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
    custom: Custom = BUILT_IN,
    head: frozenset[str] = frozenset(),
    checkpoint: Checkpoint | None = None,
    clock: Clock = time.perf_counter,
    ranks: Ranks = ONE,
    compiled_shape: tuple[int, ...] | None = None,
) -> Iterator[EpochResult]:
    """Train `model` from the step that `state` has reached; yield an `EpochResult` after every epoch.

    A fitted last layer (``state.start``) is validated first, as epoch 0. Training ends after ``config.epochs``, after ``config.budget``
    seconds, or when early stopping loses patience. The end of a time budget cuts the last epoch short. `custom` has the loss of another
    package. `head` names the parameters that train during ``config.freeze_epochs``; the others are frozen then. `checkpoint` saves the
    state inside long epochs. With several `ranks`, each calls this function with its part of the batches, and all yield the same results;
    the predictions in ``state.validation`` are whole on rank 0 only. `compiled_shape` is that of `Step`. Raises `TrainingStoppedError`,
    which names the step, if the loss is not finite.
    """
    clock = SharedClock(ranks, clock)
    step = Step(
        model,
        state.optimizer,
        config,
        runtime,
        class_weights,
        custom.loss,
        scaler_state=state.scaler,
        ranks=ranks,
        compiled_shape=compiled_shape,
    )
    steps_per_epoch = math.ceil(batches.steps / config.accumulate)
    val_steps = ranks.agreed(lambda: val_batches.steps)  # the parts of the ranks may differ
    progress = choose_progress(config, steps_per_epoch, validation=val_steps, spent=state.spent, clock=clock)
    while state.start or state.part or not (progress.is_finished(state.epoch) or state.stopping.exhausted):
        trained, state.start = state.start, None
        if trained is None:
            part, state.part = state.part, None
            if part is None:
                state.epoch += 1
                torch.manual_seed(_epoch_seed(seed, state.epoch))  # so that a resumed epoch draws the same dropout
            else:
                set_random_state(runtime.device, part.random)
            frozen = state.epoch <= config.freeze_epochs
            step.pause_compiled(paused=frozen)
            _set_train_mode(model, state.optimizer, head if frozen else None, freeze_norm=frozen or config.freeze_norm)
            seeds = _StepSeeds(seed, ranks)
            trained = _train_epoch(
                model, batches, config, runtime, state, step, progress, clock, seeds=seeds, part=part, checkpoint=checkpoint
            )
        clock.tick()
        train_end = clock()
        state.validation = None  # frees its memory before the next evaluation
        if should_evaluate := progress.should_evaluate():
            state.validation = validate(state.network_to_keep(model), val_batches, runtime, num_classes, ranks)
        metrics = validation_metrics(state.validation)
        score = metrics[state.stopping.monitor]
        is_best = score is not None and state.stopping.update(state.epoch, score)
        state.spent, state.scaler = progress.spent, step.scaler_state()
        state.result = EpochResult(
            epoch=state.epoch,
            step=state.step,
            lr=trained.lr,
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            **metrics,
            seconds=trained.seconds,
            images_per_second=trained.images / trained.seconds if trained.seconds else 0.0,
            is_best=is_best,
        )
        yield state.result
        clock.tick()
        if should_evaluate:  # only here, because the caller saves the model before it asks for the next epoch
            progress.record_evaluation(clock() - train_end)


def _train_epoch(  # noqa: PLR0913 (as of `fit`)
    model: nn.Module,
    batches: BatchSource,
    config: OptimConfig,
    runtime: Runtime,
    state: TrainingState,
    step: Step,
    progress: TrainingProgress,
    clock: SharedClock,
    *,
    seeds: _StepSeeds,
    part: EpochPart | None,
    checkpoint: Checkpoint | None,
) -> TrainingFigures:
    """Update the weights once per group of batches, after the `part` that is done; the end of a time budget cuts the epoch short."""
    sums = EpochSums(batches.steps, runtime.device, part)
    start, lr = clock() - (part.seconds if part else 0.0), 0.0
    first_step = state.step + 1 - math.ceil(sums.batches / config.accumulate)
    saved = clock()
    for group in _group_batches(batches.epoch(state.epoch, sums.batches), config.accumulate):
        weights = step.weigh(group, clock)
        lr = learning_rate(state.step, progress, config)
        set_learning_rate(state.optimizer, lr)
        resized = list(resize(group, config.start_size, progress.decay_progress(state.step)))
        seeds.set(state)
        for total in step.join(_fitting_gradients(step, resized, state, weights), weights):
            sums.add(*total)
        state.step += 1
        if runtime.device.type == "cpu":  # on a GPU this check would wait for the step; there it comes once per epoch, below
            _stop_if_diverged(sums.losses[-len(group) :], config.accumulate, state, state.step, lr)
        step.update()
        if state.average is not None:
            state.average.update(model, state.step)
        if progress.should_end_epoch(state.step):
            break
        if checkpoint is not None and clock() - saved >= checkpoint.interval and sums.batches < batches.steps:
            _stop_if_diverged(sums.losses, config.accumulate, state, first_step, lr)
            state.spent, state.scaler = progress.spent, step.scaler_state()
            state.part = EpochPart(sums.batches, sums.tensors(), get_random_state(runtime.device), clock() - start)
            checkpoint.save()
            state.part, saved = None, clock()
    _stop_if_diverged(sums.losses, config.accumulate, state, first_step, lr)
    clock.tick()
    loss, accuracy = sums.means()
    return TrainingFigures(loss, accuracy, sums.images, clock() - start, lr)


def _fitting_gradients(step: Step, group: list[Batch], state: TrainingState, weights: Weights) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Compute the gradients of a group of batches; return the loss, the logits and the labels of each.

    If the memory is full, each batch is divided into twice the parts, whose gradients add up to those of the batch. So the step keeps
    its number of images. The number of parts stays for the later steps.
    """
    while True:
        try:
            return list(step.gradients(group, state.parts, weights.shares))
        except (RuntimeError, MemoryError) as error:
            largest = max(len(labels) for _, labels in group)
            if not is_out_of_memory(error) or largest < 2 * state.parts * MIN_PART_IMAGES:
                raise
        state.parts *= 2  # outside of the handler, whose error keeps the tensors of the step in memory


def validation_metrics(validation: Validation | None) -> dict[str, float | None]:
    """Return the validation metrics by their names in `EpochResult`; all are None without an evaluation."""
    if validation is None:
        return dict.fromkeys(("val_loss", "val_accuracy", "val_macro_f1"))
    return {"val_loss": validation.loss, "val_accuracy": accuracy(validation.table), "val_macro_f1": macro_f1(validation.table)}


def _stop_if_diverged(losses: Tensor, accumulate: int, state: TrainingState, first_step: int, lr: float) -> None:
    """Raise `TrainingStoppedError` if one of `losses` is not finite; they start at `first_step`, `accumulate` of them per step."""
    finite = torch.isfinite(losses).cpu()
    if bool(finite.all()):
        return
    index = int((~finite).int().argmax())
    step = first_step + index // accumulate
    stopping = state.stopping
    kept = f"the best model, of epoch {stopping.best_epoch}, is kept" if stopping.has_best else "no model was kept"
    raise TrainingStoppedError(
        f"the loss became {float(losses[index])} in epoch {state.epoch} at step {step} (learning rate {lr:.2g}); {kept}; "
        f"try a smaller learning rate, such as --lr {lr / 10:.1g}, or --clip-grad 1"
    )


def _set_train_mode(model: nn.Module, optimizer: torch.optim.Optimizer, only: frozenset[str] | None, *, freeze_norm: bool) -> None:
    """Put `model` into train mode; with `only`, all other parameters are frozen; with `freeze_norm`, BatchNorm keeps its statistics."""
    model.train()
    learning = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(id(parameter) in learning and (only is None or name in only))
    if freeze_norm:
        keep_norm_statistics(model)


def _group_batches(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of `size` batches; the last list may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


@dataclass(frozen=True)
class _StepSeeds:
    """The seeds of torch for the steps of one of several ranks, whose dropout must differ; one process has a seed for the epoch."""

    seed: int
    ranks: Ranks

    def set(self, state: TrainingState) -> None:
        """Seed torch for the step after `state`."""
        if self.ranks.several:
            torch.manual_seed(step_seed(self.seed, state.epoch, state.step, self.ranks.rank))


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch
