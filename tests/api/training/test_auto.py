from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import cnnkit
from cnnkit.api.speed.benchmark import Bench
from cnnkit.api.training import auto as auto_module
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.lr_find import find_lr
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import resume
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import OptimConfig, OptimSettings, TrainConfig, by_section
from cnnkit.engine.batch_size import BatchSize
from cnnkit.engine.lr_range import MIN_RATE, range_test
from cnnkit.errors import ConfigError

SMALL: dict[str, Any] = {
    "set": ("width=8", "blocks=2", "dense=32", "dropout=0.1"),
    "precision": "fp32",
    "batch_size": 16,
    "augment": "none",
}


def settings(data: Path, **given: object) -> TrainConfig:
    return resolve(by_section({"data": str(data), **SMALL, **given}))


def job(data: Path, **given: object) -> TrainingJob:
    return prepare(settings(data, **given))


@pytest.fixture
def data(image_folder) -> Path:
    return image_folder(images=12)


def weights(made: TrainingJob) -> dict[str, torch.Tensor]:
    return made.model.state_dict()


# --- learning rate ----------------------------------------------------------------------------------------------------


def test_auto_takes_and_records_the_rate_that_lr_find_suggests(data):
    expected = find_lr(settings(data)).test
    made = job(data, lr="auto")
    assert made.optim.lr == made.config.optim.lr == expected.suggestion
    assert f"--lr auto: a range test over {len(expected.rates)} steps suggests {expected.suggestion:g}" in made.notes
    run = made.begin()
    assert run.read_record().config.optim.lr == expected.suggestion


def test_the_range_test_changes_neither_weights_nor_random_numbers(data):
    tested = job(data, lr="auto", epochs=2)
    after = torch.get_rng_state()
    plain = job(data, lr=tested.optim.lr, epochs=2)
    assert torch.equal(after, torch.get_rng_state())
    assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(tested).items())
    assert tested.model.training == plain.model.training
    one, other = list(tested.epochs()), list(plain.epochs())
    assert [epoch.train_loss for epoch in one] == [epoch.train_loss for epoch in other]
    assert max(epoch.lr for epoch in one) <= tested.optim.lr


def test_a_dry_run_makes_no_range_test(data, monkeypatch):
    monkeypatch.delattr(auto_module, "range_test")
    made = prepare(settings(data, lr="auto"), dry_run=True)
    assert made.config.optim.lr == "auto"
    assert made.optim.lr == MIN_RATE
    assert not any("--lr" in note for note in made.notes)


def test_lr_find_and_benchmark_make_no_range_test_for_auto(data, monkeypatch):
    monkeypatch.delattr(auto_module, "range_test")
    assert find_lr(settings(data, lr="auto")).test == find_lr(settings(data)).test
    assert Bench(seconds=0.01).training(settings(data, lr="auto")).training is not None


def test_a_loss_that_never_falls_is_refused_with_a_rate_to_type(data, monkeypatch):
    monkeypatch.setattr(auto_module, "range_test", partial(range_test, high=2e-6))
    with pytest.raises(ConfigError) as refused:
        job(data, lr="auto")
    assert "--lr auto: with rates from 1e-06 to 2e-06 the smoothed loss never fell clearly below its first value" in str(refused.value)
    assert "give a rate, such as --lr 0.002; cnnkit lr-find plots the test" in str(refused.value)
    assert not list(Path("runs").glob("*-custom-cnn"))


def test_a_loss_that_is_never_finite_is_refused(data, monkeypatch):
    def broken(model: torch.nn.Module, *arguments: Any, **others: Any) -> object:
        for parameter in model.parameters():
            parameter.data.fill_(float("nan"))
        return range_test(model, *arguments, **others)

    monkeypatch.setattr(auto_module, "range_test", broken)
    with pytest.raises(ConfigError, match="--lr auto: the first loss was not finite; give a rate"):
        job(data, lr="auto")


def test_progress_counts_read_images_then_trained_images(data):
    calls: list[tuple[int, int]] = []
    prepare(settings(data, lr="auto"), progress=lambda done, total: calls.append((done, total)))
    assert (36, 36) in calls
    assert calls[-1][1] == round(100 * 24 / 2)  # 100 steps of 24 images in two batches


# --- the batch size ---------------------------------------------------------------------------------------------------


def test_the_batch_size_is_found_and_recorded(data, monkeypatch):
    given: dict[str, Any] = {}

    def choose(model: torch.nn.Module, config: OptimConfig, runtime: object, **facts: Any) -> BatchSize:
        given.update(facts)
        return BatchSize(8, "it is fast")

    monkeypatch.setattr(auto_module, "choose_batch_size", choose)
    made = job(data, batch_size="auto", accumulate=2)
    assert made.batches.batch_size == made.optim.batch_size == made.config.optim.batch_size == 8
    assert (given["image_shape"], given["classes"], given["images"]) == ((3, 32, 32), 3, 24)
    assert given["free"] > 0
    assert made.notes[-2:] == (
        "--batch-size auto: batches of 8 (it is fast)",
        "the learning rate stays 0.002; --lr auto finds a rate for batches of 8",
    )
    assert made.begin().read_record().config.optim.batch_size == 8


