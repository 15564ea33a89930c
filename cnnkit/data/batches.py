"""From the store to what the engine eats: shuffled, augmented, normalised batches on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.augment.augment import MIXING_DRAWS, Augmentation, augment, draw_numbers
from cnnkit.data.augment.mixing import mix
from cnnkit.data.augment.randomness import permutation
from cnnkit.data.store.cached_results import cached_result
from cnnkit.data.store.store import canvas_file
from cnnkit.data.store.stream import Canvases, gather, in_batches
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing


@dataclass(frozen=True)
class Batches:
    """Batches of one split.

    `canvases` is the store, uint8 (M, C, S, S); `rows` and `labels` (N,) are the samples' places in it and their
    classes. `augmentation` None means evaluation: in order, untouched. With `balanced` every class is drawn equally
    often: rarer ones repeat, each repetition augmented anew. An augmentation that mixes images must know how many
    `classes` there are.
    """

    canvases: Canvases
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    batch_size: int
    preprocess: Preprocess
    device: torch.device
    seed: int = 0
    augmentation: Augmentation | None = None
    balanced: bool = False
    classes: int = 0

    @property
    def images(self) -> int:
        """Images per epoch."""
        if not self.balanced:
            return len(self.rows)
        counts = np.bincount(self.labels)
        return int(np.count_nonzero(counts) * counts.max())

    @property
    def steps(self) -> int:
        """Batches per epoch. They are of equal size but for one image, so that no tiny batch upsets BatchNorm."""
        return max(1, -(-self.images // self.batch_size))

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images (n, C, S, S) float32 normalised, labels) on the device, the same for the same `number`.

        Labels are (n,) int64, or the probabilities of the classes, (n, K) float32, when images are mixed.
        """
        order, keys = self._order(number)
        parts = np.array_split(np.arange(len(order)), self.steps)
        for part, canvases in zip(parts, gather(self.canvases, (self.rows[order[part]] for part in parts)), strict=True):
            chosen = order[part]
            images = torch.from_numpy(canvases).to(self.device)
            labels = torch.from_numpy(self.labels[chosen]).to(self.device)
            if self.augmentation is not None:
                draws = draw_numbers(self.seed, number, keys[part])
                images = augment(images, torch.from_numpy(draws).to(self.device), self.augmentation)
                if self.augmentation.mixes:
                    mixup, cutmix = self.augmentation.mixup, self.augmentation.cutmix
                    images, labels = mix(images, labels, draws[:, MIXING_DRAWS], mixup=mixup, cutmix=cutmix, classes=self.classes)
            yield self.preprocess.normalise(images), labels

    def _order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which samples come when, and the key each one's random numbers are drawn with."""
        if self.augmentation is None:
            order = np.arange(len(self.rows))
            return order, order
        if self.balanced:
            order, keys = self._equalised(number)
        else:
            order = keys = np.arange(len(self.rows))
        shuffled = permutation(self.seed, number, len(order))
        return order[shuffled], keys[shuffled]

    def _equalised(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As many samples of every class as the largest has; keys tell the repetitions of a sample apart."""
        counts = np.bincount(self.labels)
        order: list[NDArray[np.int64]] = []
        keys: list[NDArray[np.int64]] = []
        for label in np.flatnonzero(counts):
            members = np.flatnonzero(self.labels == label)
            shuffled = members[permutation(self.seed + 1, number, len(members))]
            place = np.arange(counts.max())
            order.append(shuffled[place % len(members)])
            keys.append(order[-1] + (place // len(members) << 32))
        return np.concatenate(order), np.concatenate(keys)


def channel_statistics(canvases: Canvases, rows: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel on the [0, 1] scale over the images `rows` of the store, from exact sums."""
    channels = canvases.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for block in gather(canvases, in_batches(np.sort(rows))):
        for channel in range(channels):
            counts[channel] += np.bincount(block[:, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    variance = np.maximum(counts @ levels**2 / counts.sum(1) - mean**2, (1 / 255) ** 2)  # constant images divide by one level
    return tuple(map(float, mean)), tuple(map(float, np.sqrt(variance)))


def normalised_by(folder: Path | None, geometry: Preprocessing, canvases: Canvases, rows: NDArray[np.int64]) -> Preprocessing:
    """Return `geometry` with mean and std of the images `rows`; the store in `folder` (None: there is none) remembers them."""

    def work() -> dict[str, Any]:
        mean, std = channel_statistics(canvases, rows)
        return {"mean": mean, "std": std}

    which = hashlib.sha256(rows.tobytes()).hexdigest()
    found = cached_result(folder, "statistics", (canvas_file(geometry), which), work)
    return geometry.model_copy(update={name: tuple(found[name]) for name in ("mean", "std")})


def class_weights(labels: NDArray[np.int64], classes: Sequence[str]) -> Tensor:
    """Return inverse-frequency weights (K,) with mean 1 over the samples: n / (K * n_class), as scikit-learn's "balanced"."""
    counts = np.bincount(labels, minlength=len(classes))
    return torch.tensor(len(labels) / (len(classes) * np.maximum(counts, 1)), dtype=torch.float32)
