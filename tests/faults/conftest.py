"""A layer between cnnkit and the system: it numbers the calls that change files below a folder, logs them, and lets one of them fail.

The layer replaces functions of Python, so it sees the calls of this process only.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KILLED = 99  # the exit code of a process that the layer ends, as SIGKILL does: nothing is flushed and no handler runs
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
ACTIONS = ("before", "after", *ERRORS)


@dataclass
class SystemCalls:
    """The calls below `folder`; call number `target`, counted from 1, is ended ``before`` or ``after`` it, or raises an error."""

    folder: Path
    target: int = 0
    action: str = ""
    log: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    count: int = 0

    def step(self, kind: str, do: Callable[[], Any], *paths: Any) -> Any:
        names = [os.path.abspath(os.fsdecode(path)) for path in paths]  # noqa: PTH100 (a link stays a link)
        if not names[0].startswith(f"{self.folder}{os.sep}") and names[0] != str(self.folder):
            return do()
        self.count += 1
        is_target = self.count == self.target
        if is_target and self.action == "before":
            os._exit(KILLED)
        if is_target and self.action in ERRORS:
            number = ERRORS[self.action]
            raise OSError(number, os.strerror(number), *([str(paths[0])] if kind not in {"write", "fsync"} else []))
        result = do()
        self.log.append((kind, *(os.path.relpath(name, self.folder) for name in names)))
        if is_target and self.action == "after":
            os._exit(KILLED)
        return result

    @contextmanager
    def installed(self) -> Generator[None]:
        """Let the calls of the body pass through this layer."""
        calls, whole_open, names = self, io.open, dict[int, str]()

        class Raw(io.FileIO):
            def write(self, data: Any, /) -> int:
                return calls.step("write", lambda: io.FileIO.write(self, data), self.name)

        def open_file(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set("wax+") & set(mode) or not calls.is_below(file):
                return whole_open(file, mode, *args, **options)
            raw = calls.step("open", lambda: Raw(file, mode.replace("b", "").replace("t", "")), file)
            buffered = io.BufferedWriter(raw)
            names[raw.fileno()] = str(file)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, options.get("encoding"), options.get("errors"), options.get("newline"))

        def open_handle(path: Any, *args: Any, **options: Any) -> int:
            handle = os_functions["open"](path, *args, **options)
            names[handle] = str(path)
            return handle

        def named(kind: str) -> Callable[..., Any]:
            return lambda *paths, **options: calls.step(
                kind, lambda: os_functions[kind](*paths, **options), *paths[: 1 + (kind in TWO_PATHS)]
            )

        kinds = ("replace", "rename", "unlink", "mkdir", "link")
        os_functions = {kind: getattr(os, kind) for kind in (*kinds, "open", "fsync")}
        with pytest.MonkeyPatch.context() as patch:
            for kind in kinds:
                patch.setattr(os, kind, named(kind))
            patch.setattr(os, "open", open_handle)
            patch.setattr(os, "fsync", lambda handle: calls.step("fsync", lambda: os_functions["fsync"](handle), names.get(handle, "/")))
            patch.setattr(io, "open", open_file)
            patch.setattr(builtins, "open", open_file)
            yield

    def is_below(self, file: Any) -> bool:
        return os.path.abspath(os.fsdecode(file)).startswith(f"{self.folder}{os.sep}")  # noqa: PTH100 (a link stays a link)


TWO_PATHS = ("replace", "rename", "link")


def unsafe_writes(log: list[tuple[str, ...]]) -> list[str]:
    """Return each file in `log` that a power failure could leave cut off, mixed or without its name.

    A file is safe if it is written under a temporary name and flushed, then renamed, and its folder is flushed after that.
    """
    found: list[str] = []
    dirty, renamed = set[str](), dict[str, str]()  # files with unflushed content; folders with unflushed names
    for kind, first, *rest in log:
        if kind in {"open", "write"} and first != ".lock":
            dirty.add(first)
            if not first.endswith(".part"):
                found.append(f"{first} is written in place")
        elif kind == "fsync":
            dirty.discard(first)
            renamed = {name: folder for name, folder in renamed.items() if folder != first}
        elif kind in TWO_PATHS:
            if first in dirty:
                found.append(f"{rest[0]} is renamed before its content is flushed")
            dirty.discard(first)
            renamed[rest[0]] = str(Path(rest[0]).parent)
        elif kind == "unlink":
            dirty.discard(first)
    return [*dict.fromkeys(found), *(f"the folder of {name} is not flushed" for name in renamed)]


def in_child(act: Callable[[], object], errors: Path) -> int:
    """Run `act` in a fork of this process, with stderr in the file `errors`; return its exit code, 1 after a traceback."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads of pytest, which the child does not use
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        import sys
        import traceback

        sys.stderr = sys.stdout = errors.open("w", buffering=1, encoding="utf-8")
        try:
            done = act()
            code = done if isinstance(done, int) else 0
        except BaseException:  # noqa: BLE001 (the parent reads it)
            traceback.print_exc()
    finally:
        os._exit(code)


@pytest.fixture(scope="module")
def small_job() -> Callable[..., Any]:
    """Return a function that prepares a short training of a small network in the folder `base`."""

    def prepared(base: Path, data: Path, *, epochs: int) -> Any:
        from cnnkit.api.training.prepare import prepare
        from cnnkit.config.recipe import resolve
        from cnnkit.config.settings import by_section

        flags = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16, "epochs": epochs, "patience": 0}
        return prepare(resolve(by_section({"data": str(data), "out": base / "runs", **flags})))

    return prepared


@pytest.fixture
def system_calls() -> type[SystemCalls]:
    """Return the layer."""
    return SystemCalls


@pytest.fixture
def unsafe() -> Callable[[list[tuple[str, ...]]], list[str]]:
    """Return the check of a log for a power failure."""
    return unsafe_writes


@pytest.fixture
def forked(request: pytest.FixtureRequest) -> Callable[[Callable[[], object], Path], int]:
    """Return a function that runs another function in a fork.

    A fork cannot train once a test has started threads of autograd in this process. The test then runs in a process of its own.
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    if in_child(_backward, Path(os.devnull)):
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow", request.node.nodeid]
        done = subprocess.run(command, cwd=request.config.rootpath, env=alone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        pytest.skip("passed in a process of its own")
    return in_child


def _backward() -> None:
    import torch

    torch.ones(1, requires_grad=True).sum().backward()
