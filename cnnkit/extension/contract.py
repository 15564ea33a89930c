"""The contract tests of metrics, losses, optimizers and augmentations; `cnnkit.testing` gives them to the tests of plugins."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.architecture import option_keywords, read_options, reads_back
from cnnkit.errors import CheckFailedError
from cnnkit.extension.results import LEVEL_TOLERANCE, MAX_LEVEL, are_images, are_losses, is_number, is_possible, shown, wrong_levels
from cnnkit.extension.values import Augmentation, Loss, Metric, Optimizer

LOSS_IMAGES = 6
AUGMENTED_IMAGES = 5
OPTIMIZER_STEPS, OPTIMIZER_LR = 30, 0.01


class ExtensionCheckError(CheckFailedError, AssertionError):
    """A metric, a loss, an optimizer or an augmentation that breaks the contract."""


def check_metric(metric: Metric, name: str = "metric") -> None:
    """Check that `metric` keeps the contract; the messages call it `name`.

    The check computes it with default options for 2 and 10 classes, for images of one class, and for one image. It tests the type and
    the bounds of the number, that the order of the images does not change it, and that the arrays stay as they are. Raises
    `ExtensionCheckError` (an `AssertionError`), which names the broken promise. Errors of the metric pass through.
    """
    keywords = _check_extension(metric, Metric, "compute", name)
    random = np.random.default_rng(0)
    for classes in (2, 10):
        labels = np.concatenate([np.arange(classes), random.integers(classes, size=50)])
        probabilities = random.dirichlet(np.ones(classes), size=len(labels)).astype(np.float32)
        case = f"for {classes} classes"
        value = _score(metric, keywords, labels, probabilities, name, case)
        if math.isnan(value):
            _refuse(name, f"is not defined {case}, although every class has an image")
        order = random.permutation(len(labels))
        if not math.isclose(_score(metric, keywords, labels[order], probabilities[order], name, case), value, rel_tol=1e-6, abs_tol=1e-9):
            _refuse(name, f"gives another number {case} if the images have another order")
        _score(metric, keywords, labels, np.eye(classes, dtype=np.float32)[labels], name, f"{case} and right predictions")
        _score(metric, keywords, np.zeros(5, np.int64), probabilities[:5], name, f"{case} and images of one class")
        _score(metric, keywords, labels[:1], probabilities[:1], name, f"{case} and one image")


def _score(metric: Metric, keywords: Mapping[str, Any], labels: Any, probabilities: Any, name: str, case: str) -> float:
    """Return the number that `metric` computes, checked; it gets arrays of its own, which must not change."""
    given = labels, probabilities.argmax(1), probabilities
    copies = tuple(array.copy() for array in given)
    found: Any = metric.compute(*copies, **keywords)  # a plugin may return anything
    if any((copy != array).any() for copy, array in zip(copies, given, strict=True)):
        _refuse(name, f"changes its arrays {case}")
    if not is_number(found):
        _refuse(name, f"returns {shown(found)} {case}; expected one number")
    value = float(found)
    if not is_possible(value, metric):
        limits = " from {:g} to {:g}".format(*metric.bounds) if metric.bounds else ""
        _refuse(name, f"returns {value:g} {case}; expected a finite number{limits}")
    return value


def _check_extension(value: Any, kind: type, role: str, name: str) -> dict[str, Any]:
    """Check the fields that all extensions have; return the default options of the function in the field `role`."""
    if not isinstance(value, kind):
        _refuse(name, f"is a {type(value).__name__}, not a cnnkit.{kind.__name__}")
    function: Callable[..., Any] = getattr(value, role)
    if not callable(function):
        _refuse(name, f"its {role} is a {type(function).__name__}, not a function")
    summary = getattr(value, "summary", "")
    if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        _refuse(name, "needs a summary, a text of one line")
    known = read_options(function, name, f"its {role}")
    for option in known.values():
        if not reads_back(option):
            _refuse(name, f"option {option.name!r} has type {option.type.__name__}, which cannot hold its default {option.default!r}")
    return option_keywords(known, name, {option.name: option.default for option in known.values()})


def _refuse(name: str, problem: str) -> NoReturn:
    raise ExtensionCheckError(f"{name}: {problem}")


def check_loss(loss: Loss, name: str = "loss") -> None:
    """Check that `loss` keeps the contract; the messages call it `name`.

    The check builds it with default options for 2 and 10 classes. It tests the shape, the gradient, that images of a batch do not change
    each other's loss, that large logits give finite losses, and that right predictions cost less than wrong ones. Raises
    `ExtensionCheckError` (an `AssertionError`), which names the broken promise. Errors of the loss pass through.
    """
    keywords = _check_extension(loss, Loss, "build", name)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for classes in (2, 10):
            function = loss.build(classes, **keywords)
            if not callable(function):
                _refuse(name, f"its build returns a {type(function).__name__}, not a function of logits and targets")
            if isinstance(function, nn.Module) and list(function.parameters()):
                _refuse(name, "its build returns a module with parameters, which no optimizer would train; use buffers")
            mixed = torch.rand(LOSS_IMAGES, classes).softmax(1)
            plain = torch.eye(classes)[torch.randint(classes, (LOSS_IMAGES,))]
            for targets, kind in ((plain, "one class per image"), (mixed, "mixed classes")):
                _check_losses(function, torch.randn(LOSS_IMAGES, classes), targets, name, f"for {classes} classes and {kind}")
                _check_losses(function, 200 * torch.randn(LOSS_IMAGES, classes), targets, name, f"for {classes} classes and large logits")
            right, wrong = (float(_losses(function, 5 * each, plain, name, f"for {classes} classes").sum()) for each in (plain, -plain))
            if not right < wrong:
                _refuse(name, f"is not smaller for right predictions ({right:g}) than for wrong ones ({wrong:g}) for {classes} classes")


def _check_losses(function: Callable[[Tensor, Tensor], Any], values: Tensor, targets: Tensor, name: str, case: str) -> None:
    """Check the losses of logits `values` (n, K) and their gradient, in a batch and image by image."""
    logits = values.clone().requires_grad_()
    losses = _losses(function, logits, targets, name, case)
    if not losses.requires_grad:
        _refuse(name, f"has no gradient for the logits {case}")
    losses.sum().backward()
    if not losses.isfinite().all() or logits.grad is None or not logits.grad.isfinite().all():
        _refuse(name, f"or its gradient is not finite {case}")
    alone = torch.cat([_losses(function, values[i : i + 1], targets[i : i + 1], name, case) for i in range(len(values))])
    if not torch.allclose(alone, losses, rtol=1e-4, atol=1e-6):
        _refuse(name, f"differs {case} if the images have another batch")


def _losses(function: Callable[[Tensor, Tensor], Any], logits: Tensor, targets: Tensor, name: str, case: str) -> Tensor:
    """Return the losses that `function` computes, of a checked shape."""
    found, (count, classes) = function(logits, targets), logits.shape
    if not are_losses(found, count, classes):
        _refuse(name, f"returns {shown(found)} {case}; expected floats of shape ({count},) or ({count}, {classes})")
    return found


def check_optimizer(optimizer: Optimizer, name: str = "optimizer") -> None:
    """Check that `optimizer` keeps the contract; the messages call it `name`.

    The check builds it with default options for the groups of a small network. It tests that steps lower a loss, that every group has its
    own learning rate and weight decay, that a step needs no closure, and that a saved and loaded state continues exactly. Raises
    `ExtensionCheckError` (an `AssertionError`), which names the broken promise. Errors of the optimizer pass through.
    """
    keywords = _check_extension(optimizer, Optimizer, "build", name)
    with torch.random.fork_rng(devices=()):
        whole = _Descent(optimizer, keywords, name)
        start = whole.loss()
        whole.steps(OPTIMIZER_STEPS)
        if not whole.loss() < start:
            _refuse(name, f"does not lower the loss of a small network in {OPTIMIZER_STEPS} steps with a learning rate of {OPTIMIZER_LR:g}")
        still = _Descent(optimizer, keywords, name)
        still.optimizer.param_groups[0]["lr"] = 0.0
        before = [parameter.detach().clone() for parameter in still.network.parameters()]
        still.steps(1)
        moved = [not torch.equal(old, new) for old, new in zip(before, still.network.parameters(), strict=True)]
        if moved[0] or moved[2]:  # the matrices, group 0
            _refuse(name, "moves a group whose lr is 0; read the learning rate of every group before every step")
        if not moved[1] and not moved[3]:
            _refuse(name, "does not move the second group if the lr of the first is 0")
        first, second = (_Descent(optimizer, keywords, name) for _ in range(2))
        first.steps(3)
        second.network.load_state_dict(first.network.state_dict())
        second.optimizer.load_state_dict(_saved(first.optimizer.state_dict(), name))
        first.steps(3)
        second.steps(3)
        if any(not torch.equal(*pair) for pair in zip(first.network.parameters(), second.network.parameters(), strict=True)):
            _refuse(name, "does not continue exactly from a saved state: keep all values in the state and the groups")


class _Descent:
    """A small network, the same every time, with its `optimizer`: a group of two matrices, and a group of two biases."""

    def __init__(self, optimizer: Optimizer, keywords: Mapping[str, Any], name: str) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self._images, self._labels = torch.randn(32, 4), torch.arange(32) % 3
        parameters = list(self.network.parameters())
        groups: list[dict[str, Any]] = [
            {"params": parameters[::2], "weight_decay": 0.1, "lr_scale": 0.5},
            {"params": parameters[1::2], "weight_decay": 0.0},
        ]
        found: Any = optimizer.build([dict(group) for group in groups], OPTIMIZER_LR, **keywords)
        if not isinstance(found, torch.optim.Optimizer):
            _refuse(name, f"its build returns a {type(found).__name__}, not a torch.optim.Optimizer")
        self.optimizer = found
        if [[id(each) for each in group["params"]] for group in found.param_groups] != [[id(each) for each in g["params"]] for g in groups]:
            _refuse(name, "does not keep the parameters of the groups in their order")
        for group, given in zip(found.param_groups, groups, strict=True):
            if group.get("weight_decay") != given["weight_decay"] or group.get("lr_scale") != given.get("lr_scale"):
                _refuse(name, "does not keep weight_decay and lr_scale of the groups; pass them on: Kind(groups, lr=lr)")

    def loss(self) -> Tensor:
        """Return the loss of the network."""
        return functional.cross_entropy(self.network(self._images), self._labels)

    def steps(self, count: int) -> None:
        """Update the weights `count` times."""
        for _ in range(count):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()


def _saved(state: Mapping[str, Any], name: str) -> Any:
    """Return `state` as it is after it was written and read."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:  # noqa: BLE001 (torch.load raises many types)
        _refuse(name, f"its state holds other values than tensors and plain numbers ({type(error).__name__})")


