"""The loading of plugins in a process of its own: a crash, an endless import or a print of one of them disturbs nobody.

The process imports the entries in order and writes one line of JSON for each. If it ends or hangs, the entry in turn is the cause, and a
new process goes on with the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from inspect import unwrap
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any, TextIO

from cnnkit.architecture import Architecture, build_keywords, parse_options
from cnnkit.registry import Entry, load_problem

MAX_SECONDS = 180.0  # for one entry; the import of torch on a busy machine with a cold disk takes 30
MAX_PRINTED = 200  # characters of what a plugin prints
_START = """
import json, sys
task = json.load(sys.stdin)
sys.path[:] = task["path"]
from cnnkit.api.plugins.load_process import serve
serve(task)
"""


@dataclass(frozen=True)
class Loaded:
    """The result of loading one entry: the problem or None, and the first characters that it wrote to stdout."""

    problem: str | None
    printed: str = ""


def load_apart(entries: Sequence[Entry], *, run: bool = False, limit: float = MAX_SECONDS) -> list[Loaded]:
    """Load each of `entries` in another process, and return the results in order.

    With `run`, the network of an architecture is also built and run once with its defaults, so that its prints show up. Each entry has
    `limit` seconds.
    """
    results: list[Loaded] = []
    while len(results) < len(entries):
        rest = entries[len(results) :]
        found, end = _results(rest, run=run, limit=limit)
        results += found
        if len(found) < len(rest):
            culprit = rest[len(found)]
            results.append(Loaded(f"{culprit.described} {end}; reinstall or uninstall {culprit.package}"))
    return results


def _results(entries: Sequence[Entry], *, run: bool, limit: float) -> tuple[list[Loaded], str]:
    """Return the results of one process, and the way it ended before the rest of `entries`."""
    task = {"path": sys.path, "entries": [asdict(entry) for entry in entries], "run": run}
    with subprocess.Popen(  # noqa: S603 (this interpreter)
        [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as process:
        lines: Queue[str] = Queue()
        assert process.stdin is not None  # noqa: S101 (a pipe, see above)
        assert process.stdout is not None  # noqa: S101
        Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        with suppress(BrokenPipeError):  # the process ended at once
            process.stdin.write(json.dumps(task))
            process.stdin.close()
        found: list[Loaded] = []
        try:
            while len(found) < len(entries):
                line = lines.get(timeout=limit)
                if not line:
                    return found, _way_of_end(process.wait())
                found.append(Loaded(**json.loads(line)))
        except Empty:
            return found, f"does not load within {limit:g} s"
        finally:
            process.kill()
    return found, ""


def _pass_on(stream: IO[str], lines: Queue[str]) -> None:
    """Put the lines of `stream` into `lines`, and an empty text at the end."""
    for line in stream:
        lines.put(line)
    lines.put("")


def _way_of_end(code: int) -> str:
    name = ""
    with suppress(ValueError):
        name = f" by {signal.Signals(-code).name}" if code < 0 else ""
    return f"ends the process while it is loaded{name or f' with exit code {code}'}"


def serve(task: dict[str, Any]) -> None:
    """Load the entries of `task` in this process, and write a line of JSON for each to the stdout it started with."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for values in task["entries"]:
        entry = Entry(**values)
        with _recorded_stdout() as printed:
            _load_bare(entry, run=task["run"])
        problem = load_problem(entry.group, entry.full_name)
        _write(results, Loaded(problem, printed.text))
    os._exit(0)  # without the clean-up of the plugins


def _write(results: TextIO, loaded: Loaded) -> None:
    results.write(f"{json.dumps(asdict(loaded))}\n")
    results.flush()


@dataclass
class _Printed:
    text: str = ""


@contextmanager
def _recorded_stdout() -> Generator[_Printed]:
    """Record what the body writes to stdout, by Python or by a library in another language."""
    printed = _Printed()
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 (a descriptor, for the process)
        try:
            yield printed
        finally:
            with suppress(OSError, ValueError):  # the body closed the stream
                sys.stdout.flush()
            file.seek(0)
            printed.text = file.read(4 * MAX_PRINTED).decode("utf-8", "replace").strip()[:MAX_PRINTED]
            os.dup2(2, 1)


def _load_bare(entry: Entry, *, run: bool) -> None:
    """Import the object of `entry` outside the fence, which would hide its prints; `load_problem` reports its errors."""
    with suppress(BaseException):
        found = metadata.EntryPoint(entry.name, entry.value, entry.group).load()
        if run and isinstance(found, Architecture):
            import torch

            chosen = parse_options(found, entry.name, ())
            size = int(chosen.get("image_size") or found.image_size)
            network = unwrap(found.build)(2, 3, **build_keywords(found.build, entry.name, chosen)).eval()
            with torch.no_grad():
                network(torch.zeros(1, 3, size, size))
