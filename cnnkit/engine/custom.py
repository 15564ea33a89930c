"""The loss and the optimizer of another package, in place of the built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

# Logits (n, K) and the share of each class in the image (n, K) -> the loss of each image (n,), or its terms of each class (n, K).
LossTerms = Callable[[Tensor, Tensor], Tensor]
BuildOptimizer = Callable[[list[dict[str, Any]], float], Optimizer]  # parameter groups and learning rate


@dataclass(frozen=True)
class Custom:
    """The parts of a training that come from other packages; None stands for the built-in part."""

    loss: LossTerms | None = None
    optimizer: BuildOptimizer | None = None


BUILT_IN = Custom()