def check_augmentation(augmentation: Augmentation, name: str = "augmentation") -> None:
    """Check that `augmentation` keeps the contract; the messages call it `name`.

    The check applies it with default options to gray and colour images of 8 and 33 pixels, to black and to white ones. It tests shape,
    type and range, that equal draws give equal images, that images of a batch do not change each other, that other draws change at least
    one image, and that its arguments and the random state of torch stay as they are. Raises `ExtensionCheckError` (an `AssertionError`),
    which names the broken promise. Errors of the augmentation pass through.
    """
    keywords = _check_extension(augmentation, Augmentation, "apply", name)
    count = augmentation.num_draws
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        _refuse(name, f"num_draws is {count!r}; expected the number of random numbers of an image")
    with torch.random.fork_rng(devices=()):
        random = torch.Generator().manual_seed(0)
        changes = False
        for channels, size in ((1, 8), (3, 33)):
            case = f"for {channels} channels and {size} px"
            images = (torch.rand(AUGMENTED_IMAGES, channels, size, size, generator=random) * MAX_LEVEL).round()
            draws = torch.rand(AUGMENTED_IMAGES, count, generator=random)
            found = _augmented(augmentation, keywords, images, draws, name, case)
            torch.manual_seed(1)
            if not torch.equal(_augmented(augmentation, keywords, images, draws, name, case), found):
                _refuse(name, f"gives other images {case} at a second call: take every random number from draws")
            alone = [_augmented(augmentation, keywords, images[i : i + 1], draws[i : i + 1], name, case) for i in range(AUGMENTED_IMAGES)]
            if (torch.cat(alone).float() - found.float()).abs().max() > LEVEL_TOLERANCE:
                _refuse(name, f"changes an image {case} by the other images of its batch")
            for level in (0.0, MAX_LEVEL):
                _augmented(augmentation, keywords, torch.full_like(images, level), draws, name, f"{case} and level {level:g}")
            for edge in (0.0, 1 - 2.0**-24):
                _augmented(augmentation, keywords, images, torch.full_like(draws, edge), name, f"{case} and draws of {edge:g}")
            others = torch.rand(AUGMENTED_IMAGES, count, generator=random)
            changes = changes or not torch.equal(_augmented(augmentation, keywords, images, others, name, case), images)
            changes = changes or not torch.equal(found, images)
        if not changes:
            _refuse(name, "changes no image")


def _augmented(augmentation: Augmentation, keywords: Mapping[str, Any], images: Tensor, draws: Tensor, name: str, case: str) -> Tensor:
    """Return the changed images, of a checked shape, type and range; the arguments and torch's random state must stay as they are."""
    given, numbers, state = images.clone(), draws.clone(), torch.get_rng_state()
    found: Any = augmentation.apply(given, numbers, **keywords)
    if not are_images(found, images.shape):
        _refuse(name, f"returns {shown(found)} {case}; expected float32 of shape {tuple(images.shape)}")
    if levels := wrong_levels(found):
        _refuse(name, f"returns {levels} {case}; expected levels from 0 to 255")
    if not torch.equal(numbers, draws) or (given is not found and not torch.equal(given, images)):
        _refuse(name, f"changes its arguments {case}")
    if not torch.equal(torch.get_rng_state(), state):
        _refuse(name, f"draws from torch's random numbers {case}: take every random number from draws")
    return found
