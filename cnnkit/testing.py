"""The contract tests of what a package provides, for the tests of plugins and of the built-in architectures.

from cnnkit.testing import check_architecture

def test_convmixer():
    check_architecture(convmixer, "convmixer")

This file tests architectures; the tests of the other values are in `cnnkit.extension.contract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from cnnkit.architecture import INTERPOLATIONS, Architecture, options, parse_options
from cnnkit.errors import CheckFailedError, ConfigError, closest
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
    """An architecture that breaks the contract."""


def check_architecture(architecture: Architecture, name: str = "architecture") -> None:
    """Check that `architecture` keeps the contract; the messages call it `name`.

    The check builds the network on the CPU for 2 and 10 classes, 1 and 3 channels, its own image size and 32 pixels.
    It tests logits, gradients, eval mode, seeds, the state dict, channels_last and options. The global random state does
    not change. Raises `ArchitectureCheckError` (an `AssertionError`), which names the broken promise. Errors from inside the
    network pass through with their traceback.
    """
    with torch.random.fork_rng(devices=()):
        _check_fields(architecture, name)
        _check_options(architecture, name)
        for num_classes, channels in ((2, 1), (10, 3)):
            for size in sorted({architecture.image_size, min(SMALL_SIZE, architecture.image_size)}):
                _check_logits(architecture, name, num_classes, channels, size)
        _check_cam_layer(architecture, name)
        _check_seed(architecture, name)
        _check_state(architecture, name)


def _check_fields(architecture: Architecture, name: str) -> None:
    if not isinstance(architecture, Architecture):  # pyright: ignore[reportUnnecessaryIsInstance] (a plugin may pass any object)
        _fail(name, f"is a {type(architecture).__name__}, not a cnnkit.Architecture")
    if not architecture.summary.strip():
        _fail(name, "needs a summary, which `cnnkit archs` shows")
    if architecture.image_size < 1:
        _fail(name, f"image_size is {architecture.image_size}; it must be the width and height of the images in pixels, such as 64")
    weights = architecture.pretrained
    if weights is not None and weights.interpolation not in INTERPOLATIONS:
        _fail(name, f"pretrained.interpolation is {weights.interpolation!r}; it must be one of {', '.join(INTERPOLATIONS)}")


def _check_options(architecture: Architecture, name: str) -> None:
    """Check that ``--set`` can read the default of every option, with its type."""
    for option in options(architecture, name).values():
        try:
            fits = parse_options(architecture, name, [str(option)])[option.name] == option.default
        except ConfigError:
            fits = False
        if not fits:
            _fail(name, f"option {option.name!r} has type {option.type.__name__}, which cannot hold its default {option.default!r}")


def _check_logits(architecture: Architecture, name: str, num_classes: int, channels: int, size: int) -> None:
    case = f"with {num_classes} classes, {channels} channels and {size} px"
    network = _build(architecture, name, num_classes, channels, size)
    images = torch.randn(BATCH_SIZE, channels, size, size)
    logits = network.train()(images)
    _check_shape(logits, num_classes, name, case)
    logits.square().sum().backward()
    _check_gradients(network, name, case)
    with torch.no_grad():
        network.eval()
        logits = network(images)
        _check_shape(logits, num_classes, name, case)
        _check_close(network(images), logits, name, f"in eval mode gives other logits for the same images {case}: is dropout switched off?")
        _check_close(network(images[:1]), logits[:1], name, f"in eval mode lets images of a batch change each other's logits {case}")
        network.to(memory_format=torch.channels_last)
        last = network(images.contiguous(memory_format=torch.channels_last))
        _check_close(last, logits, name, f"gives other logits with channels_last {case}: use flatten or reshape, never view")


def _check_shape(logits: Tensor, num_classes: int, name: str, case: str) -> None:
    if not isinstance(logits, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance] (a network may return anything)
        _fail(name, f"returns a {type(logits).__name__} {case}; expected one tensor of logits ({BATCH_SIZE}, {num_classes})")
    if logits.shape != (BATCH_SIZE, num_classes):
        _fail(name, f"returns shape {tuple(logits.shape)} {case}; expected logits ({BATCH_SIZE}, {num_classes})")
    if not logits.isfinite().all():
        _fail(name, f"returns logits that are not finite {case}")


def _check_gradients(network: nn.Module, name: str, case: str) -> None:
    """Check that every trainable parameter has a gradient; it may be zero, as behind a BatchNorm initialised with zeros."""
    trainable = [(key, parameter) for key, parameter in network.named_parameters() if parameter.requires_grad]
    if not trainable:
        _fail(name, f"has no trainable parameters {case}")
    for key, parameter in trainable:
        if parameter.grad is None:
            _fail(name, f"parameter {key!r} takes no part in the logits {case}: its gradient is None")
        if not parameter.grad.isfinite().all():
            _fail(name, f"parameter {key!r} has a gradient that is not finite {case}")


def _check_cam_layer(architecture: Architecture, name: str) -> None:
    layer = architecture.cam_layer
    if layer is None:
        return
    names = [key for key, _ in _build(architecture, name, 2, 3, architecture.image_size).named_modules() if key]
    if layer not in names:
        _fail(name, f"cam_layer is {layer!r}, which is not a module of the network{closest(layer, names)}")


def _check_seed(architecture: Architecture, name: str) -> None:
    one, other = (_state(architecture, name, seed=1) for _ in range(2))
    differing = [key for key in one.keys() | other.keys() if key not in one or key not in other or not torch.equal(one[key], other[key])]
    if differing:
        _fail(name, f"built twice under torch.manual_seed(1) differs in {differing[0]!r}: draw weights from torch's global generator alone")


def _check_state(architecture: Architecture, name: str) -> None:
    """Check that a new network with the state dict of a trained one gives the same logits: a model file holds nothing else."""
    size = min(SMALL_SIZE, architecture.image_size)
    images = torch.randn(BATCH_SIZE, 3, size, size)
    trained, fresh = (_build(architecture, name, 2, 3, size) for _ in range(2))
    with torch.no_grad():
        trained.train()(images)  # changes running statistics
        trained.eval()
        try:
            fresh.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise ArchitectureCheckError(f"{name}: a second build does not accept the state dict of the first: {error}") from error
        problem = "gives other logits after its state dict was saved and loaded: keep all learned values in parameters and buffers"
        _check_close(fresh.eval()(images), trained(images), name, problem)


def _state(architecture: Architecture, name: str, seed: int) -> Mapping[str, Tensor]:
    torch.manual_seed(seed)
    return _build(architecture, name, 2, 3, architecture.image_size).state_dict()


def _build(architecture: Architecture, name: str, num_classes: int, channels: int, size: int) -> nn.Module:
    """Return the network with default options; an option ``image_size`` is set, as in training."""
    chosen = parse_options(architecture, name, ())
    if "image_size" in chosen:
        chosen["image_size"] = size
    network = architecture.build(num_classes, channels, **chosen)
    if not isinstance(network, nn.Module):
        _fail(name, f"its build returns a {type(network).__name__}, not a torch.nn.Module")
    return network


def _check_close(found: Tensor, expected: Tensor, name: str, problem: str) -> None:
    if (found - expected).abs().max() > TOLERANCE * expected.abs().max().clamp(min=1.0):
        _fail(name, problem)


def _fail(name: str, problem: str) -> NoReturn:
    raise ArchitectureCheckError(f"{name}: {problem}")
