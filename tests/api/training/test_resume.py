from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import cnnkit.api
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import recorded_config, resume
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import ConfigError, DataError, ModelFileError
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
    config = recorded_config(run, run.read_record())
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


def test_the_runtime_that_the_probe_chose_is_recorded_and_replayed(image_folder, small_config, monkeypatch):
    chosen = Runtime(torch.device("cpu"), channels_last=True, replicas=2, threads=1, reason="in the probe")
    monkeypatch.setattr("cnnkit.api.training.prepare.choose_arithmetic", lambda *_: chosen)
    first = prepare(small_config(image_folder(images=12), epochs=2, precision="auto"))
    run = first.begin()
    next(first.epochs())
    assert run.read_record().runtime.model_dump() == chosen.facts()

    def probe(*_: object) -> Runtime:
        raise AssertionError("a resumed run makes no probe")

    monkeypatch.setattr("cnnkit.api.training.prepare.choose_arithmetic", probe)
    job = resume(run.path)
    assert job.runtime.facts() == chosen.facts()
    assert next(parameter for parameter in job.model.parameters() if parameter.ndim == 4).is_contiguous(memory_format=torch.channels_last)


def test_a_run_of_a_device_that_is_not_here_is_refused(stopped):
    run = stopped.run
    record = run.read_record()
    run.write_record(record.model_copy(update={"runtime": record.runtime.model_copy(update={"device": "cuda"})}))
    with pytest.raises(ConfigError) as refused:
        resume(run.path)
    assert str(refused.value) == (
        f"{run.path}: the run was trained on cuda, and torch finds only cpu here; use a machine with that device, or start a "
        "new run: cnnkit train"
    )


def recorded_with(run: RunDir, **versions: str) -> dict[str, str]:
    """Change the recorded versions of `run`; return the versions of the start."""
    record = run.read_record()
    run.write_record(record.model_copy(update={"versions": {**record.versions, **versions}}))
    return record.versions


def test_a_smaller_change_of_versions_is_a_note(stopped):
    installed = recorded_with(stopped.run, python="2.7.18", torch=f"{'.'.join(torch.__version__.split('.')[:2])}.99+odd")
    job = resume(stopped.run.path)
    assert job.notes[0].startswith("the versions have changed since the run began: ")
    assert f"python 2.7.18, now {installed['python']}" in job.notes[0]
    assert f".99+odd, now {installed['torch']}" in job.notes[0]


def test_another_torch_is_refused_with_both_versions_until_it_is_accepted(stopped):
    installed = recorded_with(stopped.run, torch="1.13.1")
    with pytest.raises(ConfigError) as refused:
        resume(stopped.run.path)
    assert str(refused.value) == (
        f"the versions have changed since the run began: torch 1.13.1, now {installed['torch']}; the training may then end with other "
        f"numbers; install the recorded versions, or accept the others: cnnkit resume {stopped.run.path} --accept-versions"
    )
    job = resume(stopped.run.path, accept_versions=True)
    assert job.notes[0] == f"the versions have changed since the run began: torch 1.13.1, now {installed['torch']}"
    list(job.epochs())
    record = stopped.run.read_record()
    assert record.versions["torch"] == installed["torch"]
    assert job.notes[0] in record.notes


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
