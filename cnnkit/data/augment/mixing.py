"""Two images in one, and both their labels: MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cnnkit.data.augment.erasing import rectangles


def mix(images: Tensor, labels: Tensor, draws: NDArray[np.float32], *, mixup: float, cutmix: float, classes: int) -> tuple[Tensor, Tensor]:
    """Mix every one of `images` (N, C, H, W) with the one before it in the batch (the first with the last).

    `mixup` and `cutmix` are the A of the Beta(A, A) that an image's own share is drawn from, 0: never; if both are given,
    each image is as likely mixed in one way as in the other. `draws` (N, 4) in [0, 1) say which way, the share, and where
    the cut is across and down. Returns float32 images and targets (N, `classes`) float32, the probability of each class:
    the share of the picture that is of it. The batch comes shuffled, so that a neighbour is anyone.
    """
    height, width = images.shape[2:]
    chance = 0.5 if mixup and cutmix else float(not cutmix)
    blended = draws[:, 0] < chance
    share = np.where(blended, beta(draws[:, 1], mixup), beta(draws[:, 1], cutmix))
    top, bottom = _cut(draws[:, 3], share, height)
    left, right = _cut(draws[:, 2], share, width)
    kept = np.where(blended, share, 1 - (bottom - top) * (right - left) / (height * width))  # what the border clipped stays

    device = images.device
    edges = torch.from_numpy(np.stack([top, bottom, left, right])).to(device)
    box = rectangles(edges[0], edges[1], edges[2], edges[3], height, width)
    own = torch.from_numpy(kept.astype(np.float32)).to(device)
    blend = torch.from_numpy(blended).to(device)[:, None, None, None]
    weight = torch.where(blend, own[:, None, None, None], (~box).float())
    images, targets = images.float(), functional.one_hot(labels, classes).float()
    return torch.lerp(images.roll(1, 0), images, weight), torch.lerp(targets.roll(1, 0), targets, own[:, None])


def beta(draws: NDArray[np.float32], concentration: float) -> NDArray[np.float64]:
    """Turn `draws`, uniform in [0, 1), into draws of Beta(A, A), A = `concentration`; zeros if that is 0.

    By the inverse of the distribution function: a pure function of the draw, which a rejection sampler is not.
    """
    if not concentration:
        return np.zeros(len(draws))
    from scipy.special import betaincinv  # what scipy.stats.beta.ppf computes

    return np.asarray(betaincinv(concentration, concentration, draws.astype(np.float64)))


def _cut(draws: NDArray[np.float32], share: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last-plus-one of the pixels cut out of a line of `size`: the paper's algorithm, its centre anywhere."""
    length = (size * np.sqrt(1 - share)).astype(np.int64)
    start = (draws * np.float64(size)).astype(np.int64) - length // 2
    return start.clip(0, size), (start + length).clip(0, size)
