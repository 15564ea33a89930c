from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.config.settings import OptimConfig, StopConfig
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.fit import Checkpoint, EpochResult, TrainingFigures, TrainingState, fit, initial_state
from cnnkit.engine.optim import learning_rate
from cnnkit.engine.progress import EpochProgress
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step
from cnnkit.engine.validation import _LogitBuffer, validate
from cnnkit.errors import TrainingStoppedError

K, SIZE = 4, 8
HEAD = frozenset({"6.weight", "6.bias"})
PLAIN = Runtime(torch.device("cpu"))
STEADY: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "schedule": "constant", "warmup_epochs": 0, "weight_decay": 0.0}


def network(seed: int = 0, *, dropout: float = 0.0, norm: bool = True) -> nn.Sequential:
    """Return convolution, normalisation, ReLU, dropout and a head named ``6``."""
    torch.manual_seed(seed)
    middle = nn.BatchNorm2d(8) if norm else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), middle, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * 16, K)
    )


def training(
    model: nn.Module,
    batches: BatchSource,
    val: BatchSource | None = None,
    *,
    state: TrainingState | None = None,
    stop: dict[str, Any] | None = None,
    **given: Any,
) -> Iterator[EpochResult]:
    """Return the loop with defaults; `given` are settings of the optimizer and other arguments of `fit`."""
    others = {name: given.pop(name) for name in ("seed", "class_weights", "head", "runtime", "clock") if name in given}
    config = OptimConfig(**{**STEADY, **given})
    state = state or initial_state(model, config, StopConfig(**(stop or {"patience": 0})))
    return fit(model, batches, val or batches, config, others.pop("runtime", PLAIN), state, num_classes=K, **others)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def figures(result: EpochResult) -> tuple[float | None, ...]:
    return result.train_loss, result.train_accuracy, result.val_loss, result.val_accuracy, result.val_macro_f1


class Values(nn.Module):
    """A model whose logits do not depend on the images; `scores` has one row of logits per call."""

    def __init__(self, scores: list[list[float]]) -> None:
        super().__init__()
        self.scores, self.calls = scores, 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        row = torch.tensor(self.scores[self.calls % len(self.scores)]) + self.weight
        self.calls += 1
        return row.expand(len(images), -1)


# --- it learns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_loop_learns_sixteen_images_by_heart(fixed, optimizer: str) -> None:
    lr = 0.05 if optimizer == "sgd" else 0.01
    *_, last = training(network(), fixed, epochs=20, optimizer=optimizer, lr=lr)
    assert (last.train_accuracy, last.val_accuracy, last.val_macro_f1) == (1.0, 1.0, 1.0)
    assert last.train_loss < 0.1
    assert last.val_loss is not None
    assert last.val_loss < 0.1


def test_the_loop_learns_in_bf16_and_channels_last_too(fixed) -> None:
    runtime = Runtime(torch.device("cpu"), "bf16", channels_last=True)
    *_, last = training(runtime.prepare(network()), fixed, epochs=20, runtime=runtime)
    assert (last.train_accuracy, last.val_accuracy) == (1.0, 1.0)


def test_validation_is_in_fp32_even_where_training_is_not(fixed) -> None:
    seen: list[torch.dtype] = []
    model = network()
    model[6].register_forward_hook(lambda module, _, logits: seen.append(logits.dtype) if not module.training else None)
    list(training(model, fixed, epochs=1, runtime=Runtime(torch.device("cpu"), "bf16")))
    assert set(seen) == {torch.float32}


