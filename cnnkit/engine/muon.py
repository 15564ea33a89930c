"""Muon: an optimizer that replaces the momentum of each hidden matrix by the nearest orthogonal matrix.

All other parameters are updated by AdamW. A hidden matrix keeps the size (Frobenius norm) that it starts with. Before a
normalisation, that size only decides by what angle a step turns the matrix. With a constant size, a learning rate means
the same angle in every step, and weight decay would have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# These coefficients bring the singular values near 1 in five iterations, rather than exactly to 1 in many. They are from Keller
# Jordan, "Muon: An optimizer for hidden layers" (https://kellerjordan.github.io/posts/muon), section on Newton-Schulz.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# The published airbench94_muon (https://github.com/KellerJordan/cifar10-airbench) uses Nesterov momentum 0.6 and steps of up to 0.24 of a
# filter's size, for 200 steps of 2,000 images. More and smaller steps need a smaller share: see docs/benchmarks/LOG.md, "Smaller steps
# of Muon". With this factor, matrices and AdamW's parameters share a learning rate near 0.01.
# Momentum and constant size: see docs/benchmarks/LOG.md, "Parts of the fast recipe".
MOMENTUM = 0.6
STEP_SIZE_FACTOR = 10.0
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # torch's defaults for AdamW
MAX_ONE_THREAD_NUMEL = 2**20  # numbers in a matrix; the largest of fast-cnn with width 64 has 590,000
NORM_EPSILON = 1e-7  # prevents a division by zero


class Muon(torch.optim.Optimizer):
    """Muon for groups with ``muon=True``, AdamW for the others.

    Groups have ``params``, ``weight_decay`` (decoupled, for AdamW) and ``muon``. The filters of a convolution (O, I, h, w)
    are a matrix (O, I h w). The size of a Muon step, relative to the size of its matrix, is `STEP_SIZE_FACTOR` times the
    learning rate.
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
            orthogonal_size = min(parameter.flatten(1).shape) ** 0.5  # for a matrix that starts at zero
            state.update(momentum=torch.zeros_like(parameter), size=size if size > 0 else torch.full_like(size, orthogonal_size))
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        nesterov = gradient.lerp(state["momentum"], MOMENTUM)
        with _one_thread_if_small(nesterov):
            step = orthogonalise(nesterov.flatten(1)).view_as(parameter)
        parameter.sub_(step * (lr * STEP_SIZE_FACTOR * state["size"] / (step.norm() + NORM_EPSILON)))
        parameter.mul_(state["size"] / (parameter.norm() + NORM_EPSILON))

    def _adam(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[parameter]
        if "step" not in state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - ADAM_BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - ADAM_BETAS[1])
        mean = state["mean"] / (1 - ADAM_BETAS[0] ** state["step"])
        return mean / ((state["square"] / (1 - ADAM_BETAS[1] ** state["step"])).sqrt() + ADAM_EPSILON)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return the matrix (R, C) with its singular values brought near 1 (0.7 to 1.2), by a quintic Newton-Schulz iteration.

    Every iteration multiplies by a polynomial of the Gram matrix, and these polynomials commute. So the iteration works on
    the small Gram matrix, and the large matrix is multiplied once: see docs/benchmarks/LOG.md, "Muon on one thread".
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + NORM_EPSILON)
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
def _one_thread_if_small(matrix: Tensor) -> Generator[None]:
    """Use one CPU thread if `matrix` is small: waking the other threads takes longer than a product.

    See docs/benchmarks/LOG.md, "Muon on one thread".
    """
    threads = torch.get_num_threads()
    if matrix.device.type != "cpu" or matrix.numel() > MAX_ONE_THREAD_NUMEL or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
