"""The fence: prints on stderr, errors as one sentence with package and version, Ctrl-C free to pass."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from cnnkit.errors import DataError, PluginError
from cnnkit.registry import Entry, fence, fenced

ENTRY = Entry("cnnkit.sources", "mine", "acme:mine", "acme", "1.2")


class NamelessError(BaseException):
    """An error whose message is another error."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad\nvalue"), "ValueError: bad value"),
        (SystemExit(0), r"it ends the program \(SystemExit: 0\)"),
        (SystemExit(), r"it ends the program \(SystemExit\)"),
        (GeneratorExit(), "GeneratorExit"),
        (MemoryError(), "MemoryError"),
        (NamelessError(), "NamelessError: its message cannot be read"),
        (ValueError("x" * 10_000), "ValueError: x{499}…"),
        (ConnectionError("no server at https://me:secret@host"), r"ConnectionError: no server at https://me:\*\*\*@host"),
    ],
)
def test_every_error_becomes_one_sentence_with_package_and_version(error: BaseException, message: str) -> None:
    with (
        pytest.raises(PluginError, match=rf"^source 'mine' of acme 1\.2 does not load: {message}; reinstall or uninstall acme$") as refused,
        fence(ENTRY, "does not load"),
    ):
        raise error
    assert refused.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("mine"), KeyError("allowed")])
def test_ctrl_c_deliberate_and_allowed_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, fence(ENTRY, "does not load", allowed=(KeyError,)):
        raise error
    assert passed.value is error


def test_a_print_goes_to_stderr_and_a_replaced_stream_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with fence(ENTRY, "prints"):
        sys.stdout.write("inside\n")
        sys.stdout = sys.stderr = io.StringIO()
    assert (sys.stdout, sys.stderr) == before
    sys.stdout.write("outside\n")
    assert capsys.readouterr() == ("outside\n", "inside\n")


def test_stdout_comes_back_after_many_threads(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout

    def work(number: int) -> None:
        with fence(ENTRY, "prints"):
            sys.stdout.write(f"{number}\n")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(200)))
    assert sys.stdout is before
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 200)


def test_a_fenced_function_keeps_its_name() -> None:
    def read() -> NoReturn:
        """Read."""
        raise SystemExit(3)

    guarded = fenced(ENTRY, "cannot read", read)
    assert (guarded.__name__, guarded.__doc__) == ("read", "Read.")
    with pytest.raises(PluginError, match=r"source 'mine' of acme 1\.2 cannot read: it ends the program"):
        guarded()
