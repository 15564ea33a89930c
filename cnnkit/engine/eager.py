"""Optimizers that do not import torch's compiler."""

from __future__ import annotations

from inspect import unwrap
from typing import TypeVar, cast

import torch

Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)

# The decorator of these methods excludes them from compilation; for that it imports the compiler.
WRAPPED_METHODS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(optimizer: type[Optimizer]) -> type[Optimizer]:
    """Return a subclass of `optimizer` whose methods do not import torch's compiler.

    torch's optimizers import it at their first call, although cnnkit never compiles an optimizer: see
    docs/benchmarks/LOG.md, "Torch's compiler at the start". A step runs without gradients, so the class does not support
    ``differentiable=True``.
    """
    methods = {name: unwrap(getattr(optimizer, name)) for name in WRAPPED_METHODS}
    step = torch.no_grad()(unwrap(optimizer.step))
    return cast("type[Optimizer]", type(optimizer.__name__, (optimizer,), {**methods, "step": step, "__doc__": optimizer.__doc__}))
