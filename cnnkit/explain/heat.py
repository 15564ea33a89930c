"""From the values at a few places to a heat map of the whole canvas."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def heat(maps: Tensor, size: int) -> NDArray[np.float32]:
    """Return maps (N, h, w) as heat (N, `size`, `size`) in [0, 1]: what speaks against the class is 0, the most of each image 1.

    Enlarged bilinearly. A map without a positive value stays zero.
    """
    large = F.interpolate(maps.float().clamp(min=0)[:, None], (size, size), mode="bilinear")[:, 0]
    most = large.amax((1, 2), keepdim=True)
    return torch.where(most > 0, large / most.clamp(min=torch.finfo(torch.float32).tiny), 0.0).cpu().numpy()
