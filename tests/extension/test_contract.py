"""The contract tests find every broken promise and name it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cnnkit import Augmentation, Loss, Metric, Optimizer
from cnnkit.testing import ExtensionCheckError, check_augmentation, check_loss, check_metric, check_optimizer


def accuracy(labels: Any, predicted: Any, probabilities: Any, *, factor: float = 1.0) -> float:
    return factor * float((labels == predicted).mean())


def spoiled(labels: Any, predicted: Any, probabilities: Any) -> float:
    predicted[:] = 0
    return 0.5


def as_integer(labels: Any, predicted: Any, probabilities: Any, *, factor: int = 0.5) -> float:  # pyright: ignore[reportArgumentType]
    return 0.5


SHARE = Metric(compute=accuracy, summary="share of right predictions", bounds=(0.0, 1.0))


def test_a_good_metric_passes() -> None:
    check_metric(SHARE, "share")


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (accuracy, "is a function, not a cnnkit.Metric"),
        (replace(SHARE, compute=None), "its compute is a NoneType, not a function"),
        (replace(SHARE, summary=" "), "needs a summary, a text of one line"),
        (replace(SHARE, summary="two\nlines"), "needs a summary, a text of one line"),
        (replace(SHARE, compute=as_integer), "option 'factor' has type int, which cannot hold its default 0.5"),
        (replace(SHARE, compute=lambda *_: None), "returns a NoneType for 2 classes; expected one number"),
        (replace(SHARE, compute=lambda *_: True), "returns a bool for 2 classes; expected one number"),
        (replace(SHARE, compute=lambda *_: 1.5), "returns 1.5 for 2 classes; expected a finite number from 0 to 1"),
        (replace(SHARE, compute=lambda *_: float("inf"), bounds=None), "returns inf for 2 classes; expected a finite number"),
        (replace(SHARE, compute=lambda *_: float("nan")), "is not defined for 2 classes, although every class has an image"),
        (
            replace(SHARE, compute=lambda labels, *_: labels[:9].sum() / 90),
            "gives another number for 2 classes if the images have another order",
        ),
        (replace(SHARE, compute=spoiled), "changes its arrays for 2 classes"),
    ],
)
def test_a_broken_metric_is_named_with_its_problem(metric: Any, problem: str) -> None:
    with pytest.raises(ExtensionCheckError) as caught:
        check_metric(metric, "share")
    assert str(caught.value) == f"share: {problem}"


# --- losses -----------------------------------------------------------------------------------------------------------


def built(function: Any) -> Loss:
    return Loss(build=lambda _, *, power=1.0: function if power else None, summary="a loss")


def cross_entropy(logits: Any, targets: Any) -> Any:
    return -targets * logits.log_softmax(1)


def test_a_good_loss_passes() -> None:
    check_loss(built(cross_entropy), "mine")
    check_loss(built(lambda logits, targets: cross_entropy(logits, targets).sum(1)), "mine")


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (built(5), "its build returns a int, not a function of logits and targets"),
        (built(torch.nn.Linear(2, 2)), "its build returns a module with parameters, which no optimizer would train; use buffers"),
        (
            built(lambda logits, _: logits.mean()),
            "returns float32 of shape () for 2 classes and one class per image; expected floats of shape (6,) or (6, 2)",
        ),
        (built(lambda _, targets: targets), "has no gradient for the logits for 2 classes and one class per image"),
        (built(lambda logits, _: logits.exp()), "or its gradient is not finite for 2 classes and large logits"),
        (
            built(lambda logits, targets: cross_entropy(logits, targets) / logits.std().detach()),
            "differs for 2 classes and one class per image if the images have another batch",
        ),
        (
            built(lambda logits, targets: -cross_entropy(logits, targets)),
            "is not smaller for right predictions",
        ),
    ],
)
def test_a_broken_loss_is_named_with_its_problem(loss: Any, problem: str) -> None:
    with pytest.raises(ExtensionCheckError) as caught:
        check_loss(loss, "mine")
    found = str(caught.value)
    assert found.startswith(f"mine: {problem}") or ("finite" in problem and "finite" in found)


# --- optimizers -------------------------------------------------------------------------------------------------------


class Forgetful(torch.optim.SGD):
    """An optimizer that keeps a counter outside its state."""

    count = 0

    def step(self, closure: Any = None) -> Any:
        del closure
        self.count += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"] / self.count)


class Stubborn(torch.optim.SGD):
    """An optimizer that keeps its first learning rate."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] = 0.01
        return super().step(closure)


