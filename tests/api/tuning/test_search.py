from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cnnkit.api.tuning.search import MAX_FIRST_FAILURES, default_name
from cnnkit.config.recipe import resolve
from cnnkit.errors import CnnkitError, ConfigError, DataError, TrainingStoppedError
from cnnkit.run_dir import RunDir, runs_in
from cnnkit.tuning.study import Study, StudyOptions


def statuses() -> list[str]:
    return [RunDir(path).read_record().status for path in reversed(runs_in(Path("runs")))]


def test_every_trial_is_a_run_and_the_first_one_is_the_recipe(trainings, open_search):
    search = open_search()
    news = list(search.news())
    trials = search.study.trials()
    assert [trial.state for trial in trials] == ["complete"] * 4
    assert [trial.run for trial in trials] == [f"runs/{number:03d}-custom-cnn" for number in range(1, 5)]
    assert trials[0].params["lr"] == 2e-3
    assert [config.optim.lr for config in trainings.began] == [trial.params["lr"] for trial in trials]
    assert len({config.run.seed for config in trainings.began}) == 1
    assert statuses() == ["finished"] * 4
    assert [each.event for each in news[:5]] == ["begun", "epoch", "epoch", "epoch", "ended"]
    best = news[-1].best
    assert best is not None
    assert best.value == min(trial.value or math.inf for trial in trials)
    assert list(open_search().news()) == [], "the same command again has nothing to do"
    assert len(list(open_search(trials=5, prune=False).news())) == 5, "more trials continue the search"


def test_a_pruned_trial_is_marked_in_its_run(trainings, open_search):
    trainings.curve = lambda *_: float(len(trainings.began))  # each trial is worse than those before
    search = open_search(trials=5)
    list(search.news())
    assert [trial.state for trial in search.study.trials()] == ["complete"] * 3 + ["pruned"] * 2
    assert statuses() == ["finished"] * 3 + ["pruned"] * 2
    assert [trial.epoch for trial in search.study.trials()][-1] == 2


def test_without_pruning_every_trial_is_complete(trainings, open_search):
    trainings.curve = lambda *_: float(len(trainings.began))
    search = open_search(trials=5, prune=False)
    list(search.news())
    assert {trial.state for trial in search.study.trials()} == {"complete"}


def test_a_failed_trial_has_its_reason_and_the_search_goes_on(trainings, open_search):
    def curve(config, epoch):
        if len(trainings.began) == 2:
            raise TrainingStoppedError("the loss became nan in epoch 1\nresume")
        return 0.5

    trainings.curve = curve
    search = open_search()
    list(search.news())
    assert [trial.state for trial in search.study.trials()] == ["complete", "failed", "complete", "complete"]
    assert search.study.trials()[1].reason == "the loss became nan in epoch 1"


def test_a_trial_without_a_finite_value_fails(trainings, open_search):
    trainings.curve = lambda *_: math.nan if len(trainings.began) == 2 else 0.5

    search = open_search(trials=2)
    list(search.news())
    # the fake run records min of NaN, a real one no best value: both are no result
    assert search.study.trials()[0].state == "complete"
    assert search.study.trials()[1].values == {}


def test_the_search_stops_if_the_first_trials_all_fail(trainings, open_search):
    def curve(config, epoch):
        raise MemoryError

    trainings.curve = curve
    with pytest.raises(TrainingStoppedError, match=f"the first {MAX_FIRST_FAILURES} trials failed, the last one with: MemoryError"):
        list(open_search(trials=9).news())
    assert len(trainings.began) == MAX_FIRST_FAILURES


def test_settings_that_do_not_go_together_fail_their_trial_alone(trainings, open_search):
    search = open_search(("warmup_epochs=1,3", "epochs=2,4"), trials=8, given={"epochs": None})
    list(search.news())
    failed = [trial for trial in search.study.trials() if trial.state == "failed"]
    assert 0 < len(failed) < 8
    assert all("`--warmup-epochs` (=3) must not exceed --epochs (=2)" in trial.reason for trial in failed)


def test_a_fault_of_the_machine_ends_the_search_and_the_same_command_resumes_the_trial(trainings, open_search):
    def curve(config, epoch):
        if epoch == 2:
            raise OSError(28, "No space left on device")
        return 0.5

    trainings.curve = curve
    with pytest.raises(OSError, match="No space"):
        list(open_search().news())
    trainings.curve = lambda *_: 0.4
    search = open_search()
    assert search.study.trials()[0].state == "waiting"
    news = list(search.news())
    assert news[0].event == "resumed"
    assert trainings.resumed == [Path("runs/001-custom-cnn")]
    assert dict(search.study.trials()[0].values) == {1: 0.5, 2: 0.4, 3: 0.4}


@pytest.mark.parametrize("moment", ["begun", "epoch"])
def test_an_interruption_keeps_the_trial_for_the_same_command(trainings, open_search, moment):
    for news in (steps := open_search().news()):
        if news.event == moment:
            with pytest.raises(KeyboardInterrupt):
                steps.throw(KeyboardInterrupt)
            break
    search = open_search()
    assert search.study.trials()[0].state == "waiting"
    assert statuses() in (["stopped"], ["running"])
    list(search.news())
    assert [trial.state for trial in search.study.trials()] == ["complete"] * 4
    assert len(trainings.began) == 4


