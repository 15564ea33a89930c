"""A session of a runtime in a process of its own, with limits on memory and time: an exported file may hold any program.

The process is forked after the import of the runtime, which costs a few milliseconds. It exchanges sizes as JSON and numbers as bytes, so
nothing that it sends can run here. Only Linux limits the memory; systems without a safe fork run the session in this process.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ModelFileError, counted
from cnnkit.files import parse_json

# Four copies of a photo of 100 megapixels in float32 are 4.8 GB, by its number of pixels; the weights of a file have at most 2 GiB.
MAX_MEMORY_BYTES = 2**33
# Chosen: two photos of 12 megapixels take a second with resnet18, see docs/benchmarks/LOG.md, "Prediction alone with drafts".
MAX_SECONDS = 20.0
MAX_GPU_START_SECONDS = 60.0  # chosen: loading CUDA and cuDNN, and the choice of kernels for the first image; not measured yet
MIN_OPENED_BYTES = 10_000_000  # of a file, each second: chosen, as 500 MB took more than 20 s on a busy machine
MAX_SLOWDOWN = 10  # of an image against the slowest one before it, on a machine that gets busy
MAX_HEADER_BYTES = 2**26  # of a message: the metadata of a file, which name its classes
PIPE_BYTES = 2**20  # of a buffer of the system
SIZE_BYTES = 8
STANDARD_STREAMS = 3  # the files 0, 1 and 2 of a process
DTYPES: dict[str, type[np.uint8 | np.float32]] = {"uint8": np.uint8, "float32": np.float32}  # of a batch, by the name in a message
CPU_PROVIDER = "CPUExecutionProvider"
SCORES = ("probabilities", "logits")  # the outputs of which a session returns the first that it has

Batch = NDArray[np.uint8 | np.float32]


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a session as (name, type, shape), the metadata of its file, and the provider that computes."""

    inputs: tuple[tuple[str, str, list[int | str | None]], ...]
    outputs: tuple[tuple[str, str, list[int | str | None]], ...]
    metadata: Mapping[str, str]
    provider: str = CPU_PROVIDER


class Session(Protocol):
    """An open file, as a part of `onnxruntime.InferenceSession`, whose names of types and dimensions other runtimes use too."""

    def run(self, outputs: list[str], inputs: dict[str, Batch], /) -> Any:
        """Return the values of the named outputs."""
        ...

    def get_inputs(self) -> Sequence[Any]:
        """Return the inputs, each with its `name`, `type` and `shape`."""
        ...

    def get_providers(self) -> Sequence[str]:
        """Return the names of the providers, the one that computes first."""
        ...

    def get_outputs(self) -> Sequence[Any]:
        """Return the outputs, each with its `name`, `type` and `shape`."""
        ...

    def get_modelmeta(self) -> Any:
        """Return the facts about the file, with its metadata in `custom_metadata_map`."""
        ...


@dataclass(frozen=True)
class Runtime:
    """A program that runs exported files.

    `package` is the one to install, `module` its name in Python. `file` names its files in words, such as "an ONNX file", and `command`
    writes one. `make` opens the session of a file, after the import of the module; with `on_gpu` it tries a GPU first.
    """

    package: str
    module: str
    file: str
    command: str
    make: Callable[[Path], Session]
    on_gpu: bool = False


def describe(session: Session) -> Interface:
    """Return the interface of a session."""
    inputs, outputs = (
        tuple((node.name, node.type, list(node.shape)) for node in nodes) for nodes in (session.get_inputs(), session.get_outputs())
    )
    return Interface(inputs, outputs, dict(session.get_modelmeta().custom_metadata_map), session.get_providers()[0])


