"""Optimizers that leave torch's compiler alone."""

from __future__ import annotations

from inspect import unwrap
from typing import TypeVar, cast

import torch

Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)

# Each of them tells the compiler to keep away from it, and imports the compiler to tell it so.
WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(optimizer: type[Optimizer]) -> type[Optimizer]:
    """Return a class like `optimizer` whose methods do not import torch's compiler.

    The first call of an optimizer of torch imports it, though nothing is compiled here but, with ``--compile``, the network: see
    docs/benchmarks/LOG.md, "Torch's compiler at the start". A step is made without gradients, so ``differentiable=True`` is not for this
    class.
    """
    methods = {name: unwrap(getattr(optimizer, name)) for name in WRAPPED}
    step = torch.no_grad()(unwrap(optimizer.step))
    return cast("type[Optimizer]", type(optimizer.__name__, (optimizer,), {**methods, "step": step, "__doc__": optimizer.__doc__}))
