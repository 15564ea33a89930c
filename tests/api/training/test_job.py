from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import cnnkit
import cnnkit.api
from cnnkit.api.training.prepare import prepare
from cnnkit.data.batches import Batches
from cnnkit.data.source import located
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


def test_files_are_written_from_begin_on_and_hold_the_status(image_folder, small_config):
    made = prepare(small_config(image_folder(images=12), epochs=2))
    assert made.counts == {"train": 24, "val": 6, "test": 6}
    assert not list(Path("runs").iterdir())
    epochs = made.epochs()
    next(epochs)
    assert made.run is not None
    config = made.run.path / "config.json"
    assert [json.loads(config.read_text())[key] for key in ("status", "classes")] == ["running", ["ants", "bees", "wasps"]]
    assert made.run.split_file.read_bytes().decode() == made.dataset.split_text
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
