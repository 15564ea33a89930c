"""Batches for the engine: canvases of the store, shuffled, augmented and normalised on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.augment.augment import MIXING_DRAWS, AugmentationStrength, augment, draw_numbers
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.augment.mixing import draw_mixture, mix
from cnnkit.data.augment.randomness import permutation
from cnnkit.data.epoch_plan import EpochPlan, PlansAhead
from cnnkit.data.resident import ResidentCanvases
from cnnkit.data.staging import one_ahead, pinned, to_device
from cnnkit.data.store.cached_results import cached_result
from cnnkit.data.store.scan import Scan
from cnnkit.data.store.store import canvas_file
from cnnkit.data.store.stream import Canvases, gather, in_batches
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing

MAX_DRAWN_SAMPLES = 2**16  # of an epoch whose random numbers are drawn at a time: in 64 bits they take 12 MB


@dataclass(frozen=True)
class Batches:
    """Batches of one split.

    `canvases` is the store, uint8 (M, C, S, S). `rows` (N,) are the rows of the samples in it, `labels` (N,) their classes.
    Without an `augmentation`, as in evaluation, samples come unchanged and in order. If `balanced`, every class is drawn equally
    often: images of rare classes repeat, and each repetition is augmented differently. An augmentation that mixes images needs the
    number of `classes`. `extra` are the augmentations of other packages. With several `parts`, only the part number `part` of each batch
    of an epoch is made; the parts of a batch differ by at most one image.

    All images and random numbers are the same with `resident`, the canvases in the memory of the device, and with `ahead`, by which a
    thread gathers the next batch and copies do not wait for the device.
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
    resident: ResidentCanvases | None = None
    ahead: bool = False
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

    @property
    def usual_size(self) -> int:
        """The size of most batches that are made here."""
        size, larger = divmod(self.images, self.steps)
        whole = size + (2 * larger > self.steps)
        return whole // self.parts + (self.part < whole % self.parts)

    @property
    def usual_share(self) -> float:
        """The share of the batches of an epoch that have the usual size: at least a half."""
        larger = self.images % self.steps
        return max(larger, self.steps - larger) / self.steps

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) of epoch `number` on the device, from batch `first`; equal numbers give equal batches.

        Images are normalised float32 (n, C, S, S). Labels are int64 (n,), or, when images are mixed, the probabilities of the
        classes, float32 (n, K).
        """
        for images, plan in self._canvases(number, first):
            labels = plan.labels
            if self.augmentation is not None and plan.draws is not None:
                images = augment(images, plan.draws, self.augmentation, self.extra)  # noqa: PLW2901
                if plan.mixture is not None:
                    images, labels = mix(images, labels, plan.mixture, self.classes)  # noqa: PLW2901
                    images, labels = images[self._neighbours :], labels[self._neighbours :]  # noqa: PLW2901
            yield self.preprocess.normalise(images), labels

    def _canvases(self, number: int, first: int) -> Iterator[tuple[Tensor, EpochPlan]]:
        """Yield the canvases (n, C, S, S) and the plan of each batch from the index `first`, both on the device."""
        if self.resident is not None:
            whole = self._plans.take(number)
            sizes = [len(part) for part in self._parts(len(self.rows) if self.augmentation is None else self.images)]
            yield from self.resident.batches(whole.part(sum(sizes[:first]), len(whole.rows)), sizes[first:])
            return
        order, keys = self._order(number)
        parts = self._parts(len(order))[first:]
        canvases = gather(self.canvases, (self.rows[order[part]] for part in parts))
        batches = (
            (pinned(torch.from_numpy(block), self.device), self._plan(number, order[part], keys[part]))
            for part, block in zip(parts, canvases, strict=True)
        )
        for block, plan in one_ahead(batches) if self.ahead else batches:
            yield to_device(block, self.device), plan.to(self.device)

    @cached_property
    def _plans(self) -> PlansAhead:
        return PlansAhead(self._whole_plan)

    def _whole_plan(self, number: int) -> EpochPlan:
        """Return the plan of all batches of epoch `number`, one after the other."""
        order, keys = self._order(number)
        own = np.concatenate(self._parts(len(order)))
        return self._plan(number, order[own], keys[own])

    def _plan(self, number: int, samples: NDArray[np.int64], keys: NDArray[np.int64]) -> EpochPlan:
        """Return the plan of `samples` in epoch `number`, whose random numbers have the `keys`."""
        draws = mixture = None
        if self.augmentation is not None:
            draws = self._draw(number, keys)
            if self.augmentation.mixes:
                height, width = self.canvases.shape[2:]
                mixup, cutmix = self.augmentation.mixup, self.augmentation.cutmix
                mixture = draw_mixture(draws[:, MIXING_DRAWS], mixup=mixup, cutmix=cutmix, height=height, width=width)
        return EpochPlan(
            self.rows[samples], torch.from_numpy(self.labels[samples]), None if draws is None else torch.from_numpy(draws), mixture
        )

    def _draw(self, number: int, keys: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the random numbers of the samples `keys`, drawn in parts if they are many."""
        if len(keys) <= MAX_DRAWN_SAMPLES:
            return draw_numbers(self.seed, number, keys, self.extra)
        parts = np.array_split(keys, -(-len(keys) // MAX_DRAWN_SAMPLES))
        return np.concatenate([draw_numbers(self.seed, number, part, self.extra) for part in parts])

    @property
    def _neighbours(self) -> int:
        """The number of images before a part that it needs but does not yield: each image is mixed with the one before it."""
        return int(self.parts > 1 and self.augmentation is not None and self.augmentation.mixes)

    def _parts(self, images: int) -> list[NDArray[np.int64]]:
        """Return the positions, among the `images` of an epoch, that are made here for each batch."""
        return [self._own_part(batch) for batch in np.array_split(np.arange(images), self.steps)]

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