def test_after_the_budget_no_trial_begins(trainings, open_search):
    times = iter([0.0, 1.0, 9.0, 11.0])
    search = open_search()
    list(search.news(10.0, clock=lambda: next(times)))
    assert [trial.state for trial in search.study.trials()] == ["complete"] * 2


def test_a_trial_whose_run_had_ended_is_not_trained_again(trainings, open_search, monkeypatch):
    search = open_search(trials=1)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cnnkit.api.tuning.search.finish", die)
        with pytest.raises(KeyboardInterrupt):
            list(search.news())
    again = open_search(trials=1)
    list(again.news())
    assert [trial.state for trial in again.study.trials()] == ["complete"]
    assert (len(trainings.began), trainings.resumed) == (1, [])


def test_a_search_keeps_its_space_its_settings_and_its_images(trainings, open_search):
    list(open_search(trials=1).news())
    with pytest.raises(ConfigError, match=r"begun with lr=0\.001\.\.0\.1:log, now lr=0\.001\.\.0\.2:log"):
        open_search(("lr=1e-3..2e-1:log",))
    with pytest.raises(ConfigError, match="begun with epochs=3, now epochs=5"):
        open_search(given={"epochs": 5})
    open_search(given={"data": "images", "workers": 1, "device": "cpu", "save_every": 9.0})  # of another machine
    trainings.images = "other"
    with pytest.raises(DataError, match="begun with other images"):
        list(open_search().news())


def test_the_default_name_tells_the_architecture_and_the_data():
    assert default_name(resolve({"data": {"data": "/my data/cats & dogs"}})) == "custom-cnn-cats---dogs"
    assert (
        default_name(resolve({"data": {"data": "torchvision:CIFAR10"}, "model": {"arch": "timm/resnet18"}}))
        == "timm-resnet18-torchvision-CIFAR10"
    )


TINY = ("--set", "width=8", "--set", "blocks=1", "--set", "dense=16", "--image-size", "8", "--precision", "fp32")
TUNE = ("tune", "--data", "digits", "--epochs", "4", *TINY, "-s", "lr=1e-3..3e-2:log", "--save-every", "0.2s", "--no-prune")


def start(*words: str) -> subprocess.Popen[bytes]:
    with Path("workers.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "cnnkit", *TUNE, *words], stdout=log, stderr=log)


def kill_in_each_trial(trials: int, *words: str, storage: str | None = None) -> dict[int, int]:
    """Run two workers, kill one by SIGKILL in every trial and start another; return the epoch of each trial at which its worker died."""
    folder = Path("runs/tune/x")
    words = ("--name", "x", "--trials", str(trials), *words)
    workers, killed, study = [start(*words), start(*words)], {}, None
    try:
        end = time.monotonic() + 900
        while any(worker.poll() is None for worker in workers):
            assert time.monotonic() < end
            time.sleep(0.05)
            if study is None and folder.exists():
                with suppress(CnnkitError):
                    study = Study(folder, "x", StudyOptions(maximize=False, trials=trials, epochs=4), storage)
            for trial in study.trials() if study else ():
                for index, worker in enumerate(workers):
                    is_due = trial.state == "running" and trial.number not in killed and trial.epoch >= 1
                    if is_due and trial.worker and worker.pid == trial.worker.owner.pid:
                        worker.kill()
                        worker.wait()
                        killed[trial.number], workers[index] = trial.epoch, start(*words)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        if study is not None:
            study.storage.close()
    assert [worker.returncode for worker in workers] == [0, 0], Path("workers.log").read_text()
    return killed


def check_kills(killed: dict[int, int], trials: int, document: dict[str, Any]) -> None:
    assert document["counts"] == {"complete": trials}
    assert len(killed) >= trials - 1, "a trial may end between two looks"
    for trial in document["trials"]:
        assert trial["epochs"] == 4
        assert trial["resumed"] == (trial["number"] in killed)
        assert RunDir(Path(trial["run"])).read_record().status == "finished"
    assert len(runs_in(Path("runs"))) == trials, "each trial kept its run"


@pytest.mark.slow
def test_a_worker_killed_in_every_trial_loses_none(cli):
    pytest.importorskip("optuna")
    killed = kill_in_each_trial(3)
    check_kills(killed, 3, cli(*TUNE, "--name", "x", "--trials", 3, "--json").json())


@pytest.mark.slow
def test_a_worker_killed_in_every_trial_loses_none_in_postgresql(cli, postgresql):
    killed = kill_in_each_trial(2, "--storage", postgresql, storage=postgresql)
    check_kills(killed, 2, cli(*TUNE, "--name", "x", "--trials", 2, "--storage", postgresql, "--json").json())
    assert not Path("runs/tune/x/search.journal").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_search_at_once_and_the_same_command_continues(cli, number):
    pytest.importorskip("optuna")
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from cnnkit.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    words = (*TUNE, "--name", "x", "--trials", "1", "--epochs", "12", "--patience", "0")
    process = subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    history = Path("runs/001-custom-cnn/history.csv")
    end = time.monotonic() + 300
    while not history.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped; 1 waiting; runs/tune/x/search.journal keeps them; type the same command to continue" in said
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert done.json()["counts"] == {"complete": 1}
    assert "continued after epoch" in done.err
    assert len(runs_in(Path("runs"))) == 1
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["status"] == "finished"
