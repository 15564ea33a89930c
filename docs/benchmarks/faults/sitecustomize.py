"""One fault in one rank of a training, for `rank_faults.py`, which puts this folder on PYTHONPATH.

The variable RANK_FAULT is a JSON object: `rank`, the `module` and the `function` (``Class.method`` or a name) whose call number `call`
starts the fault, `delay` in seconds, `action`, and `mark`, the file that gets the time. An action is a signal such as ``SIGKILL``,
``ENOSPC``, ``NaN``, or empty. Python imports this module at its start. Without the variable it does nothing.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class Fault:
    """A finder of modules that lets the fault happen in the module which it names."""

    def __init__(self, rank: int, module: str, function: str, call: int, delay: float, action: str, mark: str) -> None:
        self.rank, self.module, self.function, self.left = rank, module, function, call
        self.delay, self.action, self.mark = delay, action, Path(mark)

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of the module with the fault, whose code runs as usual before its function is replaced."""
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.replace(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def replace(self, module: ModuleType) -> None:
        """Replace the function in its module or class."""
        owner: Any = module
        *parents, name = self.function.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        real: Callable[..., Any] = getattr(owner, name)

        def function(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if not self.left:
                args = self.happen(args)
            return real(*args, **options)

        setattr(owner, name, function)

    def happen(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Send the signal to this process after the delay, raise the error of a full disk, or make the images NaN."""
        self.mark.write_text(str(time.time()), "ascii")
        if self.action == "ENOSPC":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.action == "NaN":
            next(value for value in args if hasattr(value, "is_floating_point") and value.is_floating_point()).fill_(float("nan"))
            return args
        if not self.action:
            return args
        number = signal.Signals[self.action]
        if self.delay:
            threading.Timer(self.delay, os.kill, (os.getpid(), number)).start()
        else:
            os.kill(os.getpid(), number)
        return args


if "RANK_FAULT" in os.environ:
    fault = Fault(**json.loads(os.environ["RANK_FAULT"]))
    if os.environ.get("RANK") == str(fault.rank) and not fault.mark.exists():
        sys.meta_path.insert(0, fault)  # type: ignore[arg-type]
