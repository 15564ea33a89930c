"""A training that takes no time, in the stead of the real one: its values follow from its settings."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnkit.api.tuning import trial as trial_module
from cnnkit.api.tuning.search import Search
from cnnkit.api.tuning.space import Layers, read_space
from cnnkit.config.settings import TrainConfig
from cnnkit.data.source import Source
from cnnkit.run_dir import RunDir, create
from cnnkit.run_dir.record import RecordedTrial

Curve = Callable[[TrainConfig, int], float]


@dataclass
class FakeTrainings:
    """The trainings of a test: `curve` gives the val loss of an epoch, or raises; `began` has the settings of each new training."""

    make_record: Any
    make_row: Any
    curve: Curve = lambda config, epoch: abs(float(config.optim.lr) - 0.01) + 1 / epoch
    began: list[TrainConfig] = field(default_factory=list[TrainConfig])
    resumed: list[Path] = field(default_factory=list[Path])
    sources: list[Source | None] = field(default_factory=list["Source | None"])
    images: str = "abc"

    def prepare(self, config: TrainConfig, *, source: Source | None = None, dry_run: bool = False) -> FakeJob:
        self.sources.append(source)
        if not dry_run:
            self.began.append(config)
        return FakeJob(self, config)

    def resume(self, path: Path) -> FakeJob:
        self.resumed.append(path)
        run = RunDir(path)
        job = FakeJob(self, run.read_record().config)
        job.run, job.trial = run, run.read_record().trial
        return job


class FakeJob:
    def __init__(self, world: FakeTrainings, config: TrainConfig) -> None:
        self.world, self.config, self.optim = world, config, config.optim
        self.header = SimpleNamespace(training={"data": {"sha256": world.images}})
        self.state = SimpleNamespace(stopping=SimpleNamespace(exhausted=False))
        self.trial: RecordedTrial | None = None
        self.command, self.status_if_left = (), "stopped"
        self.run: RunDir | None = None

    def begin(self) -> RunDir:
        self.run = create(self.config.run.out or Path("runs"), self.config.model.arch)
        self.record("running")
        return self.run

    def record(self, status: str, best: float | None = None) -> None:
        assert self.run is not None
        result = {"epochs": 1, "best_epoch": 1, "monitor": "val_loss", "best_value": best, "stopped_early": False}
        self.run.write_record(
            self.world.make_record(status=status, config=self.config.model_dump(mode="json"), trial=self.trial, result=result)
        )

    def epochs(self) -> Iterator[Any]:
        assert self.run is not None
        status, values = "stopped", [row.val_loss or 0.0 for row in self.run.read_history()]
        try:
            for epoch in range(len(values) + 1, self.optim.epochs + 1):
                values.append(self.world.curve(self.config, epoch))
                self.run.append_history(self.world.make_row(epoch=epoch, val_loss=values[-1]))
                yield SimpleNamespace(epoch=epoch, val_loss=values[-1])
            status = "finished"
        except GeneratorExit:
            status = self.status_if_left
            raise
        finally:
            self.record(status, min(values, default=None))


@pytest.fixture
def trainings(monkeypatch, make_record, make_row) -> FakeTrainings:
    """The trainings of a search, which take no time."""
    world = FakeTrainings(make_record, make_row)
    monkeypatch.setattr(trial_module, "prepare", world.prepare)
    monkeypatch.setattr("cnnkit.api.tuning.tune.prepare", world.prepare)
    monkeypatch.setattr(trial_module, "resume", world.resume)
    return world


@pytest.fixture
def open_search() -> Callable[..., Search]:
    """Return a function that opens a search of four trials of three epochs: ``open_search(trials=2, storage=url)``."""
    pytest.importorskip("optuna")

    def start(words: tuple[str, ...] = ("lr=1e-3..1e-1:log",), trials: int = 4, **options: Any) -> Search:
        given = {"data": "digits", "epochs": 3, **options.pop("given", {})}
        layers = Layers({name: value for name, value in given.items() if value is not None})
        return Search(layers, read_space(layers, words=words), "x", trials=trials, **options)

    return start


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL server of its own, on the loopback; skips where none is installed."""
    pytest.importorskip("psycopg")
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb = next((str(home / "initdb") for home in homes if (home / "initdb").exists()), shutil.which("initdb"))
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    user = _unprivileged_user()
    folder = Path("/tmp") / f"cnnkit-postgresql-{os.getpid()}"  # noqa: S108 (the name of a socket has at most 107 bytes)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user)
    port = _free_port()
    with (tmp_path / "postgresql.log").open("wb") as log:
        as_user: dict[str, Any] = {"cwd": "/", "stdout": log, "stderr": log, "user": user, "group": user and "nogroup"}
        subprocess.run([initdb, "-D", folder / "data", "-U", "cnnkit", "-A", "trust", "--no-sync"], check=True, **as_user)
        server = [Path(initdb).resolve().with_name("postgres"), "-D", folder / "data", "-k", folder, "-p", str(port), "-F"]
        process: Any = subprocess.Popen(list(map(str, server)), text=False, **as_user)
        try:
            _wait_for(port, process)
            yield f"postgresql://cnnkit@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # ends the open connections too; SIGTERM waits for them
            process.wait(30)
            shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_user() -> str | None:
    """Return a user for the server, which does not run as root; None if this process is no root."""
    return "nobody" if os.name == "posix" and os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, process: Any) -> None:
    import psycopg

    for _ in range(600):
        if process.poll() is not None:
            pytest.fail("the PostgreSQL server did not start")
        try:
            psycopg.connect(f"postgresql://cnnkit@127.0.0.1:{port}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the PostgreSQL server takes longer than a minute")
