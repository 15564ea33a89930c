"""The values of other packages that a training names: loaded first, then tried, and checked after the fence."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from cnnkit.api.extensions.augmentations import load_augmentations
from cnnkit.config.settings import BUILT_IN_LOSSES, BUILT_IN_OPTIMIZERS, OptimSettings, TrainConfig
from cnnkit.engine.custom import BuildOptimizer, Custom, LossTerms
from cnnkit.errors import ConfigError
from cnnkit.extension.choice import parse_choice
from cnnkit.extension.results import are_losses, shown
from cnnkit.extension.values import Augmentation, Loss, Optimizer
from cnnkit.registry import LOSS_KIND, OPTIMIZER_KIND, Extension, load_extension

TRIAL_IMAGES = 4


@dataclass(frozen=True)
class TrainingExtensions:
    """The values of other packages in a training; None stands for the built-in choice."""

    loss: Extension[Loss] | None
    optimizer: Extension[Optimizer] | None
    augmentations: tuple[Extension[Augmentation], ...] = ()

    def custom(self, classes: int, device: torch.device) -> Custom:
        """Return the loss and the optimizer for the training loop, tried; raises `PluginError` if one breaks its contract."""
        loss = loss_terms(self.loss, classes, device) if self.loss else None
        return Custom(loss, optimizer_of(self.optimizer) if self.optimizer else None)

    def __iter__(self) -> Iterator[Extension[Any]]:
        """Yield the values of packages."""
        return (found for found in (self.loss, self.optimizer, *self.augmentations) if found is not None)


def load_training_extensions(config: TrainConfig) -> TrainingExtensions:
    """Return the values of packages that `config` names, without calling them; raises the errors of `load_extension`."""
    augmentations = load_augmentations(config.augment.augment_with)
    return TrainingExtensions(_load_loss(config.optim), _load_optimizer(config.optim), augmentations)


def _load_loss(optim: OptimSettings) -> Extension[Loss] | None:
    if _is_built_in(LOSS_KIND.flag, optim.loss, BUILT_IN_LOSSES):
        return None
    return load_extension(LOSS_KIND, optim.loss, built_in=BUILT_IN_LOSSES)


def _load_optimizer(optim: OptimSettings) -> Extension[Optimizer] | None:
    if _is_built_in(OPTIMIZER_KIND.flag, optim.optimizer, BUILT_IN_OPTIMIZERS):
        return None
    return load_extension(OPTIMIZER_KIND, optim.optimizer, built_in=BUILT_IN_OPTIMIZERS)


def _is_built_in(flag: str, text: str, names: tuple[str, ...]) -> bool:
    """Return True if `text` names one of the built-in `names`; raises `ConfigError` if it gives it options."""
    choice = parse_choice(text, flag)
    if choice.name in names and choice.settings:
        raise ConfigError(f"{flag} {text}: {choice.name} has no options of its own; leave out the part after the colon")
    return choice.name in names


def loss_terms(loss: Extension[Loss], classes: int, device: torch.device) -> LossTerms:
    """Return the function that `loss` builds for `classes` classes on `device`, inside the fence, tried on made-up logits.

    Raises `PluginError` unless it returns a loss for each image with a finite gradient for the logits.
    """
    built = loss.call(classes)
    if not callable(built):
        raise loss.refuse(f"its build returns a {type(built).__name__}; it must return a function of logits and targets")
    if isinstance(built, nn.Module):
        if any(True for _ in built.parameters()):
            raise loss.refuse("its build returns a module with parameters, which no optimizer would train; use buffers")
        built = built.to(device)

    def terms(logits: Tensor, targets: Tensor) -> Tensor:
        found = loss.guard(built, logits, targets)
        count = len(logits)
        if not are_losses(found, count, classes):
            raise loss.refuse(f"it returns {shown(found)}; expected floats of shape ({count},) or ({count}, {classes})")
        return found

    _try_loss(loss, terms, classes, device)
    return terms


def _try_loss(loss: Extension[Loss], terms: LossTerms, classes: int, device: torch.device) -> None:
    """Raise `PluginError` unless the loss of made-up logits is finite and has a finite gradient, for one class and for mixtures."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(TRIAL_IMAGES, classes, generator=random)
    mixed = torch.rand(TRIAL_IMAGES, classes, generator=random).softmax(1)
    plain = torch.eye(classes)[torch.arange(TRIAL_IMAGES) % classes]
    for targets, case in ((plain, "one class per image"), (mixed, "mixed classes")):
        with torch.enable_grad():
            logits = values.clone().to(device).requires_grad_()
            found = terms(logits, targets.to(device))
            if not found.requires_grad:
                raise loss.refuse(f"the loss for {case} has no gradient for the logits")
            loss.guard(found.sum().backward)
        if not found.isfinite().all() or logits.grad is None or not logits.grad.isfinite().all():
            raise loss.refuse(f"the loss for {case} or its gradient is not finite")


def optimizer_of(optimizer: Extension[Optimizer]) -> BuildOptimizer:
    """Return the function that builds `optimizer` for parameter groups, inside the fence, after a trial on a small layer.

    Raises `PluginError` unless the trial changes the layer, and its state can be saved for a resume.
    """

    def build(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        given = [(id(parameter), group["weight_decay"]) for group in groups for parameter in group["params"]]
        found = optimizer.call([dict(group) for group in groups], lr)
        if not isinstance(found, torch.optim.Optimizer):
            raise optimizer.refuse(f"its build returns a {type(found).__name__}, not a torch.optim.Optimizer")
        kept = [(id(parameter), group.get("weight_decay")) for group in found.param_groups for parameter in group["params"]]
        if sorted(map(str, kept)) != sorted(map(str, given)):
            raise optimizer.refuse("it does not keep the parameters and the weight_decay of the groups; pass them on: Kind(groups, lr=lr)")
        found.step = _guarded(optimizer, found.step)  # pyright: ignore[reportAttributeAccessIssue] (every step runs inside the fence)
        return found

    _try_optimizer(optimizer, build)
    return build


def _guarded(optimizer: Extension[Optimizer], step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(step)
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        return optimizer.guard(step, *arguments, **keywords)

    return guarded


def _try_optimizer(optimizer: Extension[Optimizer], build: BuildOptimizer) -> None:
    """Raise `PluginError` unless a step changes the weights of a layer, and the state can be written and read."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.fill_(1)
    groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias], "weight_decay": 0.0}]
    trial = build(groups, 0.1)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    with torch.enable_grad():
        layer(torch.ones(1, 2)).square().sum().backward()
    trial.step()
    after = list(layer.parameters())
    if not all(parameter.isfinite().all() for parameter in after) or all(map(torch.equal, before, after)):
        raise optimizer.refuse("a step leaves the weights as they are, or makes them infinite")
    file = io.BytesIO()
    try:
        torch.save(optimizer.guard(trial.state_dict), file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise optimizer.refuse(f"its state cannot be saved for a resume: {type(error).__name__}; hold tensors and plain numbers") from error
    optimizer.guard(build(groups, 0.1).load_state_dict, saved)
