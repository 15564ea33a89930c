"""The start of several ranks on this machine by torch's launcher, and the exit code that sums up theirs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnnkit.errors import ConfigError, TrainingStoppedError, shell_path

REPORT_VARIABLE = "CNNKIT_RANKS_REPORT"  # the folder of the files of a `Report`, by their names
FORMS = "a number of ranks such as 4, numbers of GPUs such as 0,1, or ranks on the CPU such as cpu:2"


@dataclass(frozen=True)
class Devices:
    """The value of ``--devices``: the number of ranks, and the numbers of their GPUs or the kind of their device, if it names them."""

    count: int
    kind: str = ""
    gpus: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Devices:
        """Read ``4``, ``0,1`` or ``cpu:2``; raises `ConfigError` for anything else."""
        kind, colon, number = text.strip().lower().rpartition(":")
        words = number.removesuffix(",").split(",")
        if not all(word.strip().isdecimal() for word in words) or kind not in {"", "cpu", "cuda"} or bool(kind) != bool(colon):
            raise ConfigError(f"--devices {text}: expected {FORMS}")
        numbers = [int(word) for word in words]
        if "," in number:
            if kind == "cpu" or len(set(numbers)) < len(numbers):
                raise ConfigError(f"--devices {text}: numbers with commas are different GPUs, such as 0,1; for ranks on the CPU type cpu:2")
            return cls(len(numbers), "cuda", tuple(numbers))
        if not numbers[0]:
            raise ConfigError(f"--devices {text}: a training needs at least one rank; for the GPU with number 0 alone type --devices 0,")
        return cls(numbers[0], kind)

    def __str__(self) -> str:
        return ",".join(map(str, self.gpus)) or f"{self.kind}{':' if self.kind else ''}{self.count}"

    def check(self, device: str) -> None:
        """Raise `ConfigError` unless `device`, the device of the training, can have these ranks here; auto is the fastest one here."""
        import torch

        from cnnkit.engine.runtime import choose_device, usable_devices

        found = torch.cuda.device_count() if usable_devices()["cuda"] else 0
        if device == "cuda" and not found:
            raise ConfigError(f"--devices {self}: torch finds no CUDA GPU here; for ranks on the CPU type --devices cpu:{self.count}")
        kind = choose_device(device).type
        if kind == "mps" and self.count > 1:
            raise ConfigError(f"--devices {self}: a Mac has one GPU; leave it out, or type --devices cpu:{self.count}")
        if kind == "cuda" and (self.count > found or any(gpu >= found for gpu in self.gpus)):
            raise ConfigError(f"--devices {self}: this machine has {found} GPUs, numbered from 0; type --devices {found}")


@dataclass(frozen=True)
class LaunchEnd:
    """The end of a launch: the exit code, and the cause if no rank has printed it."""

    code: int
    cause: str = ""


@dataclass(frozen=True)
class Report:
    """The notes of the ranks for their launcher: the exit `code` of the failure that a rank has printed, and the path of the `run`."""

    code: int | None = None
    run: str = ""

    @classmethod
    def read(cls, folder: Path) -> Report:
        """Return the notes in `folder`."""
        code, run = folder / "code", folder / "run"
        return cls(int(code.read_text("ascii")) if code.exists() else None, run.read_text("utf-8") if run.exists() else "")


def report(name: str, value: object) -> None:
    """Note the field `name` of the `Report`, if `launch` has started this process."""
    if folder := os.environ.get(REPORT_VARIABLE):
        with suppress(OSError):
            (Path(folder) / name).write_text(str(value), "utf-8")


def launch(arguments: Sequence[str], devices: Devices) -> LaunchEnd:
    """Start the command ``cnnkit arguments...`` in one process for each rank, wait for all of them, and sum up their exit codes.

    The ranks have a session of their own, so a Ctrl-C reaches this process only, which passes it on.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _keep_ignoring()
    logging.disable(logging.ERROR)  # torch's launcher: the ranks and this process say what happens
    with TemporaryDirectory(prefix="cnnkit-ranks-") as folder:
        os.environ.update(_environment(devices, Path(folder)))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices.count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
        )
        safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]  # the ranks import cnnkit as this process did
        try:
            elastic_launch(config, sys.executable)(*safe, "-m", "cnnkit", *arguments)
        except SignalException as stop:
            return LaunchEnd(128 + int(stop.sigval))
        except ChildFailedError as error:
            return sum_up(error.failures, Report.read(Path(folder)))
        finally:
            logging.disable(logging.NOTSET)
    return LaunchEnd(0)


def sum_up(failures: Mapping[int, Any], noted: Report) -> LaunchEnd:
    """Return the end of a launch with the `failures` of ranks (torch's ``ProcessFailure``) and the notes of the ranks.

    If no rank has noted an exit code, the first rank that a signal ended is the cause. A SIGTERM is the cause only if all ranks ended by
    it, because the launcher itself ends the other ranks by it.
    """
    if noted.code is not None:
        return LaunchEnd(noted.code)
    for rank, failure in sorted(failures.items(), key=lambda item: item[1].timestamp):
        number = -failure.exitcode
        if number > 0 and (number != signal.SIGTERM or all(other.exitcode == -number for other in failures.values())):
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            hint = ", as the system does when the memory is full" if name == "SIGKILL" else ""
            cause = f"rank {rank} (process {failure.pid}) was ended by {name}{hint}; {_way_on(noted.run)}"
            return LaunchEnd(128 + number if number == signal.SIGTERM else TrainingStoppedError.exit_code, cause)
    codes = [failure.exitcode for failure in failures.values() if failure.exitcode > 0]
    return LaunchEnd(codes[0] if codes else TrainingStoppedError.exit_code, "" if codes else "the ranks were ended from outside")


def _way_on(run: str) -> str:
    """Return how to continue a training in the directory `run`, empty if it was not made."""
    if not run:
        return "no training had begun; type the command again"
    return f"the saved epochs are kept; type: cnnkit resume {shell_path(run)}"


def _keep_ignoring() -> None:
    """Block SIGHUP if the parent process has switched it off, as nohup does: torch's launcher would handle it again."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def _environment(devices: Devices, folder: Path) -> dict[str, str]:
    """Return the environment variables of the ranks."""
    from cnnkit.engine.joining import usable_cores

    found = {
        REPORT_VARIABLE: str(folder),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, usable_cores() // devices.count))),
    }
    if sys.platform == "linux":
        found["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    if devices.gpus:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(visible[gpu] if visible else str(gpu) for gpu in devices.gpus)
    return found
