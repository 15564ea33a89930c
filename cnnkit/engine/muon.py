"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one; AdamW for all that is no hidden matrix.

A hidden matrix keeps the size (Frobenius norm) it starts with. Before a normalisation its size means nothing but how far a step turns
it; kept, a rate means the same turn in every step, and weight decay has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Keller Jordan, "Muon: An optimizer for hidden layers" (https://kellerjordan.github.io/posts/muon), section on Newton-Schulz: tuned to
# bring singular values near 1 in five iterations rather than exactly to 1 in many.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Published code of airbench94_muon (https://github.com/KellerJordan/cifar10-airbench): Nesterov with 0.6, and steps that are a share of a
# filter's size, which is kept: up to 0.24 there, in 200 steps of 2,000 images. In more and smaller steps that is too much: see
# docs/benchmarks/LOG.md, "Smaller steps of Muon". AdamW's parameters want 0.01.
# Momentum and kept size: see docs/benchmarks/LOG.md, "Parts of the fast recipe".
MOMENTUM = 0.6
SHARE = 10.0
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW, torch's defaults
SMALL = 2**20  # numbers in a matrix; the largest of fast-cnn of width 64 has 590,000
TINY = 1e-7  # keeps zero from being divided by zero


class Muon(torch.optim.Optimizer):
    """Muon for groups with ``muon=True``, AdamW for the others.

    Groups have ``params``, ``weight_decay`` (decoupled, AdamW's) and ``muon``. A convolution's filters (O, I, h, w) count as the matrix
    (O, I h w). The rate is AdamW's; a step of Muon is `SHARE` times the rate as a share of the matrix's size.
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
                if gradient is None:
                    continue
                if group["muon"]:
                    self._muon(parameter, gradient, group["lr"])
                else:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(self._adam(parameter, gradient), alpha=-group["lr"])
        return loss

    def _muon(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            size = parameter.norm()
            orthogonal = min(parameter.flatten(1).shape) ** 0.5  # the size of an orthogonal matrix, for one that starts at zero
            state.update(momentum=torch.zeros_like(parameter), size=size if size > 0 else torch.full_like(size, orthogonal))
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        nesterov = gradient.lerp(state["momentum"], MOMENTUM)
        with _few_threads(nesterov):
            step = orthogonalised(nesterov.flatten(1)).view_as(parameter)
        parameter.sub_(step * (lr * SHARE * state["size"] / (step.norm() + TINY)))
        parameter.mul_(state["size"] / (parameter.norm() + TINY))

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

    Every iteration multiplies by a polynomial of the Gram matrix, and all of them commute: so only that small square matrix is
    iterated, and the large one multiplied once: see docs/benchmarks/LOG.md, "Muon on one thread".
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + TINY)
    tall = x.shape[0] > x.shape[1]
    gram = x.T @ x if tall else x @ x.T
    product = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    return x @ product if tall else product @ x


@contextmanager
def _few_threads(matrix: Tensor) -> Generator[None]:
    """Compute on one thread of the CPU if `matrix` is small: to wake others for each product takes longer than the product.

    See docs/benchmarks/LOG.md, "Muon on one thread".
    """
    threads = torch.get_num_threads()
    if matrix.device.type != "cpu" or matrix.numel() > SMALL or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
