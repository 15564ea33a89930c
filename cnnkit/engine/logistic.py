"""Multinomial logistic regression with an L2 penalty, on features that are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cnnkit.engine.eager import eager

# Divided by the number of images they are the penalties, as 1 / C in scikit-learn's LogisticRegression; from strong to weak.
STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
MAX_ITERATIONS = 100  # of L-BFGS for one strength, which starts from the result of the stronger penalty before it
GRADIENT_TOLERANCE = 1e-5  # nats: smaller gradients move no probability


@dataclass(frozen=True, eq=False)
class LinearMap:
    """The map from features (N, D) to logits (N, K): `weight` (K, D) and `bias` (K,)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def zero(cls, classes: int, features: int, device: torch.device) -> LinearMap:
        """Return the map to equal logits, for which all classes are equally probable."""
        return cls(torch.zeros(classes, features, device=device), torch.zeros(classes, device=device))

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, K) of `features` (N, D)."""
        return functional.linear(features, self.weight, self.bias)


def regressions(features: Tensor, labels: Tensor, classes: int, class_weights: Tensor | None = None) -> Iterator[LinearMap]:
    """Yield the logistic regression of `labels` (N,) on `features` (N, D), float32, for each of `STRENGTHS`.

    The penalty acts on standardised features. The scaling is folded back into the map, which takes the features as they are.
    `class_weights` (K,) weigh the loss. The result draws no random number.
    """
    std, mean = torch.std_mean(features, dim=0, correction=0)
    scale = torch.where(std > torch.finfo(std.dtype).eps * mean.abs().clamp(min=1), std, torch.ones_like(std))  # constant features stay 0
    standardised = (features - mean) / scale
    weight = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, requires_grad=True)
    for strength in STRENGTHS:
        _minimise(standardised, labels, weight, bias, strength / len(labels), class_weights)
        folded = weight.detach() / scale
        yield LinearMap(folded, bias.detach() - folded @ mean)


def _minimise(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, penalty: float, class_weights: Tensor | None) -> None:
    """Move `weight` and `bias` to the minimum of the mean loss plus `penalty` / 2 times the squared norm of `weight`."""
    optimizer = eager(torch.optim.LBFGS)(
        [weight, bias], max_iter=MAX_ITERATIONS, tolerance_grad=GRADIENT_TOLERANCE, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(functional.linear(features, weight, bias), labels, weight=class_weights)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
