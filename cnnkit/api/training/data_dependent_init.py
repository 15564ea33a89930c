"""Data-dependent initialisation: the training images that a network sees before it learns from them."""

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

STARTERS = 2000  # images a network may start from (arXiv:2404.00498 takes 5,000); 500,000 patches of 12 numbers are plenty
EXAMPLES = 64  # images per class that show which of the old classes a new one resembles


@runtime_checkable
class StartsFromImages(Protocol):
    """A network that wants to see training images, normalised (N, C, H, W), before it learns: for a first layer made from them."""

    def start_from(self, images: Tensor) -> None:
        """Set what is made from images."""
        ...


def start_from_images(module: nn.Module, report: WeightsReport | None, images: Batches, classes: int) -> str | None:
    """Show `module` some of the training `images`, untouched, if it asks for them or has a new last layer; returns what to tell about it.

    `report` says what became of the weights it starts from; None: it has none, and starts at random. There are so many `classes`.
    """
    if report is not None:
        return start_head(module, classes, report.fresh, report.spare, _chosen(images, _of_every_class(images.labels)).epoch(0))
    if isinstance(module, StartsFromImages):
        few = np.linspace(0, len(images.rows) - 1, min(STARTERS, len(images.rows))).astype(np.int64)
        module.start_from(torch.cat([batch for batch, _ in _chosen(images, few).epoch(0)]))
    return None


def _chosen(images: Batches, places: NDArray[np.int64]) -> Batches:
    return replace(images, rows=images.rows[places], labels=images.labels[places])


def _of_every_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.flatnonzero(labels == label)[:EXAMPLES] for label in np.unique(labels)])
