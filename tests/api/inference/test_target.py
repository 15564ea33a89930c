from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cnnkit.api.inference.target import find_target
from cnnkit.errors import ModelFileError
from cnnkit.run_dir import RunDir


def test_the_newest_finished_run_is_the_default(trained):
    newest = RunDir(Path("runs/002-custom-cnn"))
    shutil.copytree(trained.run, newest.path)
    found = find_target(None)
    assert (found.path, found.run, found.chosen) == (newest.best, newest, True)


def test_a_run_stands_for_its_best_model(trained):
    found = find_target(str(trained.run))
    assert (found.path, found.run, found.chosen) == (trained.run / "best.safetensors", RunDir(trained.run), False)


@pytest.mark.parametrize("name", ["best.safetensors", "export/model.onnx"])
def test_a_file_in_a_run_belongs_to_it(trained, name):
    file = trained.run / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    found = find_target(file)
    assert (found.path, found.run) == (file, RunDir(trained.run))


def test_a_file_elsewhere_belongs_to_no_run(trained):
    (trained.run / "deep/er").mkdir(parents=True)
    for file in ("lone.safetensors", trained.run / "deep/er/lone.safetensors"):
        shutil.copy(trained.run / "best.safetensors", file)
        assert find_target(file).run is None


def test_a_model_is_named_after_its_run_or_its_file(trained, monkeypatch):
    shutil.copy(trained.run / "best.safetensors", "leaf.safetensors")
    Path("latest").symlink_to(trained.run)
    assert [find_target(model).name for model in (trained.run, trained.run / "best.safetensors", "latest")] == ["001-custom-cnn"] * 3
    assert find_target("leaf.safetensors").name == "leaf"
    monkeypatch.chdir(trained.run)
    assert [find_target(model).name for model in (".", "best.safetensors")] == ["001-custom-cnn"] * 2


def test_a_run_without_a_finished_epoch_is_an_error_with_the_resume_command(trained):
    (trained.run / "best.safetensors").unlink()
    with pytest.raises(ModelFileError) as refused:
        find_target(trained.run)
    assert str(refused.value) == (
        f"{trained.run}: the run has no best.safetensors, because it finished no epoch; continue it with: cnnkit resume {trained.run}"
    )


def test_a_folder_without_a_run_and_a_missing_path_are_errors(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError, match=r"folder: not a run directory"):
        find_target(tmp_path / "folder")
    with pytest.raises(
        ModelFileError, match="--model nowhere: no such file or run directory; leave out --model for the newest finished run"
    ):
        find_target("nowhere")


def test_a_run_goes_by_its_name_under_the_folder_of_runs(trained, monkeypatch, tmp_path):
    trained.run.rename("runs/best so far")
    assert find_target("best so far").run == RunDir(Path("runs/best so far"))
    monkeypatch.setenv("CNNKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir("/")
    assert find_target("best so far").path == tmp_path / "runs/best so far/best.safetensors"
    with pytest.raises(
        ModelFileError, match=r"--model best-so-far: no such file or run directory; did you mean 'best so far'\? cnnkit runs"
    ):
        find_target("best-so-far")
    with pytest.raises(ModelFileError, match=r"--model best: no such file or run directory; did you mean 'best so far'\?"):
        find_target("best")
