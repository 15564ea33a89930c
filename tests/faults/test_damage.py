"""Flipped bits and cut-off files: every reader of a run refuses them by name, and a resume uses the state before."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnkit.errors import DamagedFileError, ModelFileError
from cnnkit.run_dir import RunDir

FLIPS, CUTS = 40, 20  # of each file


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, trained_once: Any, small_job: Any) -> Any:
    """Return the job of a finished training of two epochs whose run has an evaluation."""
    from cnnkit.api import evaluate

    base = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNKIT_CACHE", str(base / "cache"))
        job = small_job(base, trained_once.data, epochs=2)
        assert len(list(job.epochs())) == 2
        assert job.run is not None
        evaluate(job.run)
    return job


def readers(job: Any, run: RunDir) -> dict[str, Callable[[], object]]:
    """Return a reader of each file of the run that its commands read."""
    from cnnkit.api.evaluation.stored_evaluation import _read_rows
    from cnnkit.engine.state import _read
    from cnnkit.model.facts import read_facts
    from cnnkit.model.file import load_model
    from cnnkit.model.weights import read_weights

    def all_readers_of_the_model() -> None:
        for read in (load_model, read_weights, lambda path: read_facts(path, check_tensors=True)):
            with pytest.raises(ModelFileError) as found:
                read(run.best)
            assert str(run.best) in str(found.value)
        raise found.value

    classes = job.header.classes
    return {
        "best.safetensors": all_readers_of_the_model,
        "last/state.pt": lambda: _read(run.last / "state.pt"),
        "last/previous.pt": lambda: _read(run.last / "previous.pt"),
        "history.csv": run.read_history,
        "config.json": run.read_record,
        "split.csv": run.read_split,
        "eval/test/metrics.json": lambda: run.read_metrics(run.evaluation("test")),
        "eval/test/predictions.csv": lambda: _read_rows(run.evaluation("test") / "predictions.csv", classes),
    }


def refused(read: Callable[[], object], file: Path) -> bool:
    """Return True if `read` names the damaged `file` in an error with a way out, False if it reads the file silently."""
    said = ""
    try:
        read()
    except ModelFileError as error:
        said = str(error)
    ways = ("restore", "again", "manifest.json", "expected a best.safetensors", "complete")
    return str(file) in said and any(way in said for way in ways)


def damaged_contents(content: bytes, seed: str) -> list[bytes]:
    chosen = random.Random(seed)
    flips = []
    for position in chosen.sample(range(8 * len(content)), min(FLIPS, 8 * len(content))):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        flips.append(bytes(flipped))
    return [*flips, *(content[:length] for length in chosen.sample(range(len(content)), min(CUTS, len(content))))]


def test_no_damage_is_silent(saved, tmp_path):
    shutil.copytree(saved.run.path, tmp_path / "run")
    run, tried, silent = RunDir(tmp_path / "run"), 0, []
    for name, read in readers(saved, run).items():
        file = run.path / name
        content = file.read_bytes()
        for number, damaged in enumerate(damaged_contents(content, name)):
            file.write_bytes(damaged)
            tried += 1
            if not refused(read, file):
                silent.append(f"{name} {number}")
        file.write_bytes(content)
    assert tried >= 380
    assert silent == []


def test_the_table_of_runs_sees_a_flipped_bit_in_a_header(saved, tmp_path):
    from cnnkit.model.facts import read_facts

    path = shutil.copy(saved.run.best, tmp_path / "best.safetensors")
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    for damaged in damaged_contents(content[:length], "header")[:FLIPS]:
        path.write_bytes(damaged + content[length:])
        with pytest.raises(ModelFileError, match=r"best\.safetensors"):
            read_facts(path)


def test_a_listed_file_that_is_missing_is_an_error(saved, tmp_path):
    shutil.copytree(saved.run.path, tmp_path / "run")
    run = RunDir(tmp_path / "run")
    run.history.unlink()
    with pytest.raises(DamagedFileError, match=r"history\.csv: the file is missing, although .*manifest\.json lists it; restore"):
        run.read_history()


def test_a_damaged_manifest_is_named_with_the_way_out(saved, tmp_path):
    shutil.copytree(saved.run.path, tmp_path / "run")
    run, file = RunDir(tmp_path / "run"), tmp_path / "run/manifest.json"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match=r"manifest\.json: damaged, .* remove the file: rm .*manifest\.json"):
        run.read_record()
    file.unlink()
    assert run.read_record().status == "finished"
    assert run.read_history()


def test_a_resume_uses_the_state_before_a_damaged_one_and_names_it(saved, tmp_path):
    from cnnkit.engine.state import load_state

    shutil.copytree(saved.run.path, tmp_path / "run")
    run = RunDir(tmp_path / "run")
    content = bytearray((run.last / "state.pt").read_bytes())
    content[len(content) // 2] ^= 4
    (run.last / "state.pt").write_bytes(content)
    state = copy.deepcopy(saved.state)
    assert "state.pt is damaged or missing, so the training continues after epoch 1" in load_state(
        run.last, copy.deepcopy(saved.model), state
    )
    assert state.epoch == 1
    (run.last / "previous.pt").unlink()
    with pytest.raises(ModelFileError, match=r"last/state\.pt: damaged or changed"):
        load_state(run.last, copy.deepcopy(saved.model), state)


# --- the owner of a run -----------------------------------------------------------------------------------------------


def write_owner(run: RunDir, **changes: object) -> None:
    from cnnkit.run_dir.owner import LOCK_FILE, Owner

    (run.path / LOCK_FILE).write_text(json.dumps({**Owner.this_process().model_dump(), **changes}))


@pytest.fixture
def run(saved, tmp_path) -> RunDir:
    """Return a copy of the finished run."""
    shutil.copytree(saved.run.path, tmp_path / "run")
    return RunDir(tmp_path / "run")


def test_a_second_process_is_refused_by_name(run):
    write_owner(run, pid=os.getppid(), start=start_of(os.getppid()))
    with pytest.raises(
        ModelFileError, match=rf"process {os.getppid()} on .* trains in this run; wait for its end, or stop it: kill {os.getppid()}$"
    ):
        run.take()
    assert not run.is_dead
    other = "elsewhere-7"
    write_owner(run, host=other)
    with pytest.raises(
        ModelFileError, match=rf"on {other} trains in this run; .*; if that process has ended, remove its lock: rm .*lock\.json$"
    ):
        run.take()


def start_of(pid: int) -> str:
    from cnnkit.run_dir.owner import _start_of

    return _start_of(pid)


@pytest.mark.parametrize(
    "change", [{"pid": 2**22 - 1}, {"boot": "another"}, {"start": "1"}], ids=["dead", "other boot", "number used again"]
)
def test_a_stale_lock_is_taken_over_with_a_note(run, change):
    write_owner(run, **change)
    assert run.is_dead
    assert "ended without a word; its lock is taken over" in run.take()
    assert run.take() == ""
    run.release()
    assert not (run.path / "lock.json").exists()


def test_an_unreadable_lock_is_an_error_with_a_way_out(run):
    (run.path / "lock.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"lock\.json: damaged; if no training runs in this folder, remove the file: rm "):
        run.take()


def test_an_evaluation_writes_into_no_run_of_a_living_training(run, saved, tmp_path, monkeypatch):
    from cnnkit.api import evaluate

    monkeypatch.setenv("CNNKIT_CACHE", str(saved.run.path.parents[1] / "cache"))
    write_owner(run, pid=os.getppid(), start=start_of(os.getppid()))
    with pytest.raises(
        ModelFileError, match=r"trains in this run; .*; to evaluate its best epoch so far, add --out FOLDER outside of the run$"
    ):
        evaluate(run.path)
    evaluate(run.path, out=tmp_path / "elsewhere")


def test_runs_tells_a_dead_training_from_a_living_one(run):
    from cnnkit.api.inference.runs import run_facts

    run.write_record(run.read_record().model_copy(update={"status": "running"}))
    assert run_facts(run).status == "dead"
    run.take()
    assert run_facts(run).status == "running"
    run.release()


@pytest.mark.slow
def test_six_evaluations_of_one_run_at_once_all_succeed(run, saved):
    environment = {**os.environ, "CNNKIT_CACHE": str(saved.run.path.parents[1] / "cache")}
    command = [sys.executable, "-m", "cnnkit", "eval", "--model", str(run.path)]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    assert json.loads((run.path / "eval/opened.json").read_text())["test"] == 7
    assert run.read_metrics(run.evaluation("test"))
    from cnnkit.files import check_file

    for file in run.path.rglob("*.*"):
        if file.is_file() and file.name not in {"manifest.json", ".lock"}:
            check_file(file)
    assert not list(run.path.rglob("*.part"))