class SessionProcess:
    """A process in which `runtime` opens the session of `path` and runs it.

    Raises `ModelFileError`, here and in `run`, for an error of the session and if it exceeds its memory or its time.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self._path = path
        self._runtime = runtime
        self._start_seconds = (MAX_GPU_START_SECONDS if runtime.on_gpu else MAX_SECONDS) + path.stat().st_size / MIN_OPENED_BYTES
        self._lock = Lock()
        self._pace: float | None = None  # seconds of an image, of the slowest run
        to_child, self._write = os.pipe()
        self._read, to_parent = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child uses the runtime alone
            pid = os.fork()
        if not pid:
            _serve(path, runtime, to_child, to_parent)
        os.close(to_child)
        os.close(to_parent)
        _enlarge(self._write, self._read)
        self._end = weakref.finalize(self, _end, pid, self._write, self._read)
        found, _ = self._receive(self._start_seconds, "to open")
        inputs, outputs = (tuple(map(tuple, found[name])) for name in ("inputs", "outputs"))
        self.interface = Interface(inputs, outputs, found["metadata"], found["provider"])

    def run(self, images: Batch) -> NDArray[np.float32]:
        """Return the output ``probabilities`` or ``logits`` (N, K) for a batch of the one input."""
        with self._lock:
            if self._pace is None and len(images) > 1:  # the first image shows how long an image takes
                return np.concatenate([self._timed(images[:1]), self._timed(images[1:])])
            return self._timed(images)

    def _timed(self, images: Batch) -> NDArray[np.float32]:
        began = time.monotonic()
        if not self._end.alive:
            raise ModelFileError(f"{self._path}: its process has ended; open the file again")
        try:
            _send(self._write, {"shape": images.shape, "dtype": images.dtype.name}, np.ascontiguousarray(images).data)
        except OSError:
            self._fail("its process has ended")
        limit = (MAX_SECONDS if self._pace else self._start_seconds) + MAX_SLOWDOWN * (self._pace or 0) * len(images)
        header, body = self._receive(limit, f"for {counted(len(images))}")
        self._pace = max(self._pace or 0, (time.monotonic() - began) / len(images))
        return np.frombuffer(body, np.float32).reshape(header["shape"])

    def _receive(self, limit: float, task: str) -> tuple[dict[str, Any], bytes]:
        """Return the next message; raise `ModelFileError` for an error, and end the process if none comes within `limit` seconds."""
        try:
            header, body = _receive(self._read, time.monotonic() + limit)
        except TimeoutError:
            self._fail(f"it takes more than {limit:.0f} s {task}; it may never end")
        except (OSError, EOFError, ValueError):
            self._fail(f"its process ended {task}, perhaps for lack of memory")
        if "error" in header:
            if task == "to open" and "alloc" not in str(header["error"]).lower():
                self._end()
                raise ModelFileError(unreadable(self._path, self._runtime, str(header["error"])))
            memory = "alloc" in str(header["error"]).lower()
            reason = f"it needs more memory than the limit of {_memory_limit() / 2**30:.0f} GiB: " if memory else ""
            self._fail(f"{reason}{header['error']}")
        return header, body

    def _fail(self, problem: str) -> NoReturn:
        self._end()
        raise ModelFileError(f"{self._path}: cannot be run: {problem}; write another with: {self._runtime.command}")


class SessionHere:
    """The session of `path` by `runtime`, in this process and without limits, where a process cannot be forked safely."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        try:
            self._session = runtime.make(path)
        except Exception as error:  # onnxruntime has one class per status code, without a common base
            raise ModelFileError(unreadable(path, runtime, _first_line(error))) from error
        self.interface = describe(self._session)

    def run(self, images: Batch) -> NDArray[np.float32]:
        """Return the output ``probabilities`` or ``logits`` (N, K) for a batch of the one input."""
        return _scores(self._session, self.interface, images)


def open_session(path: Path, runtime: Runtime) -> SessionProcess | SessionHere:
    """Open the session of `path` by `runtime`, in a process of its own on Linux; raises `ModelFileError` if it cannot be opened.

    A process that computes on a GPU has no limit on memory, because CUDA takes far more addresses than it uses, and more time to start.
    """
    import_module(runtime.module)  # once for the processes of all sessions, which are forked from this one
    return (SessionProcess if sys.platform == "linux" else SessionHere)(path, runtime)


def unreadable(path: Path, runtime: Runtime, reason: str) -> str:
    """Return the message for a file that `runtime` cannot open for `reason`."""
    known = f"{runtime.package} {_version(runtime)}"
    return f"{path}: not {runtime.file} that {known} can read ({reason}); write one with: {runtime.command}"


