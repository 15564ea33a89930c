"""The contract test of an architecture: what a plugin's author calls, and what the built-in ones pass.

from cnnkit.testing import check_architecture

def test_convmixer():
    check_architecture(convmixer, "convmixer")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from cnnkit.architecture import INTERPOLATIONS, Architecture, options, parse_options
from cnnkit.errors import CheckFailedError, ConfigError, closest

BATCH = 3  # more than one, and no number of classes or channels used here but RGB's
SMALL = 32  # px: the smallest images that training does not scale up
TOLERANCE = 1e-3  # of the largest logit: memory formats differ by 1e-6 in float32, wrong layouts by 1e-1 and more


class ArchitectureCheckError(CheckFailedError, AssertionError):
    """An architecture breaks the contract that the rest of cnnkit relies on."""


def check_architecture(architecture: Architecture, name: str = "architecture") -> None:
    """Check that `architecture` keeps the contract; `name` is what the messages call it.

    Builds it on the CPU for 2 and 10 classes, 1 and 3 channels, at its own image size and at 32 pixels, and looks at
    logits, gradients, eval mode, seeds, the state dict, channels_last and options. The global random state is left as
    it was. Raises `ArchitectureCheckError` (an `AssertionError`) that says what is wrong; errors from inside the network
    pass through with their traceback.
    """
    with torch.random.fork_rng(devices=()):
        _check_card(architecture, name)
        _check_options(architecture, name)
        for num_classes, channels in ((2, 1), (10, 3)):
            for size in sorted({architecture.image_size, min(SMALL, architecture.image_size)}):
                _check_logits(architecture, name, num_classes, channels, size)
        _check_cam_layer(architecture, name)
        _check_seed(architecture, name)
        _check_state(architecture, name)


def _check_card(architecture: Architecture, name: str) -> None:
    if not isinstance(architecture, Architecture):  # pyright: ignore[reportUnnecessaryIsInstance] (a plugin may hand in anything)
        _fail(name, f"is a {type(architecture).__name__}, not a cnnkit.Architecture")
    if not architecture.summary.strip():
        _fail(name, "needs a summary: it is what `cnnkit archs` shows")
    if architecture.image_size < 1:
        _fail(name, f"image_size is {architecture.image_size}; it must be the side of its images in pixels")
    weights = architecture.pretrained
    if weights is not None and weights.interpolation not in INTERPOLATIONS:
        _fail(name, f"pretrained.interpolation is {weights.interpolation!r}; it must be one of {', '.join(INTERPOLATIONS)}")


def _check_options(architecture: Architecture, name: str) -> None:
    """Every option must read its own default back from ``--set``, with its type."""
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
    images = torch.randn(BATCH, channels, size, size)
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
        _fail(name, f"returns a {type(logits).__name__} {case}; expected one tensor of logits ({BATCH}, {num_classes})")
    if logits.shape != (BATCH, num_classes):
        _fail(name, f"returns shape {tuple(logits.shape)} {case}; expected logits ({BATCH}, {num_classes})")
    if not logits.isfinite().all():
        _fail(name, f"returns logits that are not finite {case}")


def _check_gradients(network: nn.Module, name: str, case: str) -> None:
    """Every trainable parameter must take part; a gradient of zero is allowed (zero-initialised BatchNorms give it)."""
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
        _fail(name, f"cam_layer is {layer!r}, which is no module of the network{closest(layer, names)}")


def _check_seed(architecture: Architecture, name: str) -> None:
    one, other = (_state(architecture, name, seed=1) for _ in range(2))
    differing = [key for key in one.keys() | other.keys() if key not in one or key not in other or not torch.equal(one[key], other[key])]
    if differing:
        _fail(name, f"built twice under torch.manual_seed(1) differs in {differing[0]!r}: draw weights from torch's random numbers alone")


def _check_state(architecture: Architecture, name: str) -> None:
    """A model file holds the state dict alone, so a fresh network must take it and give the same logits."""
    size = min(SMALL, architecture.image_size)
    images = torch.randn(BATCH, 3, size, size)
    trained, fresh = (_build(architecture, name, 2, 3, size) for _ in range(2))
    with torch.no_grad():
        trained.train()(images)  # moves running statistics away from their start
        trained.eval()
        try:
            fresh.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise ArchitectureCheckError(f"{name}: a second build does not take the first one's state dict: {error}") from error
        what = "gives other logits after its state dict was saved and loaded: keep what it learns in parameters and buffers"
        _check_close(fresh.eval()(images), trained(images), name, what)


def _state(architecture: Architecture, name: str, seed: int) -> Mapping[str, Tensor]:
    torch.manual_seed(seed)
    return _build(architecture, name, 2, 3, architecture.image_size).state_dict()


def _build(architecture: Architecture, name: str, num_classes: int, channels: int, size: int) -> nn.Module:
    """Build with the defaults; an option ``image_size`` is filled in, as training does."""
    chosen = parse_options(architecture, name, ())
    if "image_size" in chosen:
        chosen["image_size"] = size
    network = architecture.build(num_classes, channels, **chosen)
    if not isinstance(network, nn.Module):
        _fail(name, f"its build returns a {type(network).__name__}, not a torch.nn.Module")
    return network


def _check_close(got: Tensor, wanted: Tensor, name: str, otherwise: str) -> None:
    if (got - wanted).abs().max() > TOLERANCE * wanted.abs().max().clamp(min=1.0):
        _fail(name, otherwise)


def _fail(name: str, what: str) -> NoReturn:
    raise ArchitectureCheckError(f"{name}: {what}")