def test_the_same_seed_gives_the_same_training_and_another_seed_another(fixed) -> None:
    runs = [[figures(result) for result in training(network(dropout=0.5), fixed, epochs=3, seed=seed)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0][0][0] != runs[2][0][0]


def test_dropout_differs_from_epoch_to_epoch(fixed) -> None:
    """With a learning rate near 0, only dropout can change the training loss."""
    losses = [result.train_loss for result in training(network(dropout=0.5), fixed, epochs=3, lr=1e-30)]
    assert len(set(losses)) == 3


def test_training_starts_with_small_images_and_evaluation_sees_full_size(fixed) -> None:
    """Of five epochs with four steps, the first twelve steps (0.6 of them) see small images."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, K))
    seen: dict[bool, list[int]] = {True: [], False: []}
    model.register_forward_pre_hook(lambda module, images: seen[module.training].append(images[0].shape[-1]))
    list(training(model, fixed, epochs=5, start_size=4))
    assert seen[True] == [4] * 12 + [SIZE] * 8
    assert set(seen[False]) == {SIZE}


# --- the result of an epoch -------------------------------------------------------------------------------------------


def test_steps_and_rates_are_counted_over_epochs(fixed) -> None:
    config: dict[str, Any] = {"schedule": "cosine", "warmup_epochs": 0.5, "lr": 0.08, "epochs": 3}
    results = list(training(network(), fixed, **config))
    assert [(result.epoch, result.step) for result in results] == [(1, 4), (2, 8), (3, 12)]
    settings = OptimConfig(**config)
    assert [result.lr for result in results] == [learning_rate(step, EpochProgress(settings, 4), settings) for step in (3, 7, 11)]
    assert all(result.seconds > 0 for result in results)
    assert [result.images_per_second * result.seconds for result in results] == pytest.approx([16] * 3)


def test_every_step_has_the_rate_of_the_schedule(fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    step = torch.optim.SGD.step

    def watch(self: torch.optim.SGD, *given: Any, **named: Any) -> Any:
        used.extend({group["lr"] for group in self.param_groups})
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", watch)
    config: dict[str, Any] = {"schedule": "linear", "warmup_epochs": 1.0, "lr": 0.08, "epochs": 2}
    list(training(network(), fixed, **config))
    settings = OptimConfig(**config)
    assert used == [learning_rate(step, EpochProgress(settings, 4), settings) for step in range(8)]


def test_training_metrics_are_sums_over_images_and_not_means_of_batches(fixed) -> None:
    sizes = (1, 2, 3, 10)
    model = network(norm=False)
    with torch.no_grad():
        logits = model(fixed.images)
        loss = float(functional.cross_entropy(logits, fixed.labels))
        correct = float((logits.argmax(1) == fixed.labels).double().mean())
    result = next(training(model, fixed.batched(*sizes), lr=1e-30, epochs=1))
    assert result.train_loss == pytest.approx(loss, rel=1e-5)
    assert result.train_accuracy == correct
    assert result.val_loss == pytest.approx(loss, rel=1e-5)


def test_validation_metrics_equal_a_computation_by_hand(fixed) -> None:
    model = network()
    result = next(training(model, fixed, fixed.batched(1, 6, 9), epochs=1))
    model.eval()
    with torch.no_grad():
        logits = model(fixed.images).double()
    predicted = logits.argmax(1)
    assert result.val_loss == pytest.approx(float(functional.cross_entropy(logits, fixed.labels)), rel=1e-5)
    assert result.val_accuracy == pytest.approx(float((predicted == fixed.labels).double().mean()))
    assert result.val_macro_f1 == pytest.approx(f1_score(fixed.labels, predicted, average="macro"))


def test_validation_uses_neither_smoothing_nor_class_weights(fixed) -> None:
    plain = next(training(network(), fixed, epochs=1, lr=1e-30))
    odd = next(training(network(), fixed, epochs=1, lr=1e-30, label_smoothing=0.3, class_weights=torch.tensor([9.0, 1, 1, 1])))
    assert odd.val_loss == plain.val_loss
    assert odd.train_loss != plain.train_loss


def test_smoothing_and_class_weights_equal_torch(fixed) -> None:
    model = network(norm=False)
    class_weights = torch.tensor([5.0, 1, 1, 1])
    with torch.no_grad():
        expected = functional.cross_entropy(model(fixed.images), fixed.labels, weight=class_weights, label_smoothing=0.2)
    result = next(training(model, fixed.batched(16), lr=1e-30, epochs=1, label_smoothing=0.2, class_weights=class_weights))
    assert result.train_loss == pytest.approx(float(expected), rel=1e-5)


def test_validate_counts_rows_of_true_and_columns_of_predicted_classes(fixed) -> None:
    model = Values([[0.0, 0, 9, 0]])
    found = validate(model, fixed, PLAIN, K)
    assert found.table.tolist() == [[0, 0, 4, 0]] * 4
    right, wrong = -math.log(math.exp(9) / (math.exp(9) + 3)), -math.log(1 / (math.exp(9) + 3))
    assert found.loss == pytest.approx((right + 3 * wrong) / 4)


def test_validate_keeps_the_logits_in_the_order_of_the_batches(fixed) -> None:
    model = network().eval()
    found = validate(model, fixed.batched(2, 9, 5), PLAIN, K)
    with torch.no_grad():
        np.testing.assert_allclose(found.logits, model(fixed.images).numpy(), rtol=0, atol=1e-6)
    assert found.labels.tolist() == fixed.labels.tolist()
    assert found.logits.dtype == np.float32


def test_validation_reads_the_logits_once_at_the_end() -> None:
    """Tensors on `meta` have no values, so a read of them fails, as it would wait for a GPU."""
    kept = _LogitBuffer(K, torch.device("meta"))
    for size in (3, 5, 9):
        kept.add(torch.zeros((size, K), device="meta"), torch.zeros(size, dtype=torch.int64, device="meta"))
    with pytest.raises(NotImplementedError):
        kept.arrays()


def test_no_step_of_an_epoch_waits_for_a_gpu(fixed) -> None:
    """Tensors on `meta` have no values: the first read of them, which fails, comes at the end of the epoch."""
    meta = torch.device("meta")
    seen: list[int] = []

    class OnMeta:
        steps = fixed.steps

        def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels in fixed.epoch(number, first):
                seen.append(len(labels))
                yield images.to(meta), labels.to(meta)

    model = network(dropout=0.5).to(meta)
    with pytest.raises(NotImplementedError):
        next(iter(training(model, OnMeta(), runtime=Runtime(meta), clip_grad=1.0, label_smoothing=0.1)))
    assert seen == [4, 4, 4, 4]


def test_class_weights_go_to_the_device_of_the_step() -> None:
    model, config = network().to("meta"), OptimConfig()
    step = Step(model, torch.optim.SGD(model.parameters()), config, Runtime(torch.device("meta")), torch.ones(K))
    assert step._class_weights is not None
    assert step._class_weights.device.type == "meta"


def test_validation_changes_nothing_in_the_model(fixed) -> None:
    model = network()
    before = weights(model)
    validate(model, fixed, PLAIN, K)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_model_trains_in_train_mode_and_validates_in_eval_mode(fixed) -> None:
    modes: list[bool] = []
    model = network()
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    list(training(model, fixed, fixed.batched(16), epochs=2))
    assert modes == [*[True] * 4, False] * 2


# --- the step ---------------------------------------------------------------------------------------------------------


def test_two_batches_accumulated_equal_one_of_twice_the_size(fixed) -> None:
    models = network(norm=False), network(norm=False)
    results = (
        list(training(models[0], fixed.batched(4, 4, 4, 4), accumulate=2, epochs=3)),
        list(training(models[1], fixed.batched(8, 8), epochs=3)),
    )
    assert [result.step for result in results[0]] == [result.step for result in results[1]] == [2, 4, 6]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert [result.train_loss for result in results[0]] == pytest.approx([result.train_loss for result in results[1]], rel=1e-5)


def test_leftover_batches_make_a_step_of_their_own(fixed) -> None:
    models = network(norm=False), network(norm=False)
    *_, one = training(models[0], fixed.batched(4, 4, 4, 4), accumulate=3, epochs=2)
    *_, other = training(models[1], fixed.batched(12, 4), epochs=2)
    assert one.step == other.step == 4
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_gradients_are_clipped_to_the_norm(fixed) -> None:
    model, free = network(norm=False), network(norm=False)
    limit = 0.01
    batches = fixed.batched(16)
    before = weights(model)
    next(training(model, batches, lr=1.0, clip_grad=limit, epochs=1))
    next(training(free, batches, lr=1.0, epochs=1))

    def moved(after: nn.Module) -> float:
        return math.sqrt(sum(float(((value - before[name]) ** 2).sum()) for name, value in after.state_dict().items()))

    assert moved(model) == pytest.approx(1.9 * limit, rel=1e-4)  # Nesterov's first step: 1 + momentum times the gradient
    assert moved(free) > 10 * limit


def test_a_generous_limit_clips_nothing(fixed) -> None:
    one, other = network(), network()
    list(training(one, fixed, epochs=1, clip_grad=1e6))
    list(training(other, fixed, epochs=1))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-6, atol=1e-7)


# --- divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("accumulate", "call", "step", "epoch"),
    [(1, 3, 3, 1), (1, 1, 1, 1), (2, 3, 2, 1), (2, 4, 2, 1), (3, 4, 2, 1), (1, 8 + 2, 6, 2), (2, 8 + 4, 4, 2)],
)
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(
    fixed, bad: float, accumulate: int, call: int, step: int, epoch: int
) -> None:
    """The model returns one bad logit at `call`; an epoch has four training and four validation batches."""
    good, broken = [1.0, 0, 0, 0], [bad, 0, 0, 0]
    model = Values([broken if index == call else good for index in range(1, 17)])
    seen: list[EpochResult] = []
    with pytest.raises(TrainingStoppedError) as caught:
        seen.extend(training(model, fixed, accumulate=accumulate, epochs=2, lr=0.02))
    message = str(caught.value)
    assert f" in epoch {epoch} at step {step} (learning rate 0.02);" in message
    assert message.startswith("the loss became nan" if math.isnan(bad) else "the loss became ")
    assert ("; no model was kept; " in message) == (epoch == 1)
    assert ("; the best model, of epoch 1, is kept; " in message) == (epoch == 2)
    assert message.endswith("try a smaller learning rate, such as --lr 0.002, or --clip-grad 1")
    assert caught.value.exit_code == 3


def test_the_check_at_the_end_of_an_epoch_names_the_step_too(fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, the losses are checked once per epoch."""
    model = Values([[math.nan, 0, 0, 0] if index == 8 + 4 else [1.0, 0, 0, 0] for index in range(1, 17)])
    loop = training(model, fixed, accumulate=2, epochs=2)
    next(loop)
    checked: list[int] = []
    check = fit.__globals__["_stop_if_diverged"]

    def only_whole_epochs(losses: list[Tensor], *given: Any) -> None:
        checked.append(len(losses))
        if len(losses) == 4:
            check(losses, *given)

    monkeypatch.setitem(fit.__globals__, "_stop_if_diverged", only_whole_epochs)
    with pytest.raises(TrainingStoppedError, match="in epoch 2 at step 4 "):
        next(loop)
    assert checked == [2, 2, 4]


def test_a_loss_that_is_not_finite_makes_no_update(fixed) -> None:
    model = Values([[1.0, 0, 0, 0], [math.nan, 0, 0, 0]])
    with pytest.raises(TrainingStoppedError):
        list(training(model, fixed, epochs=1))
    assert bool(torch.isfinite(model.weight).all())


def test_a_far_too_large_learning_rate_stops_the_training(fixed) -> None:
    with pytest.raises(TrainingStoppedError, match=r"at step \d+ \(learning rate 1e\+30\)"):
        list(training(network(norm=False), fixed, lr=1e30, epochs=5))


# --- frozen epochs ----------------------------------------------------------------------------------------------------


def test_frozen_epochs_change_only_the_head(fixed) -> None:
    model = network()
    before = weights(model)
    loop = training(model, fixed, epochs=3, freeze_epochs=2, head=HEAD, weight_decay=0.1)
    for _ in range(2):
        next(loop)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == HEAD  # neither the running statistics of BatchNorm nor weight decay touch the rest
    next(loop)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(before)


def test_frozen_batch_normalisation_uses_its_own_statistics(fixed) -> None:
    model = network()
    model.get_buffer("1.running_mean").fill_(0.3)
    with torch.no_grad():
        expected = functional.cross_entropy(copy.deepcopy(model).eval()(fixed.images), fixed.labels)
    result = next(training(model, fixed.batched(16), epochs=1, freeze_epochs=1, head=HEAD, lr=1e-30))
    assert result.train_loss == pytest.approx(float(expected), rel=1e-5)


def test_frozen_statistics_stay_while_all_parameters_learn(fixed) -> None:
    model = network()
    model.get_buffer("1.running_mean").fill_(0.3)
    before = weights(model)
    list(training(model, fixed, epochs=1, freeze_norm=True))
    unchanged = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert unchanged == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_fixed_parameters_of_an_architecture_stay_fixed_after_frozen_epochs(fixed) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = weights(model)
    list(training(model, fixed, epochs=2, freeze_epochs=1, head=HEAD, weight_decay=0.5))
    unchanged = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    # The bias before a normalisation has no effect, so it only learns by rounding errors: on some processors not at all.
    assert unchanged - {"0.bias"} == {"0.weight"}
    assert not model[0].weight.requires_grad  # nor does its gradient take part in the clipped norm


# --- stopping ---------------------------------------------------------------------------------------------------------


def scored(*val_losses: float) -> Values:
    """Return a model with these validation losses, one per epoch of one training and one validation batch of class 0."""
    rows: list[list[float]] = []
    for loss in val_losses:
        rows += [[1.0, 0, 0, 0], [0.0, *[math.log((math.exp(loss) - 1) / 3)] * 3]]
    return Values(rows)


def one_class(fixed: Any) -> Any:
    batches = fixed.batched(16)
    batches.labels = torch.zeros(16, dtype=torch.int64)
    return batches


def test_training_stops_when_patience_has_run_out(fixed) -> None:
    model = scored(1.0, 0.5, 0.6, 0.5, 0.2)
    results = list(training(model, one_class(fixed), epochs=5, lr=1e-30, stop={"patience": 2}))
    assert [result.val_loss for result in results] == pytest.approx([1.0, 0.5, 0.6, 0.5], rel=1e-5)
    assert [result.is_best for result in results] == [True, True, False, False]


def test_without_patience_all_epochs_are_trained_and_the_best_are_marked(fixed) -> None:
    results = list(training(scored(1.0, 0.5, 0.6, 0.4), one_class(fixed), epochs=4, lr=1e-30, stop={"patience": 0}))
    assert [result.is_best for result in results] == [True, True, False, True]


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "val_macro_f1"])
def test_the_monitored_metric_chooses_the_best_epoch(fixed, monitor: str) -> None:
    results = list(training(network(), fixed, epochs=6, lr=0.02, stop={"monitor": monitor}))
    best = math.inf if monitor == "val_loss" else -math.inf
    for result in results:
        value = getattr(result, monitor)
        better = value < best if monitor == "val_loss" else value > best
        assert result.is_best is better
        best = value if better else best


