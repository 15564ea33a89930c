"""The focal loss (arXiv:1708.02002) for cnnkit: images that the network already predicts well count less."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from cnnkit import Loss


def build(num_classes: int, *, gamma: float = 2.0) -> Callable[[Tensor, Tensor], Tensor]:  # noqa: ARG001 (the contract passes it)
    """Return the loss as a function of logits and targets (n, K), which returns the terms of the classes (n, K).

    The term of a class is -t (1 - p)^gamma log p for its share t in the target and its probability p. Gamma 0 is cross-entropy, also
    with class weights, label smoothing and mixed images.
    """
    if gamma < 0:
        raise ValueError(f"gamma={gamma:g} must be at least 0; 0 is cross-entropy, 2 is usual")

    def terms(logits: Tensor, targets: Tensor) -> Tensor:
        log_probabilities = functional.log_softmax(logits, dim=1)
        # -expm1(log p) is 1 - p without rounding. A power has an infinite slope at 0 for gamma below 1, so 0 is avoided.
        missing = (-log_probabilities.expm1()).clamp(min=1e-12) if gamma else 1.0
        return -targets * missing**gamma * log_probabilities

    return terms


focal = Loss(build=build, summary="the focal loss: well predicted images count less", reference="arXiv:1708.02002")
