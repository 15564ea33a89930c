from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest


def test_version(cli):
    assert cli("--version").out.strip() == f"cnnkit {metadata.version('cnnkit')}"


@pytest.mark.parametrize("command", ["train", "resume", "eval", "predict", "export", "archs"])
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
