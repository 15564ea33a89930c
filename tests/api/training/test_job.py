from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cnnkit
import cnnkit.api
from cnnkit.api.training.prepare import prepare
from cnnkit.data.batches import Batches
from cnnkit.data.source import located
from cnnkit.engine.fit import EpochResult
from cnnkit.engine.ranks import ONE
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import TrainingStoppedError


def test_the_saved_model_holds_the_average_of_the_weights(image_folder, small_config):
    made = prepare(small_config(image_folder(images=12), ema=0.8, epochs=2, lr=1e-4))
    last = list(made.epochs())[-1]
    assert last.is_best
    assert made.run is not None
    assert made.state.average is not None
    kept = cnnkit.load_model(made.run.best).module.state_dict()
    averaged, raw = made.state.average.module.state_dict(), made.model.state_dict()
    assert all(torch.equal(value, averaged[name].cpu()) for name, value in kept.items())
    assert not any(torch.equal(value, raw[name].cpu()) for name, value in kept.items())
    assert made.run.read_record().config.optim.ema == 0.8


def test_a_training_memorises_sixteen_fixed_images(image_folder, dry_job):
    data, network = image_folder(images=12), ("width=8", "blocks=2", "dense=64", "dropout=0")
    made = dry_job(data, augment="none", weight_decay=0.0, lr=3e-3, epochs=30, patience=0, set=network)
    every: Batches = made.batches
    rows, labels = every.rows[:16], every.labels[:16]
    made.batches = Batches(every.canvases, rows, labels, 16, every.preprocess, every.device)
    made.val_batches = made.batches
    epochs = list(made.epochs())
    assert epochs[-1].train_accuracy == 1.0
    assert epochs[-1].train_loss < 0.1 < epochs[0].train_loss


def test_a_changed_image_stops_a_streamed_training_that_resume_continues(image_folder, small_config):
    data = image_folder(images=16)
    interrupted = prepare(small_config(data, epochs=3, cache="none"))
    run = interrupted.begin()
    epochs = interrupted.epochs()
    next(epochs)
    victim = data / interrupted.dataset.of("train")[0].path
    content = victim.read_bytes()
    victim.write_bytes(content + b"\0")
    with pytest.raises(
        TrainingStoppedError, match=rf"{victim.name} has changed since it was scanned.*\n.*cnnkit resume {run.path}"
    ) as caught:
        list(epochs)
    assert caught.value.exit_code == 3
    assert len(run.read_history()) == 1
    assert run.read_record().status == "stopped"
    victim.write_bytes(content)
    assert len(list(cnnkit.api.resume(run.path).epochs())) == 2


