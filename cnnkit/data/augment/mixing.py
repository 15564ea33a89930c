"""Mixtures of two images and their labels: MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cnnkit.data.augment.erasing import rectangles
from cnnkit.data.staging import to_device


@dataclass(frozen=True, eq=False)
class Mixture:
    """The random choices with which `mix` mixes N images.

    `blended` (N,) bool tells MixUp from CutMix. `edges` (4, N) int64 are top, bottom, left and right of the cuts. `kept` (N,) float32
    is the share that an image keeps.
    """

    blended: Tensor
    edges: Tensor
    kept: Tensor

    def to(self, device: torch.device) -> Mixture:
        """Return the mixture on `device`."""
        return Mixture(to_device(self.blended, device), to_device(self.edges, device), to_device(self.kept, device))

    def part(self, start: int, stop: int) -> Mixture:
        """Return the mixture of the images `start` to `stop`."""
        return Mixture(self.blended[start:stop], self.edges[:, start:stop], self.kept[start:stop])


def draw_mixture(draws: NDArray[np.float32], *, mixup: float, cutmix: float, height: int, width: int) -> Mixture:
    """Return the mixture of N images of `height` and `width` that `draws` (N, 4) in [0, 1) choose.

    An image's own share is drawn from Beta(A, A), where A is `mixup` or `cutmix`; 0 switches a method off. With both, each image
    takes either method with probability 0.5. The draws give method, share, and the horizontal and vertical position of the cut.
    """
    blend_probability = 0.5 if mixup and cutmix else float(not cutmix)
    blended = draws[:, 0] < blend_probability
    share = np.where(blended, beta(draws[:, 1], mixup), beta(draws[:, 1], cutmix))
    top, bottom = _cut(draws[:, 3], share, height)
    left, right = _cut(draws[:, 2], share, width)
    kept = np.where(blended, share, 1 - (bottom - top) * (right - left) / (height * width))  # pixels that the border clips off the cut stay
    edges = np.stack([top, bottom, left, right])
    return Mixture(torch.from_numpy(blended), torch.from_numpy(edges), torch.from_numpy(kept.astype(np.float32)))


def mix(images: Tensor, labels: Tensor, mixture: Mixture, classes: int) -> tuple[Tensor, Tensor]:
    """Mix each of `images` (N, C, H, W) with the previous image of the batch, the first with the last.

    Returns images, float32, and targets (N, `classes`), float32: the share of each class in the picture. The batch must be shuffled, so
    that the previous image is a random image. All arguments are on one device.
    """
    top, bottom, left, right = mixture.edges
    box = rectangles(top, bottom, left, right, *images.shape[2:])
    weight = torch.where(mixture.blended[:, None, None, None], mixture.kept[:, None, None, None], (~box).float())
    images, targets = images.float(), functional.one_hot(labels, classes).float()
    return torch.lerp(images.roll(1, 0), images, weight), torch.lerp(targets.roll(1, 0), targets, mixture.kept[:, None])


def beta(draws: NDArray[np.float32], concentration: float) -> NDArray[np.float64]:
    """Turn `draws`, uniform in [0, 1), into draws of Beta(A, A) with A = `concentration`; zeros for A = 0.

    The inverse distribution function is a pure function of each draw, unlike a rejection sampler.
    """
    if not concentration:
        return np.zeros(len(draws))
    from scipy.special import betaincinv  # scipy.stats.beta.ppf calls it

    return np.asarray(betaincinv(concentration, concentration, draws.astype(np.float64)))


def _cut(draws: NDArray[np.float32], share: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and end (exclusive) of the cut in a line of `size` pixels, by the paper's algorithm, with a uniform centre."""
    length = (size * np.sqrt(1 - share)).astype(np.int64)
    start = (draws * np.float64(size)).astype(np.int64) - length // 2
    return start.clip(0, size), (start + length).clip(0, size)
