"""The values that a package provides: a metric, a loss, an optimizer, an augmentation.

This module needs the standard library alone, so a plugin that imports `cnnkit` loads nothing that it does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A score of predictions, which ``cnnkit eval --metric`` measures with its interval.

    `compute(labels, predicted, probabilities, *, option=default, ...)` returns one number. The arrays are of numpy: class indices
    (N,) int64, and probabilities (N, K) float32. The number must not depend on the order of the images, and may be NaN if they do not
    define it. `bounds` are its smallest and its largest possible value.
    """

    compute: Callable[..., float]
    summary: str
    bounds: tuple[float, float] | None = None
    reference: str = ""


@dataclass(frozen=True)
class Loss:
    """A training loss, which ``cnnkit train --loss`` names.

    `build(num_classes, *, option=default, ...)` returns a function of ``(logits, targets)``: float32 (n, K), and the share of each class
    in the image, float32 (n, K), after label smoothing and mixing. The function returns the loss of each image, (n,), or its terms of
    each class, (n, K), which add up to that loss. cnnkit takes the mean. Class weights weigh the terms as in cross-entropy; without
    terms, they weigh the images. The function may be an `nn.Module` without parameters.
    """

    build: Callable[..., Any]
    summary: str
    reference: str = ""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer, which ``cnnkit train --optimizer`` names.

    `build(groups, lr, *, option=default, ...)` returns a `torch.optim.Optimizer`. Each of the `groups` is a dict with ``params`` and
    their own ``weight_decay``. With ``--layer-decay`` it has ``lr_scale`` too, which cnnkit multiplies into the ``lr`` of the group
    before every step.
    """

    build: Callable[..., Any]
    summary: str
    reference: str = ""


@dataclass(frozen=True)
class Augmentation:
    """A random change of training images, which ``cnnkit train --augment-with`` names.

    `apply(images, draws, *, option=default, ...)` changes a whole batch on its device: float32 (n, C, S, S) with values from 0 to 255,
    to the same shape and range. `draws`, float32 (n, `num_draws`) in [0, 1), are the random numbers of each image, a function of
    seed, epoch and image alone. `apply` draws no other random number, so a training is repeated and resumed exactly.
    """

    apply: Callable[..., Any]
    summary: str
    num_draws: int = 1
    reference: str = ""
