"""A trial of a network before its training: one forward pass in train mode, on a copy, which changes nothing."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cnnkit.engine.random_state import own_random_state

MAX_ERROR_LENGTH = 200  # characters of an error message of torch, whose later lines are advice to programmers


def forward_failure(model: nn.Module, images: Tensor, classes: int) -> str:
    """Return the reason why `model` cannot train on the batch `images` (n, C, H, W); an empty text if it can.

    A copy of `model` passes the batch forward in train mode. It must return logits (n, `classes`). `model` and the random state do not
    change. The error may come from third-party code, so any exception counts.
    """
    with own_random_state(images.device, seed=0), torch.no_grad():
        trial = copy.deepcopy(model).to(images.device).train()
        try:
            logits = trial(images)
        except Exception as error:  # noqa: BLE001 (as above)
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0][:MAX_ERROR_LENGTH]}".removesuffix(": ")
    expected = f"expected logits of shape ({len(images)}, {classes}), for {len(images)} images and {classes} classes"
    if not isinstance(logits, Tensor):
        return f"it returns a {type(logits).__name__}; {expected}"
    if logits.shape != (len(images), classes) or not logits.is_floating_point():
        return f"it returns {str(logits.dtype).removeprefix('torch.')} of shape {tuple(logits.shape)}; {expected}"
    return ""
