from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cnnkit.cli import ranks
from cnnkit.errors import ConfigError

SMALL = ("--set", "width=4", "--set", "blocks=2", "--set", "dense=8", "--precision", "fp32", "--batch-size", "24", "--image-size", "16")
CNNKIT = (sys.executable, "-m", "cnnkit")
FAULTS = Path(__file__).resolve().parents[2] / "docs/benchmarks/faults"  # the folder with the module that makes faults
LIMIT = 90  # seconds that a test waits for the ranks; they usually take a few


class Running:
    """A command that runs beside the test, with its stderr in a file."""

    def __init__(self, command: tuple[object, ...], name: str = "stderr", **variables: str) -> None:
        self.file = Path(name)
        with self.file.open("w") as file:
            environment = {**os.environ, **variables}
            self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=file, text=True, env=environment)

    @property
    def err(self) -> str:
        return self.file.read_text("utf-8")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + LIMIT
        while text not in self.err:
            assert self.process.poll() is None, self.err
            assert time.monotonic() < end, self.err
            time.sleep(0.05)

    def rank(self, number: int) -> psutil.Process:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in children if child.environ().get("RANK") == str(number) and "cnnkit" in " ".join(child.cmdline()))

    def end(self) -> tuple[int, str, str]:
        out, _ = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, out, self.err


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Yield the class `Running`, whose processes end with the test."""
    started: list[Running] = []

    def run(*arguments: Any, **variables: str) -> Running:
        started.append(Running(*arguments, **variables))
        return started[-1]

    yield run
    for running in started:
        if running.process.poll() is None:
            for child in psutil.Process(running.process.pid).children(recursive=True):
                child.kill()
            running.process.kill()
        running.process.communicate()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--devices", "two"), "--devices two: expected a number of ranks such as 4, numbers of GPUs such as 0,1, or ranks on the CPU"),
        (
            ("--devices", "cpu:2", "--device", "cuda"),
            "--devices cpu:2: these are ranks on cpu, but --device is cuda; leave one of them out",
        ),
        (("--devices", "0,1"), "--devices 0,1: torch finds no CUDA GPU here; for ranks on the CPU type --devices cpu:2"),
    ],
)
def test_ranks_that_cannot_start_are_refused(cli, image_folder, flags, message):
    result = cli("train", "--data", image_folder(images=4), *flags)
    assert result.code == 2
    assert message in result.err.replace("\n", " ")


def test_ranks_of_torchrun_start_no_others(cli, image_folder, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    result = cli("train", "--data", image_folder(images=4), "--devices", "cpu:2")
    assert result.code == 2
    assert "--devices cpu:2: this process is rank 1 of 2 already" in result.err


def test_a_command_that_shares_no_work_is_refused_under_torchrun(monkeypatch):
    ranks.check_command("tune")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setenv("WORLD_SIZE", "4")
    ranks.check_command("resume")
    with pytest.raises(
        ConfigError,
        match=r"cnnkit eval: torchrun has started 4 processes, which only share the work of train, resume, rerun; use one process",
    ):
        ranks.check_command("eval")


def test_torch_prints_no_stack_for_a_lost_rank(monkeypatch):
    name = "TORCH_CPP_LOG_LEVEL"
    monkeypatch.setenv(name, "INFO")
    ranks.check_command("train")
    monkeypatch.delenv(name)
    ranks.check_command("train")
    assert name not in os.environ, "one process keeps torch's messages"
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    ranks.check_command("train")
    assert os.environ[name] == "ERROR"


def test_one_device_is_one_process(cli, image_folder):
    result = cli("train", "--data", image_folder(images=8), "--devices", "cpu:1", "--epochs", 1, *SMALL)
    assert result.code == 0, result.err
    assert "batches of 24; best epoch" in result.err


@pytest.mark.slow
def test_two_ranks_print_once_and_write_one_run(start, image_folder, cli):
    running = start((*CNNKIT, "train", "--data", image_folder(images=24), "--devices", "cpu:2", "--epochs", 2, *SMALL))
    code, out, err = running.end()
    assert code == 0, err
    assert "batches of 24 (12 on each of 2 ranks); best epoch" in err
    assert err.count("train loss") == 1
    assert err.count("2/2") == 1
    assert out.count("run directory runs/001-custom-cnn") == 1
    record = json.loads(Path("runs/001-custom-cnn/config.json").read_text())
    assert (record["status"], record["ranks"], record["config"]["run"]["device"]) == ("finished", 2, "cpu")
    assert "--devices" in record["command"]
    assert cli("eval", "--split", "val").code == 0
    code, out, err = start((*CNNKIT, "rerun", "runs/001-custom-cnn", "--devices", "cpu:2"), "repeated").end()
    assert code == 0, err
    assert "the repetition has the same figures in all 2 epochs, and the model files are bit-equal" in out


@pytest.mark.slow
def test_an_error_is_printed_once(start):
    code, out, err = start((*CNNKIT, "train", "--data", "nowhere", "--devices", "cpu:2", *SMALL)).end()
    assert (code, out) == (2, "")
    assert err.count("--data nowhere: no such file or folder") == 1


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_after_the_death_of_a_rank_another_number_of_ranks_continues(start, image_folder, read_rows, killed):
    running = start((*CNNKIT, "train", "--data", image_folder(images=24), "--devices", "cpu:2", "--epochs", 40, "--patience", 0, *SMALL))
    running.wait_for("2/40")
    running.rank(killed).kill()
    began = time.monotonic()
    code, _, err = running.end()
    assert time.monotonic() - began < 30
    assert code == 3, err
    assert f"rank {killed} (process" in err or f"rank {killed} of 2 ended without a word" in err
    assert "cnnkit resume" in err
    assert "Traceback" not in err
    run = Path("runs/001-custom-cnn")
    code, _, err = start((*CNNKIT, "resume", run, "--devices", "cpu:3"), "resumed").end()
    assert code == 0, err
    assert [int(row["epoch"]) for row in read_rows(run / "history.csv")] == list(range(1, 41))
    assert json.loads((run / "config.json").read_text())["ranks"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_the_epochs(start, image_folder, number, code):
    running = start((*CNNKIT, "train", "--data", image_folder(images=24), "--devices", "cpu:2", "--epochs", 400, "--patience", 0, *SMALL))
    running.wait_for("2/400")
    running.process.send_signal(number)
    ended, _, err = running.end()
    assert ended == code, err
    assert err.count("next: cnnkit resume runs/001-custom-cnn") == 1
    assert "Traceback" not in err
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["status"] == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "function", "action", "code", "message"),
    [
        ("1 of 2", "cnnkit.engine.step Step._backward 4", "NaN", 3, "the loss became nan in epoch 2 at step 4"),
        ("0 of 2", "cnnkit.files.whole flush 22", "ENOSPC", 3, "error runs/001-custom-cnn/"),
        ("1 of 2", "cnnkit.engine.ranks Ranks.machine_first 1", "SIGTERM", 143, ""),
        ("1 of 4", "cnnkit.engine.step Step.update 4", "SIGKILL", 3, "rank 1 of 4 ended without a word"),
    ],
)
def test_after_a_fault_of_one_rank_all_end_with_its_message(start, image_folder, rank, function, action, code, message):
    number, _, world = rank.split()
    module, name, call = function.split()
    fault = {"rank": int(number), "module": module, "function": name, "call": int(call), "delay": 0, "action": action}
    fault["mark"] = str(Path("mark").absolute())
    command = (*CNNKIT, "train", "--data", image_folder(images=24), "--devices", f"cpu:{world}", "--epochs", 40, "--patience", 0, *SMALL)
    path = os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")])
    ended, _, err = start(command, RANK_FAULT=json.dumps(fault), PYTHONPATH=path).end()
    assert Path("mark").exists()
    assert ended == code, err
    assert message in " ".join(err.split())
    assert err.count("error ") == (code == 3), err
    assert "Traceback" not in err
    assert "next:" not in err


@pytest.mark.slow
def test_torchrun_starts_dead_ranks_again_and_they_continue_their_run(start, image_folder, read_rows):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--max-restarts", 1)
    command = ("-m", "cnnkit", "train", "--data", image_folder(images=24), "--epochs", 40, "--patience", 0, *SMALL)
    running = start((*torchrun, *command), GLOO_SOCKET_IFNAME="lo")
    running.wait_for("2/40")
    running.rank(1).kill()
    code, _, err = running.end()
    assert code == 0, err
    assert "started again by torchrun or SLURM: continuing runs/001-custom-cnn after epoch" in err
    assert [path.name for path in Path("runs").iterdir()] == ["001-custom-cnn"]
    assert [int(row["epoch"]) for row in read_rows("runs/001-custom-cnn/history.csv")] == list(range(1, 41))


@pytest.mark.slow
def test_srun_ranks_join_each_other_and_end_together(start, image_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "MASTER_PORT": port}
    shared |= {"SLURM_STEP_NODELIST": "localhost", "GLOO_SOCKET_IFNAME": "lo"}
    command = (*CNNKIT, "train", "--data", image_folder(images=24), "--epochs", 400, "--patience", 0, *SMALL)
    first, second = (start(command, f"rank{rank}", **shared, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in range(2))
    first.wait_for("2/400")
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["launch"] == "slurm:7.0"
    second.process.send_signal(signal.SIGTERM)  # as before the end of the time of a job
    assert second.end() == (143, "", "")
    code, _, err = first.end()
    assert code == 143, err
    assert "next: cnnkit resume runs/001-custom-cnn" in err
