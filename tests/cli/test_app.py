from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cnnkit.cli.interruption import InterruptedBySignal


def test_version(cli):
    assert cli("--version").out.strip() == f"cnnkit {metadata.version('cnnkit')}"


@pytest.mark.parametrize("command", ["train", "resume", "rerun", "eval", "predict", "export", "archs"])
def test_every_command_has_help(cli, command):
    result = cli(command, "--help")
    assert result.code == 0
    assert "--help" in result.out


def test_an_unknown_command_or_flag_is_a_usage_error(cli):
    assert cli("trian").code == 2
    result = cli("train", "--learning-rate", "1")
    assert result.code == 2
    assert "No such option" in result.err


def test_an_error_has_a_traceback_only_with_debug(cli):
    plain, debug = cli("train", "--data", "nowhere"), cli("train", "--data", "nowhere", "--debug")
    assert plain.code == debug.code == 2
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert "DataError" in debug.err


def test_brackets_in_a_message_are_not_markup(cli):
    assert "--data [red]x[/red]: no such folder" in cli("train", "--data", "[red]x[/red]").err


@pytest.mark.parametrize(("end", "code", "error"), [("return 3", 3, ""), ("raise KeyError('lost')", 1, "KeyError: 'lost'")])
def test_the_installed_command_runs_exit_functions_and_returns_its_code(end, code, error):
    program = (
        "import atexit, threading, time\n"
        "from cnnkit.cli import app\n"
        "def main():\n"
        "    atexit.register(print, 'registered')\n"
        "    threading.Thread(target=lambda: time.sleep(0.2) or print('thread')).start()\n"
        f"    {end}\n"
        "app.main = main\n"
        "app.entry()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == "thread\nregistered\n"
    assert error in done.stderr
    assert ("Traceback" in done.stderr) is bool(error)


@pytest.mark.parametrize("command", [("archs",), ("archs", "--json"), ("train", "--help")])
def test_a_full_disk_behind_stdout_is_an_error(command):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-m", "cnnkit", *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines() == ["error   the output: No space left on device; free some space, and type the command again"]


@pytest.mark.parametrize("command", [("archs",), ("archs", "--json"), ("train", "--help")])
def test_a_reader_of_stdout_that_has_gone_ends_a_command_quietly(command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "cnnkit", *command], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), BrokenPipeError()])
def test_a_terminal_that_hangs_up_takes_no_message_and_keeps_the_exit_code(cli, monkeypatch, fault):
    def hang_up(*_: object) -> None:
        try:
            raise InterruptedBySignal(signal.SIGHUP)
        except KeyboardInterrupt:
            raise fault from None

    monkeypatch.setattr("cnnkit.cli.archs._entries", hang_up)
    assert cli("archs").code == 129


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "runs/a: No space left on device; free some space"),
        (OSError(errno.EIO, "Input/output error"), "the output: Input/output error; --debug shows where it happened"),
        (MemoryError(), "the memory is full; close other programs"),
    ],
)
def test_faults_of_the_system_stop_a_command_with_a_message(cli, monkeypatch, fault, message):
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("cnnkit.cli.archs._entries", fail)
    result = cli("archs")
    assert result.code == 3
    assert message in result.err
    assert "Traceback" not in result.err
    assert "Traceback" in cli("archs", "--debug").err


def test_a_traceback_has_no_password(cli) -> None:
    result = cli("split", "https://me:se/cret@host/a.tar", "--debug")
    assert (result.code, "Traceback" in result.err, "cret@" in result.err) == (2, True, False)
    assert "https://me:***@host/a.tar" in result.err


def test_semaphores_are_removed_even_if_multiprocessing_was_imported_first():
    script = (
        "import multiprocessing.util, multiprocessing, sys; sys.argv = ['cnnkit', 'archs']; from cnnkit.cli.app import entry; "
        "lock = multiprocessing.get_context('spawn').RLock(); entry()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "leaked" in done.stderr) == (0, False), done.stderr
