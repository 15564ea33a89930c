"""Every call of a save fails or is the last one of its process: nothing is lost, and the exit codes are those of the contract."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cnnkit.files import whole_file, write_bytes
from cnnkit.run_dir import RunDir

KILLED = 99
ACTIONS = ("before", "after", "ENOSPC", "EIO")
MAX_CALLS = 400


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, trained_once: Any, small_job: Any) -> Any:
    """Return the job of a run with two of three epochs; its first state is kept as the previous one."""
    from cnnkit.api.training.resume import resume

    base = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNKIT_CACHE", str(base / "cache"))
        job = small_job(base, trained_once.data, epochs=3)
        epochs: Any = job.epochs()
        for _ in range(2):
            next(epochs)
        epochs.close()
        assert job.run is not None
        resumed: Any = resume(job.run.path)
        resumed.run.release()
        for module in ("cnnkit.cli.resume", "cnnkit.report.pictures.plots"):  # once for all children
            import_module(module)
    return resumed


def last_epoch(job: Any, run: RunDir, calls: Any) -> Callable[[], int]:
    """Return a function that trains the last epoch of `job` in `run` by the command line."""

    def act() -> int:
        from cnnkit.api.training import resume as module
        from cnnkit.api.training.job import refused_faults
        from cnnkit.cli.app import main

        def resumed(*_: object, **__: object) -> Any:
            with refused_faults():
                run.take()
            return replace(job, run=run)

        module.resume = resumed
        with calls.installed():
            return main(["resume", str(run.path)])

    return act


def copied(job: Any, folder: Path) -> RunDir:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job.run.path, folder)
    return RunDir(folder)


def check_nothing_lost(job: Any, run: RunDir, code: int, said: str) -> None:
    """Check the files of `run` after its last epoch ended with `code` and the message `said`."""
    import copy

    from cnnkit.engine.state import load_state
    from cnnkit.model.file import load_model
    from cnnkit.run_dir import HistoryRow

    assert "Traceback" not in said
    assert code in {0, 2, 3, KILLED}, said
    record = run.read_record()
    if code == 2:
        assert "nothing was trained" in said
    if code == 3:
        assert f"type: cnnkit resume {run.path}" in said
        assert record.status == "stopped"
    elif code == 0:
        assert record.status == "finished"
    run.take()  # by the next process
    assert not list(run.path.rglob("*.part"))
    state = copy.deepcopy(job.state)
    note = load_state(run.last, copy.deepcopy(job.model), state)
    assert state.epoch in {2, 3}
    assert not note, "the newest state is good"
    run.trim_history(state.epoch, state.result and HistoryRow.model_validate(state.result))
    assert [row.epoch for row in run.read_history()] == [1, 2, 3][: state.epoch]
    assert load_model(run.best).header.training["epoch"] >= state.stopping.best_epoch
    run.release()


def outcomes(job: Any, system_calls: Any, forked: Any, tmp_path: Path, numbers: Any, actions: Any) -> list[int]:
    codes: list[int] = []
    for number in numbers:
        for action in actions:
            run = copied(job, tmp_path / "001-custom-cnn")
            errors = tmp_path / "errors.txt"
            code = forked(last_epoch(job, run, system_calls(run.path, number, action)), errors)
            try:
                check_nothing_lost(job, run, code, " ".join(errors.read_text("utf-8").split()))
            except BaseException as error:
                error.add_note(f"call {number}, {action}: exit code {code}\n{errors.read_text('utf-8')}")
                raise
            codes.append(code)
    return codes


def calls_of_an_epoch(job: Any, system_calls: Any, forked: Any, tmp_path: Path) -> list[tuple[str, ...]]:
    """Return the log of the last epoch and of the end of the training."""
    run, log = copied(job, tmp_path / "001-custom-cnn"), tmp_path / "log.json"
    calls = system_calls(run.path)
    act = last_epoch(job, run, calls)
    assert forked(lambda: (act(), log.write_text(json.dumps(calls.log)))[0], tmp_path / "errors.txt") == 0
    return [tuple(call) for call in json.loads(log.read_text())]


def test_a_save_survives_a_power_failure_at_any_moment(stopped, system_calls, forked, unsafe, tmp_path):
    log = calls_of_an_epoch(stopped, system_calls, forked, tmp_path)
    assert unsafe(log) == []
    saved = [rest[0] for kind, _, *rest in log if kind == "replace" and rest[0] not in {"manifest.json", "lock.json"}]
    in_epoch = [name for name in saved if name not in {"config.json", "curves.png"}]
    assert in_epoch == ["best.safetensors", "last/previous.pt", "last/state.pt", "history.csv"]
    assert saved[0] == "config.json", "the run is marked as running"
    assert saved[-2:] == ["config.json", "curves.png"]
    renamed = [rest[0] for kind, _, *rest in log if kind == "replace"]
    for name in (name for name in saved if name != "last/state.pt"):
        assert renamed[renamed.index(name) - 1] == "manifest.json", "the manifest knows a content before the content gets its name"


def test_faults_at_some_calls_lose_nothing(stopped, system_calls, forked, tmp_path):
    last = len(calls_of_an_epoch(stopped, system_calls, forked, tmp_path))
    codes = outcomes(stopped, system_calls, forked, tmp_path, range(9, last, 23), ("after", "ENOSPC"))
    assert {3, KILLED} <= set(codes)


@pytest.mark.slow
def test_a_fault_at_every_call_loses_nothing(stopped, system_calls, forked, tmp_path):
    last = len(calls_of_an_epoch(stopped, system_calls, forked, tmp_path))
    assert 40 < last < MAX_CALLS
    codes = outcomes(stopped, system_calls, forked, tmp_path, range(1, last + 1), ACTIONS)
    assert len(codes) == len(ACTIONS) * last
    assert codes.count(KILLED) > 1.8 * last  # the number of writes of curves.png differs between trainings


def write_unflushed(path: Path, content: bytes) -> None:
    part = path.with_name("x.part")
    part.write_bytes(content)
    part.replace(path)


def write_in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (write_bytes, None),
        (write_unflushed, "a.bin is renamed before its content is flushed"),
        (write_in_place, "a.bin is written in place"),
    ],
)
def test_the_log_shows_careless_writers(system_calls, unsafe, tmp_path, write, complaint):
    calls = system_calls(tmp_path)
    with calls.installed():
        write(tmp_path / "a.bin", b"content")
    assert (complaint in unsafe(calls.log)) if complaint else (unsafe(calls.log) == [])


def loses(write: Callable[[Path, bytes], object], system_calls: Any, forked: Any, tmp_path: Path) -> bool:
    """Return True if a writer that is stopped at one of its calls leaves neither the old nor the new content."""
    old, new = b"old", b"new" * 10_000
    calls = system_calls(tmp_path)
    with calls.installed():
        write(tmp_path / "a.bin", new)
    for number in range(1, calls.count + 1):
        for action in ACTIONS:
            path = tmp_path / "folder" / "a.bin"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(old)

            def act(number: int = number, action: str = action, path: Path = path) -> None:
                with system_calls(path.parent, number, action).installed():
                    write(path, new)

            forked(act, tmp_path / "errors.txt")
            if path.read_bytes() not in {old, new}:
                return True
    return False


def test_a_writer_in_place_loses_the_file_and_a_whole_writer_does_not(system_calls, forked, tmp_path):
    assert loses(write_in_place, system_calls, forked, tmp_path)
    assert not loses(write_bytes, system_calls, forked, tmp_path)


def test_temporary_names_are_unique_and_a_long_name_fits(tmp_path):
    path = tmp_path / ("x" * 250)
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other
        one.write_bytes(b"1")
        other.write_bytes(b"2")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"1"
