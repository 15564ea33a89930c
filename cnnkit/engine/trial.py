"""A trial of a network before its training, on a copy, which changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.engine.random_state import own_random_state

MAX_ERROR_LENGTH = 200  # characters of an error message of torch, whose later lines are advice to programmers


def forward_failure(model: nn.Module, images: Tensor, classes: int) -> str:
    """Return the reason why `model` cannot train on the batch `images` (n, C, H, W); an empty text if it can.

    A copy of `model` passes the batch forward in train mode. It must return logits (n, `classes`). `model` and the random state do not
    change.
    """
    return _failure(model, images, lambda trial: _wrong_logits(trial.train()(images), len(images), classes))


def learning_failure(model: nn.Module, images: Tensor, classes: int) -> str:
    """Return the reason why `model` cannot learn from `images` or predict for them; an empty text if it can.

    A copy of `model` computes the gradients of a loss in train mode, and logits in eval mode, as validation does. `images` should be
    few: the gradients take three times the time and memory of `forward_failure`. `model` and the random state do not change.
    """

    def learn(trial: nn.Module) -> str:
        with torch.enable_grad():
            functional.cross_entropy(trial.train()(images), torch.zeros(len(images), dtype=torch.int64, device=images.device)).backward()
        wrong = _wrong_logits(trial.eval()(images), len(images), classes)
        return f"in eval mode {wrong}" if wrong else ""

    return _failure(model, images, learn)


def _failure(model: nn.Module, images: Tensor, attempt: Callable[[nn.Module], str]) -> str:
    """Return the result of `attempt` with a copy of `model`, or its error; third-party code may raise anything, even SystemExit."""
    with own_random_state(images.device, seed=0), torch.no_grad():
        try:
            return attempt(copy.deepcopy(model).to(images.device))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (as above)
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0][:MAX_ERROR_LENGTH]}".removesuffix(": ")


def _wrong_logits(logits: object, images: int, classes: int) -> str:
    """Return what is wrong with the `logits` of a network; an empty text for a float tensor (images, classes)."""
    expected = f"expected logits of shape ({images}, {classes}), for {images} images and {classes} classes"
    if not isinstance(logits, Tensor):
        return f"it returns a {type(logits).__name__}; {expected}"
    if logits.shape != (images, classes) or not logits.is_floating_point():
        return f"it returns {str(logits.dtype).removeprefix('torch.')} of shape {tuple(logits.shape)}; {expected}"
    return ""
