"""The contract tests of what a package provides, for the tests of plugins, the built-in architectures and `cnnkit plugins check`.

from cnnkit.testing import check_architecture

def test_convmixer():
    check_architecture(convmixer, "convmixer")

This file tests architectures; the tests of the other values are in `cnnkit.extension.contract`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor, nn

from cnnkit.architecture import INTERPOLATIONS, Architecture, build_keywords, options, parse_options, reads_back
from cnnkit.errors import CheckFailedError, CnnkitError, closest
from cnnkit.extension.contract import ExtensionCheckError, check_augmentation, check_loss, check_metric, check_optimizer

__all__ = [
    "ArchitectureCheckError",
    "ExtensionCheckError",
    "check_architecture",
    "check_augmentation",
    "check_loss",
    "check_metric",
    "check_optimizer",
]

BATCH_SIZE = 3  # more than one, and different from the numbers of classes in this test
SMALL_SIZE = 32  # px: the smallest images that training does not scale up
TOLERANCE = 1e-3  # of the largest logit: memory formats differ by 1e-6 in float32, wrong layouts by at least 1e-1


class ArchitectureCheckError(CheckFailedError, AssertionError):
    """An architecture that breaks the contract: the `problem`, and the `remedy` or an empty text."""

    def __init__(self, name: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{name}: {problem}: {remedy}" if remedy else f"{name}: {problem}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Case:
    """One network of the test, with images (N, C, H, W) that it should take."""

    network: nn.Module
    images: Tensor
    num_classes: int

    def __str__(self) -> str:
        _, channels, size, _ = self.images.shape
        return f"with {self.num_classes} classes, {channels} channels and {size} px"


class Trial:
    """An architecture under test; each of its networks is built once for all checks.

    The networks have 2 and 10 classes, 1 and 3 channels, and images of the architecture's own size and of 32 px. `cases` lists those
    that take their images, as far as the checks know.
    """

    def __init__(self, architecture: Architecture, name: str) -> None:
        self.architecture = architecture
        self.name = name

    @cached_property
    def cases(self) -> list[Case]:
        """The networks, first those for images of the architecture's own size."""
        own = self.architecture.image_size
        sizes = sorted({own, min(SMALL_SIZE, own)}, reverse=True)
        return [self._case(num_classes, channels, size) for size in sizes for num_classes, channels in ((2, 1), (10, 3))]

    def is_own_size(self, case: Case) -> bool:
        """Return True if the images of `case` have the size that the architecture is meant for."""
        return case.images.shape[-1] == self.architecture.image_size

    def build(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """Return a network with default options; an option ``image_size`` is set, as in training."""
        chosen = parse_options(self.architecture, self.name, ())
        if "image_size" in chosen:
            chosen["image_size"] = size
        keywords = build_keywords(self.architecture.build, self.name, chosen)
        try:
            network = self.architecture.build(num_classes, channels, **keywords)
        except CnnkitError:
            raise
        except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
            self.fail(f"its build raises {_shown(error)} for {num_classes} classes, {channels} channels and {size} px", cause=error)
        if not isinstance(network, nn.Module):
            self.fail(f"its build returns a {type(network).__name__}, not a torch.nn.Module")
        return network

    def run(self, network: nn.Module, images: Tensor, case: object, remedy: str = "") -> Tensor:
        """Return the logits of `images`; an error of the network breaks the contract."""
        try:
            return network(images)
        except CnnkitError:
            raise
        except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
            self.fail(f"raises {_shown(error)} {case}", remedy, cause=error)

    def check_close(self, found: Tensor, expected: Tensor, problem: str, remedy: str = "") -> None:
        """Raise `ArchitectureCheckError` unless the logits `found` are those `expected`."""
        if found.shape != expected.shape or (found - expected).abs().max() > TOLERANCE * expected.abs().max().clamp(min=1.0):
            self.fail(problem, remedy)

    def fail(self, problem: str, remedy: str = "", cause: BaseException | None = None) -> NoReturn:
        """Raise `ArchitectureCheckError`."""
        raise ArchitectureCheckError(self.name, problem, remedy) from cause

    def _case(self, num_classes: int, channels: int, size: int) -> Case:
        return Case(self.build(num_classes, channels, size), torch.randn(BATCH_SIZE, channels, size, size), num_classes)


@dataclass(frozen=True)
class ArchitectureCheck:
    """One promise of the contract; `check` raises `ArchitectureCheckError` if it is broken, and makes sense if `needs` holds."""

    name: str
    check: Callable[[Trial], None]
    needs: str = ""


def check_architecture(architecture: Architecture, name: str = "architecture") -> None:
    """Check that `architecture` keeps the contract; the messages call it `name`.

    The check builds the network on the CPU for 2 and 10 classes, 1 and 3 channels, its own image size and 32 pixels.
    It makes the checks of `CONTRACT`. The global random state does not change. Raises `ArchitectureCheckError` (an `AssertionError`),
    which names the broken promise.
    """
    trial = Trial(architecture, name)
    with torch.random.fork_rng(devices=()):
        for each in CONTRACT:
            each.check(trial)


def _check_fields(trial: Trial) -> None:
    architecture = trial.architecture
    if not isinstance(architecture, Architecture):  # pyright: ignore[reportUnnecessaryIsInstance] (a plugin may pass any object)
        trial.fail(f"is a {type(architecture).__name__}, not a cnnkit.Architecture")
    if architecture.image_size < 1:
        trial.fail(f"image_size is {architecture.image_size}; it must be the width and height of the images in pixels, such as 64")
    weights = architecture.pretrained
    if weights is not None and weights.interpolation not in INTERPOLATIONS:
        trial.fail(f"pretrained.interpolation is {weights.interpolation!r}; it must be one of {', '.join(INTERPOLATIONS)}")


def _check_summary(trial: Trial) -> None:
    summary = trial.architecture.summary
    if not summary.strip():
        trial.fail("needs a summary, which `cnnkit archs` shows")
    if len(summary.splitlines()) > 1:
        trial.fail(f"has a summary of {len(summary.splitlines())} lines", "write one line, which `cnnkit archs` shows")


def _check_options(trial: Trial) -> None:
    """Check that ``--set`` can read the default of every option, with its type."""
    for option in options(trial.architecture, trial.name).values():
        if not reads_back(option):
            trial.fail(f"option {option.name!r} has type {option.type.__name__}, which cannot hold its default {option.default!r}")


def _check_documentation(trial: Trial) -> None:
    """Check that the docstring of `build` names every option."""
    build = inspect.unwrap(trial.architecture.build)
    text = (inspect.getdoc(build) if inspect.isroutine(build) or inspect.isclass(build) else inspect.getdoc(type(build))) or ""
    missing = [name for name in options(trial.architecture, trial.name) if not re.search(rf"\b{re.escape(name)}\b", text)]
    if missing:
        named = " and ".join([", ".join(map(repr, missing[:-1])), repr(missing[-1])] if missing[1:] else [repr(missing[0])])
        trial.fail(f"the docstring of build does not name {named}", "say in it what each option means")


def _check_build(trial: Trial) -> None:
    _ = trial.cases


def _check_logits(trial: Trial) -> None:
    """Check the logits of images of the architecture's own size, in train and in eval mode."""
    size = trial.architecture.image_size
    for case in filter(trial.is_own_size, trial.cases):
        _check_modes(trial, case, f"run it by itself: build(2, 3)(torch.randn({BATCH_SIZE}, 3, {size}, {size}))")


def _check_sizes(trial: Trial) -> None:
    """Check the logits of smaller images; a network that does not take them leaves the `cases`."""
    remedy = "end with nn.AdaptiveAvgPool2d(1) before the Linear, or give build the option image_size: int = 0, which cnnkit fills in"
    smaller = [case for case in trial.cases if not trial.is_own_size(case)]
    trial.cases[:] = [case for case in trial.cases if trial.is_own_size(case)]
    for case in smaller:
        _check_modes(trial, case, remedy)
        trial.cases.append(case)


def _check_modes(trial: Trial, case: Case, remedy: str) -> None:
    _check_shape(trial, trial.run(case.network.train(), case.images, f"{case} in train mode", remedy), case)
    with torch.no_grad():
        _check_shape(trial, trial.run(case.network.eval(), case.images, f"{case} in eval mode", remedy), case)


def _check_shape(trial: Trial, logits: Tensor, case: Case) -> None:
    expected = (BATCH_SIZE, case.num_classes)
    if not isinstance(logits, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance] (a network may return anything)
        trial.fail(f"returns a {type(logits).__name__} {case}; expected one tensor of logits {expected}")
    if logits.shape != expected:
        trial.fail(f"returns shape {tuple(logits.shape)} {case}; expected logits {expected}")
    if logits.dtype != torch.float32:
        dtype = str(logits.dtype).removeprefix("torch.")
        trial.fail(f"returns logits of type {dtype} {case}; expected float32", "keep the type of the images, without .double() or .half()")
    if not logits.isfinite().all():
        trial.fail(
            f"returns logits that are not finite {case}",
            "look for a division by zero, a logarithm of zero or weights without initialisation",
        )


def _check_gradients(trial: Trial) -> None:
    """Check that every trainable parameter has a gradient; it may be zero, as behind a BatchNorm initialised with zeros."""
    for case in trial.cases:
        case.network.zero_grad(set_to_none=True)
        loss = trial.run(case.network.train(), case.images, case).square().sum()
        trainable = [(key, parameter) for key, parameter in case.network.named_parameters() if parameter.requires_grad]
        if not trainable:
            trial.fail(f"has no trainable parameters {case}", "the layers must be attributes of the module, with requires_grad")
        try:
            loss.backward()
        except RuntimeError as error:
            trial.fail(f"has no gradients {case}: {_shown(error)}", "remove .detach(), .data and torch.no_grad() from forward", error)
        for key, parameter in trainable:
            if parameter.grad is None:
                remedy = "remove it from the network, or use it in forward"
                trial.fail(f"parameter {key!r} takes no part in the logits {case}: its gradient is None", remedy)
            if not parameter.grad.isfinite().all():
                trial.fail(f"parameter {key!r} has a gradient that is not finite {case}")


def _check_eval_mode(trial: Trial) -> None:
    with torch.no_grad():
        for case in trial.cases:
            case.network.eval()
            first, second = (trial.run(case.network, case.images, case) for _ in range(2))
            problem = f"in eval mode gives other logits for the same images {case}"
            trial.check_close(second, first, problem, "is dropout switched off? F.dropout needs training=self.training")


def _check_batch_of_one(trial: Trial) -> None:
    with torch.no_grad():
        for case in trial.cases:
            case.network.eval()
            one = trial.run(case.network, case.images[:1], f"for a batch of one image {case}", "use flatten(1) instead of squeeze()")
            if one.shape != (1, case.num_classes):
                problem = f"returns shape {tuple(one.shape)} for a batch of one image {case}; expected (1, {case.num_classes})"
                trial.fail(problem, "use flatten(1) instead of squeeze()")
            problem = f"in eval mode lets images of a batch change each other's logits {case}"
            trial.check_close(one, trial.run(case.network, case.images, case)[:1], problem, "take no mean over the batch in eval mode")


def _check_channels_last(trial: Trial) -> None:
    remedy = "use flatten or reshape, never view"
    with torch.no_grad():
        for case in trial.cases:
            case.network.eval()
            logits = trial.run(case.network, case.images, case)
            case.network.to(memory_format=torch.channels_last)
            images = case.images.contiguous(memory_format=torch.channels_last)
            last = trial.run(case.network, images, f"with channels_last {case}", remedy)
            case.network.to(memory_format=torch.contiguous_format)
            trial.check_close(last, logits, f"gives other logits with channels_last {case}", remedy)


def _check_cam_layer(trial: Trial) -> None:
    layer = trial.architecture.cam_layer
    names = [key for key, _ in trial.cases[-1].network.named_modules() if key]
    if layer is not None and layer not in names:
        trial.fail(f"cam_layer is {layer!r}, which is not a module of the network{closest(layer, names)}")


def _check_seed(trial: Trial) -> None:
    one, other = (_state(trial, seed=1) for _ in range(2))
    differing = [key for key in one.keys() | other.keys() if key not in one or key not in other or not torch.equal(one[key], other[key])]
    if differing:
        problem = f"built twice under torch.manual_seed(1) differs in {min(differing)!r}"
        trial.fail(problem, "draw weights from torch's global generator alone")


def _check_state(trial: Trial) -> None:
    """Check that a new network with the state dict of a trained one gives the same logits: a model file holds nothing else."""
    case = trial.cases[-1]
    _, channels, size, _ = case.images.shape
    trained, fresh = (trial.build(case.num_classes, channels, size) for _ in range(2))
    with torch.no_grad():
        trial.run(trained.train(), case.images, case)  # changes running statistics
        trained.eval()
        try:
            fresh.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            trial.fail(f"a second build does not accept the state dict of the first: {error}", cause=error)
        trial.check_close(
            trial.run(fresh.eval(), case.images, case),
            trial.run(trained, case.images, case),
            "gives other logits after its state dict was saved and loaded",
            "keep all learned values in parameters and buffers",
        )


def _state(trial: Trial, seed: int) -> Mapping[str, Tensor]:
    torch.manual_seed(seed)
    return trial.build(2, 3, trial.architecture.image_size).state_dict()


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


CONTRACT = (
    ArchitectureCheck("fields", _check_fields),
    ArchitectureCheck("summary", _check_summary),
    ArchitectureCheck("options", _check_options),
    ArchitectureCheck("docstring", _check_documentation, needs="options"),
    ArchitectureCheck("build", _check_build, needs="options"),
    ArchitectureCheck("logits", _check_logits, needs="build"),
    ArchitectureCheck("image size", _check_sizes, needs="logits"),
    ArchitectureCheck("gradients", _check_gradients, needs="logits"),
    ArchitectureCheck("eval mode", _check_eval_mode, needs="logits"),
    ArchitectureCheck("batch of one", _check_batch_of_one, needs="eval mode"),
    ArchitectureCheck("channels_last", _check_channels_last, needs="eval mode"),
    ArchitectureCheck("cam_layer", _check_cam_layer, needs="build"),
    ArchitectureCheck("seed", _check_seed, needs="build"),
    ArchitectureCheck("state dict", _check_state, needs="eval mode"),
)