def test_few_images_make_small_batches_without_a_trial(data):
    made = prepare(settings(data, batch_size="auto", lr="auto"), dry_run=True)
    assert made.batches.batch_size == 32
    assert "--batch-size auto: batches of 32 (with 24 training images, larger batches leave fewer than 16 steps per epoch)" in made.notes


def test_the_presumed_batch_size_is_the_requested_one_or_a_possible_default():
    assert auto_module.AutoSettings(OptimSettings(batch_size=300)).presumed_batch_size(10) == 300
    assert auto_module.AutoSettings(OptimSettings(batch_size="auto")).presumed_batch_size(10**6) == OptimConfig().batch_size
    assert auto_module.AutoSettings(OptimSettings(batch_size="auto")).presumed_batch_size(1100) == 64


def test_the_rate_is_found_with_the_chosen_batch_size(data, monkeypatch):
    monkeypatch.setattr(auto_module, "choose_batch_size", lambda *_, **__: BatchSize(8, "it is fast"))
    made = job(data, batch_size="auto", lr="auto")
    assert made.optim.lr == find_lr(settings(data, batch_size=8)).test.suggestion
    assert "--batch-size auto: batches of 8 (it is fast)" in made.notes


# --- afterwards -------------------------------------------------------------------------------------------------------


def test_a_resumed_run_keeps_the_values_found(data, monkeypatch):
    stopped = job(data, lr="auto", batch_size="auto", epochs=3)
    next(epochs := stopped.epochs())
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator, as every loop here
    monkeypatch.delattr(auto_module, "range_test")
    monkeypatch.delattr(auto_module, "choose_batch_size")
    assert stopped.run is not None
    again = resume(stopped.run.path)
    assert (again.optim.lr, again.optim.batch_size) == (stopped.optim.lr, stopped.optim.batch_size)
    assert [epoch.epoch for epoch in again.epochs()] == [2, 3]


def test_auto_works_from_python(data):
    settings: dict[str, Any] = {**SMALL, "batch_size": "auto", "lr": "auto"}
    result = cnnkit.train(data, epochs=1, **settings)
    recorded = result.run.read_record().config.optim
    assert recorded.batch_size == 32
    assert recorded.lr != "auto"
    assert 1e-6 < recorded.lr < 1


# --- a time budget ----------------------------------------------------------------------------------------------------


def trials(monkeypatch: pytest.MonkeyPatch, *, budget: float, batch: float = 0.0, step: float = 0.0) -> auto_module.AutoSettings:
    """Return settings with a fake clock: the choice of the batch size takes `batch` seconds, a step of the range test `step` seconds."""
    now = 0.0

    def choose(*_: object, **__: object) -> BatchSize:
        nonlocal now
        now += batch
        return BatchSize(16, "it is fast")

    def test(*arguments: Any, progress: Any, **others: Any) -> object:
        def tell(done: int, total: int) -> None:
            nonlocal now
            now += step
            progress(done, total)

        return range_test(*arguments, progress=tell, **others)

    monkeypatch.setattr(auto_module, "choose_batch_size", choose)
    monkeypatch.setattr(auto_module, "range_test", test)
    return auto_module.AutoSettings(OptimSettings(batch_size="auto", lr="auto", budget=budget), clock=lambda: now)


def find_all(auto: auto_module.AutoSettings, made: TrainingJob) -> OptimSettings:
    size = auto.batch_size(made.model, made.runtime, (3, 32, 32), classes=3, images=25)
    lr = auto.lr(made.model, made.batches, made.runtime, class_weights=None, seed=0, progress=None)
    return auto.settings(batch_size=size, lr=lr)


def test_the_time_of_the_trials_is_taken_from_the_budget(data, monkeypatch):
    made = job(data)
    found = find_all(auto := trials(monkeypatch, budget=600, batch=2, step=1), made)
    steps = int(auto.notes[1].split()[6])
    assert found.budget in {600 - 2 - steps, 600 - 2 - steps + 1}  # the diverged step reports no progress
    assert auto.notes[-1] == f"--budget 600s: the trials for auto took {600 - found.budget:.1f} s of it"


def test_without_a_budget_the_trials_may_take_any_time(data, monkeypatch):
    found = find_all(auto := trials(monkeypatch, budget=0, batch=900, step=100), job(data))
    assert found.budget == 0
    assert len(auto.notes) == 2


@pytest.mark.parametrize(
    ("batch", "step", "message"),
    [
        (
            31,
            0,
            r"--batch-size auto: its trials take more than 50 % of --budget \(=60 s\) here; give a number, such as --batch-size 128, or",
        ),
        (
            10,
            1,
            r"--lr auto: its trials take more than 50 % of --budget \(=60 s\) here; give a number, such as --lr 0.002, or a longer",
        ),
    ],
)
def test_trials_that_take_most_of_the_budget_are_refused(data, monkeypatch, batch, step, message):
    made = job(data)
    with pytest.raises(ConfigError, match=message):
        find_all(trials(monkeypatch, budget=60, batch=batch, step=step), made)
