"""What every test may ask for: image folders, the command line, a browser, and a world of its own.

Nothing heavy is imported here, so a test of a light room stays light.
"""

from __future__ import annotations

import colorsys
import csv
import hashlib
import json
import multiprocessing
import os
import pickle
import select
import shutil
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import psutil
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    from cnnkit.engine.ranks import Ranks
    from cnnkit.run_dir import HistoryRow, RunRecord, StoredMetrics

# A run of the oldest format: its documents have no key `format`. Every later cnnkit must read them, so they are never written anew.
OLD_RUN = Path(__file__).parent / "run_dir" / "format1"

# Read by torch and the hub's client when they are first imported, in this process or in one a test starts.
os.environ["OMP_NUM_THREADS"] = "1"  # the same sums, in the same order, on every machine; each worker of pytest-xdist has one core
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that wait must not take the cores from those that work
VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")  # of the caller: None is all of them
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests use no GPU: its sums have another order, and not every worker finds room on it
os.environ["HF_HUB_OFFLINE"] = "1"

WORKER_BYTES = 2**31  # memory for a worker: it peaks at 1.4 GB (measured), and some tests start processes of their own

# A machine that is slow at the moment is no failure; CI tries the same examples every time, so that main does not turn
# red by chance, while everybody else's runs keep searching.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("any"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "any")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return what ``-n auto`` stands for: a worker for every core that this process may use, as far as the memory goes."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # the default hook reads it
        return None
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores, psutil.virtual_memory().available // WORKER_BYTES))


