"""An exponential moving average of the weights: a second network that follows the trained one more smoothly.

torch's own ``AveragedModel`` is not used for three reasons. It averages integer counters and cuts off the fraction: see
docs/benchmarks/LOG.md, "Torch's averaged model". It turns infinite constants, such as those of attention masks, into NaN.
It copies its counter to the GPU in every step, which waits for the device.
"""

from __future__ import annotations

import copy
from itertools import compress

import torch
from torch import Tensor, nn


class MovingAverage:
    """The network `module`, whose weights are the moving average of the weights of `model`.

    Parameters and finite float buffers, such as BatchNorm's statistics, are averaged; counters and infinite constants are
    copied. Tensors that do not change, such as those of frozen layers, stay bit-equal. `module` is in eval mode, on the
    device and in the memory format of `model`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
        self._decay = decay
        self._averaged = [_can_be_averaged(tensor) for tensor in _tensors(model)]
        self._copied = [not averaged for averaged in self._averaged]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights of `model` after its update number `step` (from 1)."""
        old, new = _tensors(self.module), _tensors(model)
        means, values = list(compress(old, self._averaged)), list(compress(new, self._averaged))
        share = 1 - decay_at(step, self._decay)
        torch._foreach_lerp_(means, values, share)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  # as torch.optim does
        for constant, value in zip(compress(old, self._copied), compress(new, self._copied), strict=True):
            constant.copy_(value)


def decay_at(step: int, decay: float) -> float:
    """Return the share of the old average that stays at update `step`, at most `decay`.

    The share starts lower, because the first weights are nearly random. It is (1 + step) / (10 + step), the rule of
    TensorFlow's ``tf.train.ExponentialMovingAverage`` with ``num_updates``. The average then spans about the last ninth
    of the updates. The share reaches 0.999 after 8,990 updates.
    """
    return min(decay, (1 + step) / (10 + step))


def _tensors(model: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of `model`; call it at every update, since a module may replace a buffer's tensor."""
    return [*model.parameters(), *model.buffers()]


def _can_be_averaged(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and bool(tensor.isfinite().all())
