"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one; AdamW for all that is no hidden matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Keller Jordan, "Muon: An optimizer for hidden layers" (https://kellerjordan.github.io/posts/muon), section on Newton-Schulz: tuned to
# bring singular values near 1 in five iterations rather than exactly to 1 in many.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MOMENTUM = 0.95  # Jordan's, Nesterov
# Liu et al., "Muon is Scalable for LLM Training" (arXiv:2502.16982), section 2.2: the root mean square of AdamW's updates is
# 0.2 to 0.4; scaled so, one learning rate and weight decay serve both.
ADAM_RMS = 0.2
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW, torch's defaults


class Muon(torch.optim.Optimizer):
    """Muon for groups with ``muon=True``, AdamW for the others.

    Groups have ``params``, ``weight_decay`` (decoupled) and ``muon``. A convolution's filters (O, I, h, w) count as the matrix
    (O, I h w).
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = closure() if closure else None
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update = self._muon(parameter, gradient) if group["muon"] else self._adam(parameter, gradient)
                    parameter.add_(update, alpha=-group["lr"])
        return loss

    def _muon(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        nesterov = gradient.lerp(state["momentum"], MOMENTUM)
        matrix = orthogonalised(nesterov.flatten(1))
        return (ADAM_RMS * max(matrix.shape) ** 0.5 * matrix).view_as(parameter)

    def _adam(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[parameter]
        if "step" not in state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - BETAS[1])
        mean = state["mean"] / (1 - BETAS[0] ** state["step"])
        return mean / ((state["square"] / (1 - BETAS[1] ** state["step"])).sqrt() + EPSILON)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return the matrix (R, C) with its singular values brought near 1 (0.7 to 1.2), by a quintic Newton-Schulz iteration.

    In bfloat16 on a GPU, which it bears; in the matrix's own type on a CPU.
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
