"""The few pieces the built-in architectures share; a plugin is free to use them too."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cnnkit import CnnkitError


def check_options(dropout: float, **sizes: int) -> None:
    """Raise `CnnkitError` unless `dropout` is in [0, 1) and every size is at least 1."""
    if not 0 <= dropout < 1:
        raise CnnkitError(f"--set dropout={dropout}: must be at least 0 and below 1")
    for name, size in sizes.items():
        if size < 1:
            raise CnnkitError(f"--set {name}={size}: must be at least 1")


def conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    """Return Conv3x3 - BatchNorm - ReLU, mapping (N, inputs, H, W) to (N, outputs, H, W).

    The convolution has no bias: the normalisation after it would subtract it again (arXiv:1502.03167, section 3.2).
    """
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def halve() -> nn.MaxPool2d:
    """Return a 2x2 max pooling that maps (N, C, H, W) to (N, C, H/2, W/2), rounded up so that one pixel stays one."""
    return nn.MaxPool2d(2, ceil_mode=True)


class Residual(nn.Module):
    """Two Conv3x3 - BatchNorm - ReLU added to their own input, (N, C, H, W) to the same shape (arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm_relu(channels, channels), conv_norm_relu(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return ``images + body(images)``."""
        return images + self.body(images)


class AverageGrid(nn.Module):
    """Average feature maps (N, C, H, W) of any size over a grid of cells, giving (N, C, side, side).

    What `nn.AdaptiveAvgPool2d` does; where the cells divide the map, as in nearly every training, by the plain average
    pooling, whose gradient is deterministic on CUDA too (the adaptive one refuses `use_deterministic_algorithms`).
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, side, side)."""
        height, width = maps.shape[2:]
        if height == width == self.side:  # a mean over one pixel still costs its gradient: 4 % of a step of custom-cnn at 32 px
            return maps
        if height % self.side or width % self.side:
            return F.adaptive_avg_pool2d(maps, self.side)
        return F.avg_pool2d(maps, (height // self.side, width // self.side))


class GlobalMax(nn.Module):
    """The largest value of each feature map: (N, C, H, W) to (N, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return maps.amax((2, 3))


class Scale(nn.Module):
    """Multiply by a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        """Return ``factor * values``, in the same shape."""
        return self.factor * values


def he_init(network: nn.Module) -> None:
    """Draw the weights before ReLUs as residual networks do, so that activations keep their scale (arXiv:1502.01852, eq. 10).

    The last layer, which gives the logits, keeps torch's smaller default: larger logits would be confident before the first step.
    """
    *hidden, _logits = _weighted(network)
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def glorot_init(network: nn.Module) -> None:
    """Draw the weights as Keras does: uniform by fan-in and fan-out, biases zero (Glorot and Bengio 2010, eq. 16).

    For networks without normalisation: torch's default starts them almost silent (first logits of `custom-cnn` spread by 0.06),
    He's too loud, as each max-pooling adds power (1.5); these start at 0.3. See docs/benchmarks/LOG.md, "Spread of the first logits".
    """
    for layer in _weighted(network):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _weighted(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
