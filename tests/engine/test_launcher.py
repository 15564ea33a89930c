from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cnnkit.engine.launcher import REPORT_VARIABLE, Devices, LaunchEnd, Report, _environment, report, sum_up
from cnnkit.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("4", Devices(4)),
        ("cpu:2", Devices(2, "cpu")),
        ("cuda:2", Devices(2, "cuda")),
        ("0,1", Devices(2, "cuda", (0, 1))),
        ("2,", Devices(1, "cuda", (2,))),
    ],
)
def test_the_forms_of_devices(text, devices):
    assert Devices.parse(text) == devices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "--devices x: expected a number of ranks such as 4, numbers of GPUs such as 0,1, or ranks on the CPU such as cpu:2"),
        ("cpu:", "--devices cpu:: expected a number of ranks"),
        ("tpu:2", "--devices tpu:2: expected a number of ranks"),
        ("0", "--devices 0: a training needs at least one rank"),
        ("1,1", "--devices 1,1: numbers with commas are different GPUs"),
        ("cpu:0,1", "--devices cpu:0,1: numbers with commas are different GPUs, such as 0,1; for ranks on the CPU type cpu:2"),
    ],
)
def test_other_forms_are_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        Devices.parse(text)
    assert str(caught.value).startswith(message)


def test_ranks_on_missing_gpus_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"--devices 0,1: torch finds no CUDA GPU here; for ranks on the CPU type --devices cpu:2"):
        Devices.parse("0,1").check("cuda")
    Devices.parse("8").check("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Devices.parse("2").check("auto")
    with pytest.raises(ConfigError, match=r"--devices 1,2: this machine has 2 GPUs, numbered from 0; type --devices 2"):
        Devices.parse("1,2").check("cuda")


def failure(code: int, pid: int = 7, at: int = 0) -> SimpleNamespace:
    return SimpleNamespace(exitcode=code, pid=pid, timestamp=at)


def test_the_end_of_a_launch_is_the_exit_code_of_the_rank_that_reported():
    assert sum_up({0: failure(-15), 1: failure(2)}, Report(2)) == LaunchEnd(2)


def test_a_killed_rank_is_the_cause():
    end = sum_up({0: failure(143), 1: failure(-9, pid=77), 2: failure(-15)}, Report(run="runs/001 a"))
    assert end.code == 3
    assert end.cause.startswith("rank 1 (process 77) was ended by SIGKILL, as the system does when the memory is full; ")
    assert end.cause.endswith("the saved epochs are kept; type: cnnkit resume 'runs/001 a'")


def test_a_rank_that_was_killed_before_the_training_leaves_nothing_to_resume():
    end = sum_up({1: failure(-11)}, Report())
    assert end == LaunchEnd(3, "rank 1 (process 7) was ended by SIGSEGV; no training had begun; type the command again")


def test_the_launcher_reads_the_notes_of_the_ranks(tmp_path, monkeypatch):
    monkeypatch.delenv(REPORT_VARIABLE, raising=False)
    report("code", 3)
    assert Report.read(tmp_path) == Report()
    monkeypatch.setenv(REPORT_VARIABLE, str(tmp_path))
    report("code", 3)
    report("run", Path("runs/äöü"))
    assert Report.read(tmp_path) == Report(3, "runs/äöü")


def test_ranks_that_were_interrupted_give_their_exit_code():
    assert sum_up({0: failure(143), 1: failure(143)}, Report()) == LaunchEnd(143)
    assert sum_up({0: failure(-15), 1: failure(-15)}, Report()) == LaunchEnd(
        143, "rank 0 (process 7) was ended by SIGTERM; no training had begun; type the command again"
    )


def test_the_ranks_share_the_cores_and_see_their_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    found = _environment(Devices.parse("0,2"), tmp_path)
    assert found["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert int(found["OMP_NUM_THREADS"]) >= 1
    assert found["CNNKIT_RANKS_REPORT"] == str(tmp_path)


def test_a_signal_that_nohup_has_switched_off_stays_off():
    script = """if True:
        import signal
        from cnnkit.engine.launcher import _keep_ignoring
        _keep_ignoring()
        assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _keep_ignoring()
        signal.signal(signal.SIGHUP, lambda *_: exit(7))  # as torch's launcher does
        signal.raise_signal(signal.SIGHUP)
    """
    subprocess.run([sys.executable, "-c", script], check=True)
