"""The calls of MLflow and wandb, recorded by fake packages without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnkit.engine.fit import EpochResult
from cnnkit.trackers.mlflow import MlflowTracker
from cnnkit.trackers.protocol import epoch_metrics
from cnnkit.trackers.wandb import WandbTracker

EPOCH = EpochResult(3, 30, 1e-3, 0.5, 0.8, 0.6, 0.75, 0.7, 2.0, 500.0, is_best=True)
FACTS = {"config": {"recipe": "fast", "optim": {"lr": 0.1}, "model": {"arch": "x" * 900}}}


@pytest.fixture
def calls(monkeypatch):
    """Return the calls of the fake packages, in order."""
    recorded: list[tuple[Any, ...]] = []

    def called(name: str, result: object = None):
        def call(*arguments: Any, **named: Any) -> object:
            recorded.append((name, *arguments, named))
            return result

        return call

    run = SimpleNamespace(id="w7", info=SimpleNamespace(run_id="m5"), log=called("log"), finish=called("finish"))
    mlflow = {name: called(name) for name in ("log_params", "log_metrics", "end_run")}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(start_run=called("start_run", run), **mlflow))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=called("init", run)))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return recorded


@pytest.fixture
def folder() -> Path:
    path = Path("runs/001-custom-cnn")
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(("status", "said"), [("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")])
def test_mlflow_gets_settings_metrics_and_status(calls, folder, status, said):
    tracker = MlflowTracker()
    tracker.start(FACTS, folder, 0)
    tracker.epoch(EPOCH)
    tracker.end(status)
    started, params, metrics, ended = calls
    assert started == ("start_run", {"run_name": "001-custom-cnn"})
    assert params[1] == {"recipe": "fast", "optim.lr": "0.1", "model.arch": "x" * 500}
    assert metrics == ("log_metrics", epoch_metrics(EPOCH), {"step": 3})
    assert ended == ("end_run", said, {})


def test_a_resume_continues_the_run_of_mlflow(calls, folder):
    MlflowTracker().start(FACTS, folder, 0)
    MlflowTracker().start(FACTS, folder, 3)
    assert calls[2:] == [("start_run", {"run_id": "m5"})]


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("stopped", 1)])
def test_wandb_gets_settings_metrics_and_status(calls, folder, status, code):
    tracker = WandbTracker()
    tracker.start(FACTS, folder, 0)
    tracker.epoch(EPOCH)
    tracker.end(status)
    started, logged, ended = calls
    events = str(folder / "events")
    named = {"project": "cnnkit", "name": "001-custom-cnn", "config": FACTS["config"], "dir": events, "id": None, "resume": "allow"}
    assert started == ("init", named)
    assert logged == ("log", epoch_metrics(EPOCH), {"step": 3})
    assert ended == ("finish", {"exit_code": code})


def test_a_resume_continues_the_run_of_wandb(calls, folder, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    WandbTracker().start(FACTS, folder, 0)
    WandbTracker().start(FACTS, folder, 3)
    assert [call[-1]["id"] for call in calls] == [None, "w7"]
    assert calls[0][-1]["project"] == "mine"
