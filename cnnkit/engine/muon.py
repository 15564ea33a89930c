"""Muon: an optimizer that replaces the momentum of each hidden matrix by the nearest orthogonal matrix.

All other parameters are updated by AdamW. A hidden matrix keeps the size (Frobenius norm) that it starts with. Before a
normalisation, that size only decides by what angle a step turns the matrix. With a constant size, a learning rate means
the same angle in every step, and weight decay would have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
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

# Operations on lists of tensors, which a GPU does in one launch; torch.optim uses the same functions.
foreach_add, foreach_add_ = torch._foreach_add, torch._foreach_add_  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
foreach_mul, foreach_mul_ = torch._foreach_mul, torch._foreach_mul_  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
foreach_div, foreach_sqrt = torch._foreach_div, torch._foreach_sqrt  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
foreach_lerp_ = torch._foreach_lerp_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


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
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not group["muon"]:
                self._adam(learning, group["lr"], group["weight_decay"])
            elif learning and learning[0].device.type == "cpu":
                for parameter in learning:
                    self._muon(parameter, group["lr"])
            else:
                for alike in _by_shape(learning):
                    self._muon_together(alike, group["lr"])
        return loss

    def _muon(self, parameter: Tensor, lr: float) -> None:
        """Update a matrix on a CPU."""
        gradient, state = _gradient(parameter), self._muon_state(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        nesterov = gradient.lerp(state["momentum"], MOMENTUM)
        with _one_thread_if_small(nesterov):
            step = orthogonalise(nesterov.flatten(1)).view_as(parameter)
        parameter.sub_(step * (lr * STEP_SIZE_FACTOR * state["size"] / (step.norm() + NORM_EPSILON)))
        parameter.mul_(state["size"] / (parameter.norm() + NORM_EPSILON))

    def _muon_together(self, parameters: list[Tensor], lr: float) -> None:
        """Update matrices of one shape on a GPU, with products of all of them: a small product alone leaves most of a GPU idle."""
        states = [self._muon_state(parameter) for parameter in parameters]
        gradients = [_gradient(parameter) for parameter in parameters]
        momenta = [state["momentum"] for state in states]
        foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        nesterov = _stacked(gradients).lerp(_stacked(momenta), MOMENTUM)
        sizes = torch.stack([state["size"] for state in states])[:, None, None]
        step = orthogonalise_all(nesterov, _product_type(nesterov.device))
        step *= lr * STEP_SIZE_FACTOR * sizes / (_sizes(step) + NORM_EPSILON)
        weights = _stacked(parameters) - step
        weights *= sizes / (_sizes(weights) + NORM_EPSILON)
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(weight.view_as(parameter))

    def _muon_state(self, parameter: Tensor) -> dict[str, Any]:
        """Return the momentum of a matrix and the size that it keeps."""
        state = self.state[parameter]
        if "momentum" not in state:
            size = parameter.norm()
            orthogonal_size = min(parameter.flatten(1).shape) ** 0.5  # for a matrix that starts at zero
            state.update(momentum=torch.zeros_like(parameter), size=torch.where(size > 0, size, orthogonal_size))
        return state

    def _adam(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        """Update `parameters` as AdamW does, in few calls for all of them."""
        if not parameters:
            return
        states = [self._adam_state(parameter) for parameter in parameters]
        gradients = [_gradient(parameter) for parameter in parameters]
        means, squares = [state["mean"] for state in states], [state["square"] for state in states]
        foreach_mul_(parameters, 1 - lr * weight_decay)
        foreach_lerp_(means, gradients, 1 - ADAM_BETAS[0])
        foreach_lerp_(squares, foreach_mul(gradients, gradients), 1 - ADAM_BETAS[1])
        updates = foreach_div(means, [1 - ADAM_BETAS[0] ** state["step"] for state in states])
        roots = foreach_sqrt(foreach_div(squares, [1 - ADAM_BETAS[1] ** state["step"] for state in states]))
        foreach_add_(parameters, foreach_div(updates, foreach_add(roots, ADAM_EPSILON)), alpha=-lr)

    def _adam_state(self, parameter: Tensor) -> dict[str, Any]:
        """Return the state of a parameter of AdamW, one step further."""
        state = self.state[parameter]
        if "step" not in state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        return state


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # noqa: S101 (the caller has chosen those with a gradient)
    return parameter.grad


def _by_shape(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Return `parameters` in lists of equal shape as matrices."""
    found: dict[tuple[int, ...], list[Tensor]] = {}
    for parameter in parameters:
        found.setdefault(tuple(parameter.flatten(1).shape), []).append(parameter)
    return list(found.values())


def _stacked(values: list[Tensor]) -> Tensor:
    """Return filters or matrices of one shape as matrices (B, R, C)."""
    return torch.stack([value.flatten(1) for value in values])


def _sizes(matrices: Tensor) -> Tensor:
    """Return the size (B, 1, 1) of each of the matrices (B, R, C)."""
    return matrices.norm(dim=(1, 2), keepdim=True)


@cache
def _product_type(device: torch.device) -> torch.dtype:
    """Return the type of the products of matrices on a GPU: bf16 where it is native, as in the published Muon."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def orthogonalise_all(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the matrices (B, R, C) as `orthogonalise` does, with products in `dtype`.

    Each iteration multiplies the large matrix. The products of Gram matrices in `orthogonalise` lose small singular values in bf16:
    see docs/benchmarks/LOG.md, "Muon in bf16".
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices / (_sizes(matrices) + NORM_EPSILON)).to(dtype)
    x = x.mT if tall else x
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


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
