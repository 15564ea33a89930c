"""Data-dependent initialisation of a network: from training images, before the first update."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.data.batches import Batches
from cnnkit.model.head import start_head
from cnnkit.model.weights import WeightsReport

MAX_INIT_IMAGES = 2000  # 500,000 patches of 12 numbers suffice for the covariance of `fast-cnn`; arXiv:2404.00498 takes 5,000 images
IMAGES_PER_CLASS = 64  # show the old classes that a new class resembles


@runtime_checkable
class StartsFromImages(Protocol):
    """A network that initialises a layer from normalised training images (N, C, H, W)."""

    def start_from(self, images: Tensor) -> None:
        """Initialise layers from `images`."""
        ...


def start_from_images(module: nn.Module, report: WeightsReport | None, images: Batches, classes: int) -> str | None:
    """Initialise layers of `module` from plain training `images`; return a note on the last layer, if one was set.

    `report` describes the loaded weights. With weights, `start_head` sets a new last layer for the number of `classes`. Without
    weights (None), a module with `start_from` gets up to `MAX_INIT_IMAGES` images.
    """
    if report is not None:
        return start_head(module, classes, report.fresh, report.spare, _select(images, _rows_of_every_class(images.labels)).epoch(0))
    if isinstance(module, StartsFromImages):
        indices = np.linspace(0, len(images.rows) - 1, min(MAX_INIT_IMAGES, len(images.rows))).astype(np.int64)
        module.start_from(torch.cat([batch for batch, _ in _select(images, indices).epoch(0)]))
    return None


def _select(images: Batches, indices: NDArray[np.int64]) -> Batches:
    return replace(images, rows=images.rows[indices], labels=images.labels[indices])


def _rows_of_every_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.flatnonzero(labels == label)[:IMAGES_PER_CLASS] for label in np.unique(labels)])
