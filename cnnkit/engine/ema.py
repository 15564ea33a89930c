"""An exponential moving average of the weights: a second model that follows the one that learns, and is calmer.

torch's own ``AveragedModel`` is not used: it averages counters as numbers and cuts off their fractions (see
docs/benchmarks/LOG.md, "Torch's averaged model"), turns infinite constants such as those of attention masks into NaN, and copies its own
counter to the GPU in every step, which waits for the device.
"""

from __future__ import annotations

import copy
from itertools import compress

import torch
from torch import Tensor, nn


class MovingAverage:
    """An average of `model`, in `module`: of its parameters and of the buffers that can be averaged, such as BatchNorm's statistics.

    `module` is in eval mode, on the device and in the memory format of `model`, and takes as much memory as its weights. Counters
    and constants that are not finite are copied. What does not change, such as frozen layers, stays equal to the bit.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
        self._decay = decay
        self._averaged = [_can_be_averaged(tensor) for tensor in _tensors(model)]
        self._copied = [not averaged for averaged in self._averaged]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights of `model` after its update number `step` (from 1)."""
        old, new = _tensors(self.module), _tensors(model)
        means, values = list(compress(old, self._averaged)), list(compress(new, self._averaged))
        share = 1 - decay_at(step, self._decay)
        torch._foreach_lerp_(means, values, share)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  # as torch.optim does
        for constant, value in zip(compress(old, self._copied), compress(new, self._copied), strict=True):
            constant.copy_(value)


def decay_at(step: int, decay: float) -> float:
    """Return the share of the old average that stays at update `step`: `decay`, but less at first, when the old is nearly random.

    (1 + step) / (10 + step) until that is more: the rule of TensorFlow's ``tf.train.ExponentialMovingAverage`` with
    ``num_updates``. The average then spans about the last ninth of the updates, and 0.999 is reached after 8,990 of them.
    """
    return min(decay, (1 + step) / (10 + step))


def _tensors(model: nn.Module) -> list[Tensor]:
    """All that `model` computes with; asked for anew every time, as a module may put another tensor in the place of a buffer."""
    return [*model.parameters(), *model.buffers()]


def _can_be_averaged(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and bool(tensor.isfinite().all())