def test_files_are_written_from_begin_on_and_hold_the_status(image_folder, small_config, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cnnkit", "tune", "--storage=postgresql://me:secret@host/db", "--storage", "a://b:secret@c"])
    made = prepare(small_config(image_folder(images=12), epochs=2))
    assert made.counts == {"train": 24, "val": 6, "test": 6}
    assert not list(Path("runs").iterdir())
    epochs = made.epochs()
    next(epochs)
    assert made.run is not None
    config = made.run.path / "config.json"
    assert [json.loads(config.read_text())[key] for key in ("status", "classes")] == ["running", ["ants", "bees", "wasps"]]
    assert json.loads(config.read_text())["command"][2:] == ["--storage=postgresql://me:***@host/db", "--storage", "a://b:***@c"]
    assert made.run.split_file.read_bytes() == made.dataset.split_csv
    list(epochs)
    assert json.loads(config.read_text())["status"] == "finished"
    assert [row.epoch for row in made.run.read_history()] == [1, 2]


def test_an_abandoned_training_is_recorded_as_stopped(image_folder, small_config):
    made = prepare(small_config(image_folder(images=12), epochs=3))
    epochs = made.epochs()
    next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    assert made.run is not None
    config = json.loads((made.run.path / "config.json").read_text())
    assert (config["status"], config["result"]["epochs"]) == ("stopped", 1)


def test_watch_wraps_the_training_batches_alone(image_folder, small_config):
    made = prepare(small_config(image_folder(images=12), epochs=1))
    watched: list[object] = []
    list(made.epochs(lambda batches: watched.append(batches) or batches))
    assert watched == [made.batches]


def test_the_recorded_path_of_the_data_is_absolute(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    assert located("images") == str((tmp_path / "images").resolve())
    assert located("digits") == "digits"


NETWORK = ("width=8", "blocks=2", "dense=32", "dropout=0")
SPLITS = {"train": {"ants": 311, "bees": 200, "wasps": 110}, "val": {"ants": 69, "bees": 40, "wasps": 30}}  # 621 and 139 images


@pytest.fixture
def many_images(image_folder, tmp_path):
    for seed, (split, classes) in enumerate(SPLITS.items()):
        image_folder(classes, size=(16, 16), suffix=".png", folder=f"data/{split}", seed=seed)
    return tmp_path / "data"


@dataclass
class Trained:
    """A finished training of a rank: its weights, its last epoch, the rows of each of its batches, and its validation."""

    weights: dict[str, NDArray[Any]]
    epoch: EpochResult
    rows: list[set[int]]
    table: NDArray[np.int64]
    logits: NDArray[np.float32]


def trained(config, ranks=ONE, runtime=None) -> Trained:
    """Train the job of `config` on a rank."""
    made = prepare(config, ranks=ranks, runtime=runtime)
    order, _ = made.batches._order(1)
    steps = np.array_split(np.arange(len(order)), made.batches.steps)
    rows = [set(made.batches.rows[order[np.array_split(step, ranks.world)[ranks.rank]]].tolist()) for step in steps]
    epoch = list(made.epochs())[-1]
    assert made.state.validation is not None
    weights = {name: value.numpy().copy() for name, value in made.model.state_dict().items()}
    return Trained(weights, epoch, rows, made.state.validation.table, made.state.validation.logits)


def difference(one: Trained, other: Trained) -> float:
    """Return the largest difference of two weights."""
    return max(float(np.abs(value - other.weights[name]).max()) for name, value in one.weights.items())


def scores(epoch: EpochResult) -> tuple[object, ...]:
    return epoch.epoch, epoch.step, epoch.lr, epoch.train_accuracy, epoch.val_accuracy, epoch.val_macro_f1, epoch.is_best


@pytest.mark.slow
def test_two_three_and_four_ranks_train_as_one_process(many_images, small_config, run_ranks):
    flags = {"set": NETWORK, "batch_size": 96, "epochs": 1, "image_size": 16, "accumulate": 2, "mixup": 0.2, "clip_grad": 1.0}
    config = small_config(many_images, **flags, balance="weights", ema=0.9)
    one = trained(config)
    assert one.table.sum() == 139
    for world in (2, 3, 4):
        several = run_ranks(world, lambda ranks: trained(config, ranks))
        assert all(rank.epoch == several[0].epoch and difference(rank, several[0]) == 0 for rank in several), "all ranks have one network"
        assert difference(one, several[0]) <= 1e-6
        assert scores(one.epoch) == scores(several[0].epoch)
        assert several[0].epoch.train_loss == pytest.approx(one.epoch.train_loss, abs=1e-6)
        for step, rows in enumerate(one.rows):
            parts = [rank.rows[step] for rank in several]
            assert set.union(*parts) == rows, "the ranks have the images of the whole batch"
            assert sum(map(len, parts)) == len(rows), "no two ranks have the same image"
        assert (several[0].table == one.table).all()
        assert several[0].logits.shape == one.logits.shape, "rank 0 has the predictions of all ranks"
        assert several[0].logits == pytest.approx(one.logits, abs=1e-5)
    assert len(list(Path("runs").iterdir())) == 4, "each training has one run directory"


def test_two_ranks_have_the_batch_statistics_of_two_replicas(many_images, small_config, run_ranks):
    config = small_config(many_images, arch="residual-cnn", set=("width=4",), batch_size=96, epochs=1, image_size=16, cutmix=1.0)
    replicas = trained(config, runtime=Runtime(torch.device("cpu"), replicas=2))
    ranks = run_ranks(2, lambda ranks: trained(config, ranks, Runtime(torch.device("cpu"))))
    assert any(name.endswith("running_var") for name in replicas.weights)
    assert difference(replicas, ranks[0]) <= 1e-6
    assert difference(ranks[0], ranks[1]) == 0


def test_dropout_differs_by_rank(image_folder, small_config, run_ranks):
    config = small_config(image_folder(images=12), epochs=1)

    def first_draw(ranks):
        made = prepare(config, ranks=ranks)
        drawn: list[float] = []
        made.model.register_forward_pre_hook(lambda *_: drawn.append(float(torch.rand(()))) if torch.is_grad_enabled() else None)
        list(made.epochs())
        return drawn[0]

    one, other = run_ranks(2, first_draw)
    assert one != other


def test_a_budget_ends_at_the_same_step_on_all_ranks(image_folder, small_config, run_ranks):
    config = small_config(image_folder(images=12), budget="2s", save_every=0.3)

    def epochs(ranks):
        return list(prepare(config, ranks=ranks).epochs())

    first, second, third = run_ranks(3, epochs)
    assert first == second == third, "also every time"
    assert first[-1].step > 1


def test_a_run_of_two_ranks_is_continued_by_three_or_by_one(image_folder, small_config, run_ranks):
    config = small_config(image_folder(images=24), epochs=3, set=NETWORK, patience=0)
    straight = trained(config)

    def stopped_inside_an_epoch(ranks):
        made = prepare(config, ranks=ranks)
        made.begin()
        epochs = made.epochs()
        next(epochs)
        if not ranks.is_first:
            return None
        epochs.close()
        return made.run

    def continued(ranks):
        made = cnnkit.api.resume(run.path, ranks=ranks)
        one = next(epochs := made.epochs())
        epochs.close()
        return one

    run, _ = run_ranks(2, stopped_inside_an_epoch)
    assert run.read_record().ranks == 2
    second, *others = run_ranks(3, continued)
    assert [second] * 2 == others
    assert second.epoch == 2
    assert run.read_record().ranks == 3
    made = cnnkit.api.resume(run.path)
    (third,) = made.epochs()
    assert scores(third) == scores(straight.epoch)
    assert [row.epoch for row in run.read_history()] == [1, 2, 3]
    assert (
        max(float((value - torch.from_numpy(straight.weights[name])).abs().max()) for name, value in made.model.state_dict().items()) < 1e-5
    )


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(image_folder, small_config, run_ranks):
    config = small_config(image_folder(images=12), epochs=2)

    def broken(ranks):
        made = prepare(config, ranks=ranks)
        if ranks.rank == 1:
            made.model.register_forward_hook(lambda *taken: taken[-1] * float("nan"))
        return list(made.epochs())

    for error in run_ranks(2, broken):
        assert isinstance(error, TrainingStoppedError)
        assert re.match(r"the loss became nan in epoch 1 at step 1 \(learning rate .*\); no model was kept", str(error))
