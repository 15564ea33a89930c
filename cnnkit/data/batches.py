"""Batches for the engine: canvases of the store, shuffled, augmented and normalised on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.augment.augment import MIXING_DRAWS, AugmentationStrength, augment, draw_numbers
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.augment.mixing import mix
from cnnkit.data.augment.randomness import permutation
from cnnkit.data.store.cached_results import cached_result
from cnnkit.data.store.scan import Scan
from cnnkit.data.store.store import canvas_file
from cnnkit.data.store.stream import Canvases, gather, in_batches
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing


@dataclass(frozen=True)
class Batches:
    """Batches of one split.

    `canvases` is the store, uint8 (M, C, S, S). `rows` (N,) are the rows of the samples in it, `labels` (N,) their classes.
    Without an `augmentation`, as in evaluation, samples come unchanged and in order. If `balanced`, every class is drawn equally
    often: images of rare classes repeat, and each repetition is augmented differently. An augmentation that mixes images needs the
    number of `classes`. `extra` are the augmentations of other packages. With several `parts`, only the part number `part` of each batch
    of an epoch is made; the parts of a batch differ by at most one image.
    """

    canvases: Canvases
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    batch_size: int
    preprocess: Preprocess
    device: torch.device
    seed: int = 0
    augmentation: AugmentationStrength | None = None
    balanced: bool = False
    classes: int = 0
    extra: tuple[ExtraAugmentation, ...] = ()
    part: int = 0
    parts: int = 1

    @property
    def images(self) -> int:
        """Number of images per epoch."""
        if not self.balanced:
            return len(self.rows)
        counts = np.bincount(self.labels)
        return int(np.count_nonzero(counts) * counts.max())

    @property
    def steps(self) -> int:
        """Number of batches per epoch. Their sizes differ by at most one image, so that no tiny batch upsets BatchNorm."""
        return max(1, -(-self.images // self.batch_size))

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) of epoch `number` on the device, from batch `first`; equal numbers give equal batches.

        Images are normalised float32 (n, C, S, S). Labels are int64 (n,), or, when images are mixed, the probabilities of the
        classes, float32 (n, K).
        """
        order, keys = self._order(number)
        parts = [self._own_part(batch) for batch in np.array_split(np.arange(len(order)), self.steps)[first:]]
        for part, canvases in zip(parts, gather(self.canvases, (self.rows[order[part]] for part in parts)), strict=True):
            chosen = order[part]
            images = torch.from_numpy(canvases).to(self.device)
            labels = torch.from_numpy(self.labels[chosen]).to(self.device)
            if self.augmentation is not None:
                draws = draw_numbers(self.seed, number, keys[part], self.extra)
                images = augment(images, torch.from_numpy(draws).to(self.device), self.augmentation, self.extra)
                if self.augmentation.mixes:
                    mixup, cutmix = self.augmentation.mixup, self.augmentation.cutmix
                    images, labels = mix(images, labels, draws[:, MIXING_DRAWS], mixup=mixup, cutmix=cutmix, classes=self.classes)
                    images, labels = images[self._neighbours :], labels[self._neighbours :]
            yield self.preprocess.normalise(images), labels

    @property
    def _neighbours(self) -> int:
        """The number of images before a part that it needs but does not yield: each image is mixed with the one before it."""
        return int(self.parts > 1 and self.augmentation is not None and self.augmentation.mixes)

    def _own_part(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the part of the positions `batch` (n,) that is made here, after its neighbour in the whole batch."""
        own = np.array_split(batch, self.parts)[self.part]
        return np.concatenate([batch[(own[:1] - batch[0] - 1) % len(batch)], own]) if self._neighbours else own

    def _order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the order of the samples in an epoch, and for each the key of its random numbers."""
        if self.augmentation is None:
            order = np.arange(len(self.rows))
            return order, order
        if self.balanced:
            order, keys = self._balanced_order(number)
        else:
            order = keys = np.arange(len(self.rows))
        shuffled = permutation(self.seed, number, len(order))
        return order[shuffled], keys[shuffled]

    def _balanced_order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return samples and keys, with as many samples of every class as the largest class has.

        Repetitions of a sample have different keys.
        """
        counts = np.bincount(self.labels)
        order: list[NDArray[np.int64]] = []
        keys: list[NDArray[np.int64]] = []
        for label in np.flatnonzero(counts):
            members = np.flatnonzero(self.labels == label)
            shuffled = members[permutation(self.seed + 1, number, len(members))]
            draws = np.arange(counts.max())
            order.append(shuffled[draws % len(members)])
            keys.append(order[-1] + (draws // len(members) << 32))
        return np.concatenate(order), np.concatenate(keys)


def channel_statistics(canvases: Canvases, rows: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, on the [0, 1] scale, of the canvases `rows`, from exact sums."""
    channels = canvases.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for block in gather(canvases, in_batches(np.sort(rows))):
        for channel in range(channels):
            counts[channel] += np.bincount(block[:, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    variance = np.maximum(
        counts @ levels**2 / counts.sum(1) - mean**2, (1 / 255) ** 2
    )  # one level: constant images are not divided by zero
    return tuple(map(float, mean)), tuple(map(float, np.sqrt(variance)))


def normalised_by(store: Scan, geometry: Preprocessing, rows: NDArray[np.int64]) -> Preprocessing:
    """Return `geometry` with the mean and standard deviation of the canvases `rows` of `store`, which caches them on the disk."""

    def compute() -> dict[str, Any]:
        assert store.canvases is not None  # noqa: S101 (the store was made for this geometry)
        mean, std = channel_statistics(store.canvases, rows)
        return {"mean": mean, "std": std}

    rows_hash = hashlib.sha256(rows.tobytes()).hexdigest()
    found = cached_result(store.folder, "statistics", (canvas_file(geometry), store.fingerprint, rows_hash), compute)
    return geometry.model_copy(update={name: tuple(found[name]) for name in ("mean", "std")})


def class_weights(labels: NDArray[np.int64], classes: Sequence[str]) -> Tensor:
    """Return the inverse-frequency weights (K,) of scikit-learn's "balanced", n / (K * n_class), whose mean over the samples is 1."""
    counts = np.bincount(labels, minlength=len(classes))
    return torch.tensor(len(labels) / (len(classes) * np.maximum(counts, 1)), dtype=torch.float32)
