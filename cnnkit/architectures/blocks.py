"""Layers and initialisations that the built-in architectures share; plugins may use them too."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

Size = Annotated[int, Ge(1)]  # number of filters, blocks or units
Rate = Annotated[float, Interval(ge=0, lt=1)]  # the share of values that dropout sets to zero


def conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    """Return Conv3x3 - BatchNorm - ReLU, mapping (N, inputs, H, W) to (N, outputs, H, W).

    The convolution has no bias, because the normalisation after it would subtract the bias (arXiv:1502.03167, section 3.2).
    """
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def halve() -> nn.MaxPool2d:
    """Return a 2x2 max pooling that maps (N, C, H, W) to (N, C, H/2, W/2), rounded up so that one pixel remains."""
    return nn.MaxPool2d(2, ceil_mode=True)


class Residual(nn.Module):
    """Two Conv3x3 - BatchNorm - ReLU blocks added to their input, (N, C, H, W) to the same shape (arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm_relu(channels, channels), conv_norm_relu(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return ``images + body(images)``."""
        return images + self.body(images)


class AverageGrid(nn.Module):
    """The average of feature maps (N, C, H, W) over a grid of `size` x `size` cells, (N, C, size, size).

    It equals `nn.AdaptiveAvgPool2d`. If the cells divide the maps evenly, it is a plain average pooling, whose gradient is
    deterministic on CUDA too; the adaptive pooling refuses `use_deterministic_algorithms`.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, size, size)."""
        height, width = maps.shape[2:]
        if height == width == self.size:  # pooling over one pixel would take 4 % of a step of custom-cnn at 32 px
            return maps
        if height % self.size or width % self.size:
            return F.adaptive_avg_pool2d(maps, self.size)
        return F.avg_pool2d(maps, (height // self.size, width // self.size))


class GlobalMax(nn.Module):
    """The maximum of each feature map, (N, C, H, W) to (N, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return maps.amax((2, 3))


class Scale(nn.Module):
    """A multiplication by a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        """Return ``factor * values``, in the same shape."""
        return self.factor * values


def he_init(network: nn.Module) -> None:
    """Draw the weights before ReLUs as in residual networks, so that activations keep their scale (arXiv:1502.01852, eq. 10).

    The last layer keeps torch's smaller default: larger logits would be confident before the first step.
    """
    *hidden, _logits = _weighted(network)
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def glorot_init(network: nn.Module) -> None:
    """Draw the weights as in Keras: uniform by fan-in and fan-out, with zero biases (Glorot and Bengio 2010, eq. 16).

    It suits networks without normalisation. The first logits of `custom-cnn` have a spread of 0.3. With torch's default it
    is 0.06. With He's it is 1.5, as each max-pooling adds power: see docs/benchmarks/LOG.md, "Spread of the first logits".
    """
    for layer in _weighted(network):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _weighted(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