def _version(runtime: Runtime) -> str:
    """Return the version of the installed package, or of another one with the same module, such as onnxruntime-gpu."""
    try:
        return version(runtime.package)
    except PackageNotFoundError:
        return str(import_module(runtime.module).__version__)


def _scores(session: Session, interface: Interface, images: Batch) -> NDArray[np.float32]:
    names = [name for name, _, _ in interface.outputs]
    output = next((name for name in SCORES if name in names), names[0])
    return np.asarray(session.run([output], {interface.inputs[0][0]: images})[0], np.float32)


def _serve(path: Path, runtime: Runtime, read: int, write: int) -> NoReturn:
    """Open the session within its memory and run it for each message until the other side closes.

    This function never returns, as this is a copy of the program.
    """
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # they end the program, whose end ends this process; a server works off its queue
            signal.signal(number, signal.SIG_IGN)
        _close_others(read, write)
        if not runtime.on_gpu:
            limit_memory(_memory_limit())
        try:
            session = runtime.make(path)
            found = describe(session)
            _send(write, asdict(found))
            while True:
                header, body = _receive(read, None)
                result = _scores(session, found, np.frombuffer(body, DTYPES[header["dtype"]]).reshape(header["shape"]))
                _send(write, {"shape": result.shape}, np.ascontiguousarray(result).data)
        except EOFError:
            pass
        except BaseException as error:  # noqa: BLE001 (the other side reports it)
            _send(write, {"error": _first_line(error)})
    finally:
        os._exit(0)


def _close_others(*kept: int) -> None:
    """Close all files that this copy of the program holds open, but `kept` and the three standard streams.

    A pipe or a connection ends for its other side when nobody holds it open: the server of `data.store.pool`, which forks the decoding
    processes, waits for that.
    """
    gc.freeze()  # a file object that was collected later would close the number of another file
    first = STANDARD_STREAMS
    for number in sorted(kept):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def limit_memory(size: int) -> None:
    """Let this process allocate `size` bytes beyond what it has; without effect on systems other than Linux."""
    if sys.platform != "linux":
        return
    import resource  # Windows has none

    status = Path("/proc/self/status").read_text("utf-8")
    held = 1024 * int(status.partition("VmData:")[2].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (held + size, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _memory_limit() -> int:
    """Return `MAX_MEMORY_BYTES`, or the memory of the machine if that is less."""
    return min(MAX_MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _enlarge(*pipes: int) -> None:
    import fcntl

    for pipe in pipes:
        with suppress(OSError):  # the system may allow less
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _end(pid: int, *pipes: int) -> None:
    for pipe in pipes:
        os.close(pipe)
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _send(pipe: int, header: Mapping[str, Any], body: memoryview | bytes = b"") -> None:
    """Write one message: the sizes of header and body, the header as JSON, the body."""
    content = memoryview(body).cast("B")
    text = json.dumps(header).encode()
    for part in (len(text).to_bytes(SIZE_BYTES, "little") + len(content).to_bytes(SIZE_BYTES, "little") + text, content):
        remaining = memoryview(part)
        while remaining:
            remaining = remaining[os.write(pipe, remaining) :]


def _receive(pipe: int, deadline: float | None) -> tuple[dict[str, Any], bytes]:
    """Return header and body of the next message; raises `TimeoutError` after `deadline`, `EOFError` at the end of the pipe."""
    sizes = _read(pipe, 2 * SIZE_BYTES, deadline)
    text, content = (int.from_bytes(sizes[start : start + SIZE_BYTES], "little") for start in (0, SIZE_BYTES))
    if text > MAX_HEADER_BYTES:
        raise ValueError("a header is too long")
    return parse_json(_read(pipe, text, deadline).decode()), bytes(_read(pipe, content, deadline))


def _read(pipe: int, size: int, deadline: float | None) -> bytearray:
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        if deadline is not None and not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        count = os.readv(pipe, [view[done:]])
        if not count:
            raise EOFError
        done += count
    return found
