"""The checks of an architecture: the contract test, then a short training, its model file and its export, by the code of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.plugins.plugin_report import PluginReport
from cnnkit.api.training.model_header import with_proof
from cnnkit.api.training.prepare import prepare
from cnnkit.architecture import Architecture, Option, options
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.data.sources.arrays import ArraysSource
from cnnkit.errors import CheckFailedError, CnnkitError
from cnnkit.exporters.opening import load_exporter
from cnnkit.exporters.parity import export_checked
from cnnkit.files import check_writable
from cnnkit.model.file import load_model, save_model
from cnnkit.registry import Entry, load_architecture
from cnnkit.run_dir import RunDir
from cnnkit.testing import CONTRACT, Trial

LABELS = ("red", "green", "blue")
NUM_CLASSES = len(LABELS)
IMAGES_PER_CLASS = 12  # of which 8 or 9 are trained on, in one batch
STEPS = 3
MIN_FALL = 0.01  # of the loss, in `STEPS` steps: less could be the noise of dropout
RATES = (1e-3, 1e-2, 1e-4)  # learning rates: a small network needs a large one, a deep one a small one
MAX_TRAINED_SIZE = 64  # px: larger images only take longer, if the network takes smaller ones
FILLED_IN = {"image_size", "mirror", "small_images"}  # options that a training sets from its images
RANGE_SHARE = 0.5  # of a range, for another value of an option


def check(report: PluginReport, entry: Entry, name: str) -> None:
    """Add a row per check of the architecture `name`; it is built and trained on the CPU, in a temporary folder."""
    full_name = name if entry.is_builtin or "/" in name else entry.full_name
    architecture, _ = load_architecture(full_name)
    trial = Trial(architecture, name)
    with torch.random.fork_rng(devices=()):
        for each in CONTRACT:
            report.make(each.name, partial(each.check, trial), entry, needs=filter(None, [each.needs]))
        check_real_path(report, entry, architecture, full_name)


def check_real_path(report: PluginReport, entry: Entry, architecture: Architecture, name: str) -> None:
    """Add the rows of a short training of `architecture`, of its model file and of its export."""
    size = min(architecture.image_size, MAX_TRAINED_SIZE) if report.passed("image size") else architecture.image_size
    with TemporaryDirectory(prefix="cnnkit-check-") as folder:
        path = _RealPath(architecture, name, size, Path(folder))
        remedy = f"try it: cnnkit train --data digits --epochs 1 --arch {name}"
        report.make("training", path.train, entry, needs=["gradients"], remedy=remedy)
        remedy = "keep all learned values in parameters and buffers"
        report.make("model file", path.load, entry, needs=["training"], remedy=remedy)
        remedy = "with other options too, keep all learned values in parameters and buffers"
        report.make("saved options", path.keep_options, entry, needs=["model file"], remedy=remedy)
        remedy = "avoid Python's if and for on values of tensors in forward; the whole error: cnnkit export --onnx --debug"
        report.make("ONNX export", path.export, entry, needs=["model file"], remedy=remedy)


@dataclass
class _RealPath:
    """The steps of a user with an architecture, in order: a training, its model file, its export."""

    architecture: Architecture
    name: str
    size: int  # of the images, in px
    folder: Path

    def train(self) -> str:
        """Train for a few steps, and return a note."""
        self._run, note = lower_the_loss(self.name, self.size, self.folder)
        return note

    def load(self) -> None:
        """Load the model file, whose logits must be those of the training."""
        if load_model(self._run.best).header.proof is None:
            raise CheckFailedError("the logits of one image cannot be computed twice with the same result, so the file records none")

    def keep_options(self) -> str:
        """Save and load a network with other options than the default ones; return a note that names these options.

        A value that `build` refuses keeps its default. Raises `CheckFailedError` if a loaded option differs.
        """
        header = load_model(self._run.best).header
        chosen = dict(header.options)
        for option in options(self.architecture, self.name).values():
            if option.name not in FILLED_IN:
                chosen[option.name] = self._other_value(option, chosen)
        network = self.architecture.build(NUM_CLASSES, 3, **chosen).eval()
        path = self.folder / "options.safetensors"
        save_model(path, network, with_proof(header.model_copy(update={"options": chosen}), network))
        found = load_model(path).header.options
        if found != chosen:
            raise CheckFailedError(f"the options {chosen} become {found} in the model file")
        changed = [f"{key}={value}" for key, value in chosen.items() if value != header.options[key]]
        return ", ".join(changed) or "no option has another value"

    def export(self) -> str:
        """Export the model, and return a note."""
        return exported(self._run, "onnx")

    def _other_value(self, option: Option, chosen: dict[str, Any]) -> Any:
        """Return another value of `option` for which a network can be built beside the `chosen` options, else the chosen one."""
        for value in other_values(option):
            with suppress(CnnkitError):
                self.architecture.build(NUM_CLASSES, 3, **{**chosen, option.name: value})
                return value
        return chosen[option.name]


def lower_the_loss(arch: str, size: int, folder: Path) -> tuple[RunDir, str]:
    """Train `arch` for `STEPS` steps by the loop of every training; return its run and a note.

    Raises `CheckFailedError` if the loss of the training images falls at none of `RATES`.
    """
    seen: list[str] = []
    for rate in RATES:
        run, losses = _train(arch, size, folder, rate)
        seen.append(f"loss {losses[0]:.3f} to {losses[-1]:.3f} in {STEPS} steps at learning rate {rate:g}")
        if losses[-1] < (1 - MIN_FALL) * losses[0]:
            return run, seen[-1]
    raise CheckFailedError(f"{STEPS} steps do not lower the loss of the training images by {100 * MIN_FALL:.0f} %: {', '.join(seen)}")


def _train(arch: str, size: int, folder: Path, rate: float) -> tuple[RunDir, list[float]]:
    """Return a run of one step per epoch, and the loss of the training images before each step.

    The last epoch only measures: its loss is the one after the last step that counts.
    """
    images, labels = coloured_images(size), [label for label in LABELS for _ in range(IMAGES_PER_CLASS)]
    images_of_run = {"data": "images", "image_size": size, "cache": "ram", "workers": 1, "augment": "none"}
    steps = {"epochs": STEPS + 1, "batch_size": NUM_CLASSES * IMAGES_PER_CLASS, "lr": rate, "schedule": "constant", "warmup_epochs": 0}
    given = images_of_run | steps | {"arch": arch, "patience": 0, "precision": "fp32", "device": "cpu", "out": folder / f"{rate:g}"}
    job = prepare(resolve(by_section(given)), source=ArraysSource(images, labels))
    run = job.begin()
    return run, [epoch.train_loss for epoch in job.epochs()]


def coloured_images(size: int) -> list[NDArray[np.uint8]]:
    """Return noisy images (H, W, 3) by class, whose colour tells their class."""
    random = np.random.default_rng(0)
    noise = random.normal(90, 50, (NUM_CLASSES, IMAGES_PER_CLASS, size, size, 3))
    for channel in range(NUM_CLASSES):
        noise[channel, ..., channel] += 70
    return [*noise.reshape(-1, size, size, 3).clip(0, 255).astype(np.uint8)]


def exported(run: RunDir, to: str) -> str:
    """Export the model of `run` by the exporter `to` with its check of parity on the images, and return a note."""
    model = load_model(run.best)
    exporter = load_exporter(to)
    images = coloured_images(model.header.preprocessing.image_size)
    check_writable(run.export)
    certificate = export_checked(model, exporter, run.export / f"model{exporter.suffix}", images)
    return f"{certificate.real.n} images, largest difference of a probability {certificate.largest_difference:.1e}"


def other_values(option: Option) -> Iterator[Any]:
    """Yield values of `option` other than its default."""
    default = option.default
    if option.choices or isinstance(default, bool):
        yield from (choice for choice in option.choices or (not default,) if choice != default)
    elif isinstance(default, int | float):
        step = 1 if option.type is int else RANGE_SHARE
        bounds = [bound for bound in (option.low, option.high) if bound is not None]
        smaller = [default / 2, default - step]  # first, because the network is then smaller too
        wanted = [*smaller, default + step, default * 2, *(default + (bound - default) * RANGE_SHARE for bound in bounds)]
        yield from (value for value in map(option.type, wanted) if value != default and option.allows(value))