class Uphill(torch.optim.SGD):
    """An optimizer that raises the loss."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.neg_()
        return super().step(closure)


def of(kind: Any) -> Optimizer:
    return Optimizer(build=lambda groups, lr, *, momentum=0.0: kind(groups, lr=lr, momentum=momentum), summary="an optimizer")


def test_a_good_optimizer_passes() -> None:
    check_optimizer(of(torch.optim.SGD), "mine")


@pytest.mark.parametrize(
    ("optimizer", "problem"),
    [
        (of(lambda *_, **__: 5), "its build returns a int, not a torch.optim.Optimizer"),
        (of(lambda groups, **given: torch.optim.SGD(groups[:1], **given)), "does not keep the parameters of the groups in their order"),
        (
            of(lambda groups, **given: torch.optim.SGD([{"params": group["params"]} for group in groups], **given)),
            "does not keep weight_decay and lr_scale of the groups; pass them on: Kind(groups, lr=lr)",
        ),
        (of(Uphill), "does not lower the loss of a small network in 30 steps with a learning rate of 0.01"),
        (of(Stubborn), "moves a group whose lr is 0; read the learning rate of every group before every step"),
        (of(Forgetful), "does not continue exactly from a saved state: keep all values in the state and the groups"),
    ],
)
def test_a_broken_optimizer_is_named_with_its_problem(optimizer: Any, problem: str) -> None:
    with pytest.raises(ExtensionCheckError) as caught:
        check_optimizer(optimizer, "mine")
    assert str(caught.value) == f"mine: {problem}"


# --- augmentations ----------------------------------------------------------------------------------------------------


def darker(images: Any, draws: Any, *, depth: float = 0.5) -> Any:
    return images * (1 - depth * draws[:, :1, None, None])


DARK = Augmentation(apply=darker, summary="darker images", num_draws=1)


def test_a_good_augmentation_passes() -> None:
    check_augmentation(DARK, "dark")


@pytest.mark.parametrize(
    ("augmentation", "problem"),
    [
        (replace(DARK, num_draws=-1), "num_draws is -1; expected the number of random numbers of an image"),
        (replace(DARK, apply=lambda *_: 5), "returns a int for 1 channels and 8 px; expected float32 of shape (5, 1, 8, 8)"),
        (
            replace(DARK, apply=lambda images, _: images[:1]),
            "returns float32 of shape (1, 1, 8, 8) for 1 channels and 8 px; expected float32",
        ),
        (replace(DARK, apply=lambda images, _: images + 9), "returns levels from "),
        (replace(DARK, apply=lambda images, _: images), "changes no image"),
        (
            replace(DARK, apply=lambda images, _: images * torch.rand(1)),
            "draws from torch's random numbers for 1 channels and 8 px: take every random number from draws",
        ),
        (
            replace(DARK, apply=lambda images, _: (images + images.roll(1, 0)) / 2),
            "changes an image for 1 channels and 8 px by the other images of its batch",
        ),
        (replace(DARK, apply=lambda images, _: images.mul_(0.5) * 1), "changes its arguments for 1 channels and 8 px"),
    ],
)
def test_a_broken_augmentation_is_named_with_its_problem(augmentation: Any, problem: str) -> None:
    with pytest.raises(ExtensionCheckError) as caught:
        check_augmentation(augmentation, "dark")
    assert str(caught.value).startswith(f"dark: {problem}")