def test_an_infinite_validation_loss_is_not_the_best(fixed) -> None:
    model = Values([[1.0, 0, 0, 0], [-math.inf, 0, 0, 0], [1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    results = list(training(model, one_class(fixed), epochs=2, lr=1e-30))
    assert results[0].val_loss == math.inf
    assert [result.is_best for result in results] == [False, True]


def test_a_finished_state_trains_no_more(fixed) -> None:
    model = network()
    config = OptimConfig(**STEADY, epochs=2)
    state = initial_state(model, config, StopConfig())
    assert len(list(fit(model, fixed, fixed, config, PLAIN, state, num_classes=K))) == 2
    assert list(fit(model, fixed, fixed, config, PLAIN, state, num_classes=K)) == []


def test_a_result_cannot_be_changed(fixed) -> None:
    result = next(training(network(), fixed, epochs=1))
    with pytest.raises(AttributeError):
        result.epoch = 7  # pyright: ignore[reportAttributeAccessIssue]
    assert all(type(value) in {int, float, bool} for value in vars(result).values())
    assert not any(isinstance(value, np.generic) for value in vars(result).values())


# --- a time budget ----------------------------------------------------------------------------------------------------


class Machine:
    """A clock that advances with every step and evaluation; `noise` makes every second step slower."""

    def __init__(self, step: float, evaluation: float, noise: float = 0.0) -> None:
        self.now, self.steps = 0.0, 0
        self._step, self._evaluation, self._noise = step, evaluation, noise

    def __call__(self) -> float:
        return self.now

    def batches(self, source: BatchSource, *, validation: bool = False) -> BatchSource:
        return Slow(source, self, validation=validation)

    def work(self, *, validation: bool) -> None:
        self.steps += not validation
        self.now += self._evaluation / 4 if validation else self._step + self._noise * (self.steps % 2)


class Slow:
    """Batches that advance the clock of a `Machine`."""

    def __init__(self, source: BatchSource, machine: Machine, *, validation: bool) -> None:
        self._source, self._machine, self._validation = source, machine, validation

    @property
    def steps(self) -> int:
        return self._source.steps

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._source.epoch(number, first):
            self._machine.work(validation=self._validation)
            yield batch


@pytest.mark.parametrize(
    ("step", "evaluation", "noise"), [(1.0, 1.0, 0.0), (0.1, 0.1, 0.0), (1.0, 8.0, 0.0), (1.0, 2.0, 1.0), (3.0, 4.0, 0.0)]
)
def test_a_budget_ends_on_time_at_the_end_of_its_schedule(fixed, step: float, evaluation: float, noise: float) -> None:
    machine = Machine(step, evaluation, noise)
    given: dict[str, Any] = {"budget": 200.0, "schedule": "linear", "lr": 0.01, "clock": machine}
    results = list(training(network(), machine.batches(fixed), machine.batches(fixed, validation=True), **given))
    assert 200 - 1.1 * evaluation - step - noise <= machine.now <= 200 + step + noise
    assert results[-1].lr < 0.01 * 0.1
    rates = [result.lr for result in results]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("evaluation", "least", "most"), [(0.1, 45, 50), (2.0, 4, 7), (20.0, 2, 2)])
def test_evaluations_take_no_more_than_their_share_of_a_budget(fixed, evaluation: float, least: int, most: int) -> None:
    """An epoch takes four seconds. Cheap evaluations follow every epoch; others follow the first, the last and a few between."""
    machine = Machine(1.0, evaluation)
    results = list(training(network(), machine.batches(fixed), machine.batches(fixed, validation=True), budget=200.0, clock=machine))
    evaluated = [result for result in results if result.val_loss is not None]
    assert least <= len(evaluated) <= most
    assert results[0].val_loss is not None
    assert results[-1].val_loss is not None
    for result in results:
        missing = {result.val_loss is None, result.val_accuracy is None, result.val_macro_f1 is None}
        assert len(missing) == 1
        assert not (result.is_best and result.val_loss is None)


def test_a_slower_machine_trains_less_on_the_same_schedule(fixed) -> None:
    passes = []
    for step in (0.5, 2.0):
        machine = Machine(step, 1.0)
        given: dict[str, Any] = {"budget": 100.0, "schedule": "cosine", "clock": machine}
        *_, last = training(network(), machine.batches(fixed), machine.batches(fixed, validation=True), **given)
        passes.append(last.step)
    assert passes[0] >= 3 * passes[1]


def test_a_budget_too_small_for_an_epoch_still_yields_one_model(fixed) -> None:
    machine = Machine(10.0, 10.0)
    (only,) = training(network(), machine.batches(fixed), machine.batches(fixed, validation=True), budget=5.0, clock=machine)
    assert only.step < 4
    assert only.is_best


def test_a_resumed_run_uses_the_rest_of_its_budget(fixed) -> None:
    machine = Machine(1.0, 2.0)
    model = network()
    state = initial_state(model, OptimConfig(**STEADY, budget=100.0), StopConfig(patience=0))
    loop = training(model, machine.batches(fixed), machine.batches(fixed, validation=True), state=state, budget=100.0, clock=machine)
    for _ in range(5):
        next(loop)
    spent = state.spent
    assert spent == pytest.approx(22, abs=2)  # 20 steps and the evaluation of the first epoch
    machine.now += 1000.0  # the machine was off
    *_, last = training(model, machine.batches(fixed), machine.batches(fixed, validation=True), state=state, budget=100.0, clock=machine)
    assert last.epoch > 10
    assert 96 <= state.spent <= 101


# --- a fitted start ---------------------------------------------------------------------------------------------------

START = TrainingFigures(loss=0.25, accuracy=0.75, images=60, seconds=2.0)


def started(model: nn.Module, stop: StopConfig | None = None, **given: Any) -> TrainingState:
    state = initial_state(model, OptimConfig(**{**STEADY, **given}), stop or StopConfig(patience=0))
    state.start = START
    return state


def test_a_fitted_start_is_validated_as_epoch_0_and_changes_no_later_epoch(fixed) -> None:
    model = network(dropout=0.5)
    state = started(model)
    results = list(training(model, fixed, state=state, epochs=2))
    first = results[0]
    assert (first.epoch, first.step, first.lr, first.train_loss, first.train_accuracy) == (0, 0, 0.0, 0.25, 0.75)
    assert (first.seconds, first.images_per_second, first.is_best) == (2.0, 30.0, True)
    assert first.val_loss == validate(network(dropout=0.5), fixed, PLAIN, K).loss
    assert state.start is None
    assert list(map(figures, results[1:])) == list(map(figures, training(network(dropout=0.5), fixed, epochs=2)))


def test_epoch_0_stays_the_best_if_no_later_epoch_beats_it(fixed) -> None:
    model = network()
    state = started(model, StopConfig(patience=2), lr=1e3)
    results = list(training(model, fixed, state=state, epochs=5, lr=1e3))
    assert [result.epoch for result in results] == [0, 1, 2]
    assert [result.is_best for result in results] == [True, False, False]
    assert (state.stopping.has_best, state.stopping.best_epoch, state.stopping.best_value) == (True, 0, results[0].val_loss)


def test_a_budget_that_ends_with_epoch_0_trains_no_further(fixed) -> None:
    machine = Machine(step=1.0, evaluation=8.0)
    model = network()
    loop = training(model, machine.batches(fixed), machine.batches(fixed, validation=True), state=started(model), budget=5.0, clock=machine)
    assert [(result.epoch, result.step) for result in loop] == [(0, 0)]


class SmallMemory(nn.Module):
    """A network whose device has memory for `most` images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
        self.most = most

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.layers(images)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0, 4.0])], ids=["plain", "class weights"])
def test_a_full_memory_divides_the_batch_and_keeps_the_step(fixed, weights):
    whole = replace(fixed, sizes=(13, 3))
    results, ends = [], []
    for memory, parts in ((13, 1), (5, 4)):
        network = SmallMemory(memory)
        network.eval()(fixed.images[:1])
        config = OptimConfig(epochs=2, optimizer="sgd", lr=0.05)
        state = initial_state(network, config, StopConfig())
        loop = fit(network, whole, whole, config, Runtime(torch.device("cpu")), state, num_classes=4, class_weights=weights)
        results.append(list(loop))
        ends.append(network.state_dict())
        assert state.parts == parts
    assert [one.step for one in results[0]] == [one.step for one in results[1]] == [2, 4]
    assert [one.train_loss for one in results[1]] == pytest.approx([one.train_loss for one in results[0]], rel=1e-5)
    assert all(torch.allclose(value, ends[1][name], atol=1e-6) for name, value in ends[0].items())


def test_a_memory_that_is_too_small_for_two_images_is_an_error(fixed):
    network = SmallMemory(0)
    network.eval()(fixed.images[:1])
    config = OptimConfig(epochs=1)
    with pytest.raises(torch.OutOfMemoryError):
        list(fit(network, fixed, fixed, config, Runtime(torch.device("cpu")), initial_state(network, config, StopConfig()), num_classes=4))


def test_checkpoints_keep_their_interval_and_come_only_inside_an_epoch(fixed):
    """Each clock reading is a second later, and each step reads the clock once for the checkpoint."""
    model = network()
    now, saved = itertools.count(), list[tuple[int, int]]()
    config = OptimConfig(**STEADY, epochs=2)
    state = initial_state(model, config, StopConfig(patience=0))

    def save() -> None:
        assert state.part is not None
        saved.append((state.epoch, state.part.batches))

    def count(interval: float) -> list[tuple[int, int]]:
        saved.clear()
        state.epoch = state.step = 0
        loop = fit(
            model, fixed, fixed, config, PLAIN, state, num_classes=K, checkpoint=Checkpoint(save, interval), clock=lambda: float(next(now))
        )
        assert [result.epoch for result in loop] == [1, 2]
        return [*saved]

    assert count(0.0) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert count(2.0) == [(1, 2), (2, 2)]
    assert count(100.0) == []


def test_a_state_with_a_loss_that_is_not_finite_is_not_saved(fixed):
    """On a GPU the losses are looked at only once per epoch, and before each checkpoint."""
    fixed.images[5] = math.nan
    steps = list[int]()
    model = network(norm=False)
    state = initial_state(model, OptimConfig(**STEADY), StopConfig())
    checkpoint = Checkpoint(lambda: steps.append(state.step), 0.0)
    with pytest.raises(TrainingStoppedError, match="at step 2"):
        next(iter(fit(model, fixed, fixed, OptimConfig(**STEADY), PLAIN, state, num_classes=K, checkpoint=checkpoint)))
    assert steps == [1]
