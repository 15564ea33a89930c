from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import cnnkit.api
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import recorded_config, resume
from cnnkit.errors import DataError, ModelFileError
from cnnkit.run_dir import RunDir


@pytest.fixture
def stopped(image_folder, small_config) -> TrainingJob:
    """Return a training of three epochs, stopped after the first."""
    job = prepare(small_config(image_folder(images=12), epochs=3, patience=0, seed=7))
    epochs = job.epochs()
    next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    return job


def test_the_newest_run_continues_after_its_last_epoch_with_its_settings(stopped):
    job = resume()
    assert job.run is not None
    assert job.run.path == Path("runs/001-custom-cnn")
    assert job.state.epoch == 1
    assert job.config.optim == stopped.config.optim
    assert (job.config.run.seed, job.runtime.precision, job.runtime.reason) == (7, "fp32", "as recorded")
    saved = stopped.model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in job.model.state_dict().items())
    assert [epoch.epoch for epoch in job.epochs()] == [2, 3]
    assert [row.epoch for row in job.run.read_history()] == [1, 2, 3]


def test_history_rows_after_the_state_are_cut_off(stopped):
    assert stopped.run is not None
    stopped.run.append_history(stopped.run.read_history()[0].model_copy(update={"epoch": 2}))
    assert [row.epoch for row in stopped.run.read_history()] == [1, 2]
    resume()
    assert [row.epoch for row in stopped.run.read_history()] == [1]


def test_a_finished_run_is_not_resumed(trained):
    with pytest.raises(ModelFileError) as refused:
        resume(trained.run)
    assert str(refused.value) == (
        f"{trained.run}: this run is finished; start a new run from its weights: cnnkit train --weights {trained.run / 'best.safetensors'}"
    )


def test_changed_images_are_refused_with_their_number_and_an_example(stopped):
    assert stopped.run is not None
    data = Path(stopped.config.data.data)
    (data / "ants/ants-003.jpg").unlink()
    (data / "bees/bees-000.jpg").write_bytes((data / "bees/bees-000.jpg").read_bytes() + b"\0")
    shutil.copy(data / "wasps/wasps-001.jpg", data / "wasps/wasps-100.jpg")
    with pytest.raises(DataError) as refused:
        resume(stopped.run.path)
    changes = "ants/ants-003.jpg (missing), bees/bees-000.jpg (other content), wasps/wasps-100.jpg (new)"
    assert f"images of {data} have changed since the run began: {changes}; restore them" in str(refused.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError, match="folder: not a run directory"):
        resume(tmp_path / "folder")


def test_the_recorded_settings_hold_absolute_paths(stopped, tmp_path, monkeypatch):
    assert stopped.run is not None
    run = RunDir(stopped.run.path.resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = recorded_config(run)
    assert Path(config.data.data) == tmp_path / "images"
    assert (config.run.seed, config.optim.epochs, config.model.set) == (7, 3, ("width=8", "blocks=2", "dense=32"))
    assert config.data.split_file == run.split_file


def test_a_split_file_survives_a_resume_from_another_folder(image_folder, small_config, tmp_path, monkeypatch):
    data = image_folder(images=16)
    first = prepare(small_config(data)).begin()
    shutil.copy(first.split_file, tmp_path / "mine.csv")
    stopped = prepare(small_config(data, epochs=2, seed=5, split_file="mine.csv"))
    run = stopped.begin()
    next(stopped.epochs())
    assert run.read_split() == first.read_split()
    stopped.record("stopped")
    (tmp_path / "mine.csv").unlink()
    (tmp_path / "elsewhere").mkdir()
    run_path = run.path.resolve()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(list(cnnkit.api.resume(run_path).epochs())) == 1


# --- a run that starts with a fitted last layer -----------------------------------------------------------------------


def figures(run: RunDir) -> list[tuple[object, ...]]:
    return [(row.epoch, row.step, row.lr, row.train_loss, row.val_loss, row.is_best) for row in run.read_history()]


@pytest.mark.parametrize("stop_after", [0, 1])
def test_a_fine_tuning_stopped_after_any_epoch_ends_like_an_uninterrupted_one(trained, image_folder, small_config, stop_after):
    data = image_folder(classes=["hornets", "ladybirds"], images=10, folder="other")
    config = small_config(data, weights=str(trained.run / "best.safetensors"), epochs=2, patience=0, freeze_epochs=0, ema=0.9, batch_size=8)
    straight = prepare(config)
    first = straight.begin()
    results = list(straight.epochs())
    assert [result.epoch for result in results] == [0, 1, 2]
    assert any(note.startswith("the new last layer starts as ") for note in straight.notes)
    broken = prepare(config)
    second = broken.begin()
    epochs = broken.epochs()
    for _ in range(stop_after + 1):
        next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    kept = second.best_row(second.read_history(), broken.state.stopping.best_epoch)
    assert second.read_record().result.kept_epoch == kept.epoch
    job = resume(second.path)
    assert job.state.start is None
    assert [epoch.epoch for epoch in job.epochs()] == [1, 2][stop_after:]
    assert figures(second) == figures(first)
    end, other = straight.model.state_dict(), job.model.state_dict()
    assert all(torch.equal(end[name], other[name]) for name in end)