def pytest_configure(config: pytest.Config) -> None:
    """Show the GPUs to a run of ``-m gpu``, whose tests need one; torch reads the variable when it is first imported."""
    if config.option.markexpr != "gpu":
        return
    if VISIBLE_GPUS is None:
        del os.environ["CUDA_VISIBLE_DEVICES"]
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = VISIBLE_GPUS


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a GPU where none is, or where the GPUs are hidden."""
    if item.get_closest_marker("gpu") is None:
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        pytest.skip("the GPUs are hidden from the other tests; type: make test-gpu")
    import torch  # takes a second, which the other tests need not spend

    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA GPU")


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in an empty folder, with a plain terminal of 100 columns, an empty cache and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNKIT_RUNS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    monkeypatch.setattr(socket, "create_connection", _no_network)


def _no_network(*address: object, **_: object) -> NoReturn:
    raise OSError(f"tests have no network: {address}")


# The module of a package that works: `install_package` installs it by default.
GOOD_NET = """
from cnnkit import Architecture
from torch import nn
def build(num_classes, in_channels, *, width: int = 4): return nn.Linear(in_channels * width, num_classes)
net = Architecture(build=build, summary="a good net", image_size=32)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield an empty folder for installed packages on `sys.path`, and remove its modules from `sys.modules` afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def install_package(site: Path) -> Callable[..., None]:
    """Return a function that writes a package: its dist-info folder and, unless `source` is None, its one module."""

    def write(
        package: str, name: str, value: str, source: str | None = GOOD_NET, *, version: str = "1.0", group: str = "cnnkit.architectures"
    ) -> None:
        info = site / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        if source is not None:
            (site / f"{value.partition(':')[0]}.py").write_text(source)

    return write


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a folder of class folders under `tmp_path` and returns its path.

    `classes` are names, or names with their own number of images; `images` is the number per class; `size` is
    (width, height) in pixels. Images of one class share a hue and a stripe direction, no two are equal, and the same
    arguments give the same bytes. Several calls make splits: ``image_folder(folder="data/train", seed=1)``.
    """

    return partial(write_images, tmp_path)


@pytest.fixture(scope="session")
def image_writer() -> Callable[..., Path]:
    """Return `write_images`, for fixtures that outlive a test: ``image_writer(base, ("cats", "dogs"), 20)``."""
    return write_images


def write_images(
    base: Path,
    classes: Sequence[str] | Mapping[str, int] = ("ants", "bees", "wasps"),
    images: int = 8,
    *,
    size: tuple[int, int] = (40, 32),
    suffix: str = ".jpg",
    folder: str = "images",
    seed: int = 0,
) -> Path:
    root = base / folder
    numbers = dict(classes) if isinstance(classes, Mapping) else dict.fromkeys(classes, images)
    for index, (name, number) in enumerate(numbers.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for image in range(number):
            pixels = draw_image(index, len(numbers), size, np.random.default_rng((seed, index, image)))
            Image.fromarray(pixels).save(root / name / f"{name}-{image:03d}{suffix}")
    return root


def draw_image(label: int, classes: int, size: tuple[int, int], random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Draw one uint8 image (height, width, 3): stripes in the hue and direction of `label`, under uneven light and noise.

    The light falls in patches, other ones on every image, so that no two look like copies of one picture.
    """
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    angle = np.pi * label / classes
    stripes = np.sin((np.cos(angle) * x + np.sin(angle) * y) * random.uniform(0.5, 0.7) + random.uniform(0, 2 * np.pi))
    hue = np.array(colorsys.hsv_to_rgb(label / classes, 0.8, 1.0))
    patches = random.normal(0, 30, (5, 5))[y * 5 // height, x * 5 // width]
    light = random.uniform(120, 160) + 50 * stripes[..., None] + patches[..., None]
    return (light * hue + random.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code, its stdout and its stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout as the one JSON document it must be."""
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Return a function that runs ``cnnkit ARGUMENTS...`` in this process: ``cli("train", "--data", folder)``."""

    def run(*arguments: object) -> Finished:
        from cnnkit.cli.app import main

        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


@pytest.fixture
def read_rows() -> Callable[[str | Path], list[dict[str, str]]]:
    """Return a function that reads a CSV file as a list of rows."""

    def read(path: str | Path) -> list[dict[str, str]]:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function ``made_once(name, make)``: the folder that `make` filled, called once for all workers of a test run.

    The worker that comes first works, the others wait for it. Tests read the folder and never write into it.
    """
    base = tmp_path_factory.getbasetemp()
    return partial(make_once, base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


def make_once(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    folder, whole = base / "shared" / name, base / "shared" / f"{name}.whole"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@dataclass(frozen=True)
class TrainedRun:
    """One small finished training that tests may read: its data folder, its run directory and the cache that it filled."""

    data: Path
    run: Path
    cache: Path


@pytest.fixture(scope="session")
def trained_once(made_once: Callable[..., Path]) -> TrainedRun:
    """Train a small network once on 3 classes of 20 striped images, one of which is a truncated JPEG."""
    base = made_once("trained", _train)
    return TrainedRun(base / "images", base / "runs" / "001-custom-cnn", base / "cache")


def _train(base: Path) -> None:
    data = write_images(base, images=20)
    whole = data / "bees" / "bees-000.jpg"
    (data / "bees" / "broken.jpg").write_bytes(whole.read_bytes()[:300])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNKIT_CACHE", str(base / "cache"))
        from cnnkit.api.training.train import train

        train(data, epochs=6, batch_size=16, set=SMALL, precision="fp32", out=base / "runs", device="cpu")


@pytest.fixture
def old_run() -> Path:
    """The folder of `OLD_RUN`: config.json, split.csv, history.csv, and metrics.json in ``eval/test`` and ``eval/test-tta``."""
    return OLD_RUN


def old_config() -> dict[str, Any]:
    return json.loads((OLD_RUN / "config.json").read_text("utf-8"))


def old_metrics() -> dict[str, Any]:
    return json.loads((OLD_RUN / "eval/test/metrics.json").read_text("utf-8"))


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    """Return a function that makes the record of `OLD_RUN` with other values: ``make_record(status="stopped")``."""
    from cnnkit.run_dir import RunRecord

    return lambda **changes: RunRecord.model_validate({**old_config(), **changes})


@pytest.fixture
def make_metrics() -> Callable[..., StoredMetrics]:
    """Return a function that makes the stored metrics of `OLD_RUN` with other values: ``make_metrics(split="val")``."""
    from cnnkit.run_dir import StoredMetrics

    return lambda **changes: StoredMetrics.model_validate({**old_metrics(), **changes})


@pytest.fixture
def make_row() -> Callable[..., HistoryRow]:
    """Return a function that makes a row of history.csv: ``make_row(epoch=2, val_loss=0.5)``."""
    from cnnkit.run_dir import HistoryRow

    numbers = {"epoch": 1, "step": 10, "lr": 0.01, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.2, "val_accuracy": 0.4}
    values = {**numbers, "seconds": 2.5, "images_per_second": 360.0, "is_best": True}
    return lambda **changes: HistoryRow.model_validate({**values, **changes})


@pytest.fixture
def answered_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run directory with the answers of an evaluation, without a model that could be asked.

    ``answered_run("001-a", right=[True, False, ...], tested=range(20), trained=range(20, 80))`` returns its path. Images go by
    number: image 7 has the same path, label and content in every run. `right` says which of the `tested` are answered rightly; a
    wrong answer is the next class. `model` is the content of the model file, the name of the run unless given.
    """
    return partial(write_answered_run, tmp_path)


def write_answered_run(
    base: Path,
    name: str,
    right: Sequence[bool],
    *,
    tested: Sequence[int] | None = None,
    trained: Sequence[int] = (),
    split: str = "test",
    classes: Sequence[str] = ("ants", "bees", "wasps"),
    model: str | None = None,
) -> Path:
    run = base / "runs" / name
    folder = run / "eval" / split
    folder.mkdir(parents=True)
    labels = {number: classes[number % len(classes)] for number in (*(tested or range(len(right))), *trained)}
    content = {number: hashlib.sha256(str(number).encode()).hexdigest() for number in labels}
    (run / "best.safetensors").write_text(model or name)
    config = old_config()
    config["data"]["location"] = str(base / "images")
    (run / "config.json").write_text(json.dumps(config | {"classes": list(classes)}))
    sides = dict.fromkeys(trained, "train") | dict.fromkeys(tested or range(len(right)), split)
    paths = {number: f"{label}/{number:04d}.jpg" for number, label in labels.items()}
    rows = [(paths[number], labels[number], side, content[number]) for number, side in sides.items()]
    _write_rows(run / "split.csv", ("path", "label", "split", "sha256"), rows)
    rows = []
    for number, is_right in zip(tested or range(len(right)), right, strict=True):
        said = labels[number] if is_right else classes[(number + 1) % len(classes)]
        rows.append((paths[number], labels[number], said, 0.9, 0.1) if is_right else (paths[number], labels[number], said, 0.6, 1.5))
    _write_rows(folder / "predictions.csv", ("path", "true", "predicted", "probability", "loss"), rows)
    fingerprint = hashlib.sha256((model or name).encode()).hexdigest()
    metrics = {"model": {"file": "best.safetensors", "sha256": fingerprint}, "unreadable": []}
    (folder / "metrics.json").write_text(json.dumps(old_metrics() | metrics))
    return run


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


# Options of custom-cnn that make it small enough for a test to train.
SMALL = ("width=8", "blocks=2", "dense=32", "dropout=0.1")


@pytest.fixture
def trained(trained_once: TrainedRun, tmp_path: Path) -> TrainedRun:
    """A copy of the small finished training as the newest run under ./runs, with its cache, so that a test may write into both.

    It has no manifest, so that a test may also edit its files; tests/faults edits files that a manifest lists.
    """
    run, cache = tmp_path / "runs" / trained_once.run.name, tmp_path / "cache"
    shutil.copytree(trained_once.run, run, ignore=shutil.ignore_patterns("manifest.json"))
    shutil.copytree(trained_once.cache, cache)
    return TrainedRun(trained_once.data, run, cache)


@pytest.fixture
def trained_export(trained: TrainedRun, made_once: Callable[..., Path]) -> Path:
    """The exported file of `trained` in its run, as ``cnnkit export --onnx`` leaves it; exported once for all tests."""
    shutil.copytree(made_once("exported", partial(_export, trained)), trained.run / "export")
    return trained.run / "export" / "model.onnx"


def _export(trained: TrainedRun, folder: Path) -> None:
    from cnnkit.api import export

    export(trained.run, out=folder / "model.onnx")


CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None)
CHROMIUM_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions")
BROWSER_SECONDS = 300  # long, so that a busy machine does not fail the test
LAUNCH_CHROMIUM = """
import fcntl, os, sys
hears, says = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(hears, 3)
os.dup2(says, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads from file descriptor 3 and writes to 4


class Browser:
    """A Chromium that is controlled through two pipes (DevTools protocol: JSON documents, each with a zero byte at its end)."""

    def __init__(self, profile: Path) -> None:
        (hears, self._to), (self._from, says) = os.pipe(), os.pipe()
        flags = (*CHROMIUM_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCH_CHROMIUM, str(hears), str(says), str(CHROMIUM), *flags],
            pass_fds=(hears, says),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(says)
        self._heard = bytearray()
        self._number, self._session = 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call `method` and return its result; events that arrive meanwhile are added to `events`."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        request = json.dumps({"id": self._number, "method": method, "params": params, **session}).encode() + b"\0"
        while request:
            request = request[os.write(self._to, request) :]
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, address: str) -> None:
        """Open a page and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def run(self, script: str) -> Any:
        """Return the value of `script`, which DevTools evaluates outside the page's policy."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Return when `condition` is true on the page."""
        end = time.monotonic() + BROWSER_SECONDS
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press and release a key of the keyboard."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40}[key]
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **(text if kind == "keyDown" else {})
            )

    def click(self, selector: str) -> None:
        """Click the middle of the element that `selector` finds."""
        point = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], button="left", clickCount=1)

    def requests(self) -> list[str]:
        """Return the requested addresses since the page was opened, without data URIs."""
        urls = (event["params"]["request"]["url"] for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Return the messages that the browser logged: refusals of the policy and errors of the script."""
        logged = [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]
        return logged + [str(event["params"]) for event in self.events if event.get("method") == "Runtime.exceptionThrown"]

    def close(self) -> None:
        """Close the pipes and wait for the end of the process."""
        os.close(self._to)
        os.close(self._from)
        self.process.wait(timeout=BROWSER_SECONDS)

    def _message(self) -> dict[str, Any]:
        while (end := self._heard.find(0)) < 0:
            ready, _, _ = select.select([self._from], [], [], BROWSER_SECONDS)
            part = os.read(self._from, 1 << 16) if ready else b""
            assert part, "Chromium has ended" if ready else f"Chromium has sent nothing for {BROWSER_SECONDS} s"
            self._heard += part
        text = self._heard[:end]
        del self._heard[: end + 1]
        return json.loads(text)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skip the tests that ask for `browser` where there is no Chromium, before their other fixtures work."""
    if CHROMIUM is None or os.name != "posix":
        for item in items:
            if "browser" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium for the tests of a module; without one, they are skipped."""
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def run_ranks() -> Callable[..., list[Any]]:
    """Return `fork_ranks`: ``run_ranks(2, lambda ranks: ranks.totals([1]))`` is [[2.0], [2.0]]."""
    return fork_ranks


RANKS_LIMIT = 120  # seconds for all ranks of a test


def fork_ranks(world: int, work: Callable[[Ranks], object], *, local_world: int | None = None) -> list[Any]:
    """Return the results of ``work(ranks)`` on `world` ranks of the CPU, in order; an exception of a rank is its result.

    The result of a rank that ended otherwise is its exit code. `local_world` ranks are on one pretended machine, by default all.
    """
    from cnnkit.data.store.pool import stop_server

    stop_server()  # a forked process could not use it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads in a forked process
        files = [Path(folder) / str(rank) for rank in range(world)]
        processes = [
            context.Process(target=_run_rank, args=(rank, world, local_world or world, port, work, files[rank])) for rank in range(world)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(RANKS_LIMIT)
            if process.is_alive():
                process.kill()
                process.join()
        return [
            pickle.loads(file.read_bytes())  # noqa: S301 (of the test)
            if file.exists()
            else process.exitcode
            for file, process in zip(files, processes, strict=True)
        ]


def _run_rank(rank: int, world: int, local_world: int, port: int, work: Callable[[Ranks], object], file: Path) -> None:
    import torch

    from cnnkit.engine.joining import join, leave
    from cnnkit.engine.rank_environment import RankEnvironment

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        environment = RankEnvironment(rank, world, rank % local_world, local_world, "127.0.0.1", port)
        ranks, watch = join(environment, torch.device("cpu"))
        try:
            result = work(ranks)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            traceback.print_exc()
            result = error
        part = file.with_suffix(".part")
        part.write_bytes(pickle.dumps(result))
        part.rename(file)
        if not isinstance(result, Exception):
            ranks.totals([0.0])
        leave(watch, ranks)
    except BaseException:  # noqa: BLE001 (a forked process must not return into pytest)
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
