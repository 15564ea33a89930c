"""The fourth stage of preparing a training: training batches, validation batches and class weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnkit.api.training.images import TrainingImages
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.batches import Batches, class_weights
from cnnkit.data.source import TRAIN, VAL
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.torch_classifier import inference_batch


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """Augmented batches of train, batches of val, and batches of train without augmentation, in order (`plain`).

    With several ranks, `train` yields the part of this rank; the others are whole.
    `class_weights` (K,) weigh the loss; None: every image has weight 1.
    """

    train: Batches
    val: Batches
    plain: Batches
    class_weights: Tensor | None


def make_batches(
    images: TrainingImages,
    device: torch.device,
    *,
    batch_size: int,
    balance: str,
    seed: int,
    extra: tuple[ExtraAugmentation, ...] = (),
    ranks: Ranks = ONE,
) -> TrainingBatches:
    """Return the batches of `images` on `device`, shuffled and augmented by `seed`, also by the `extra` augmentations of packages.

    `balance` is the value of ``--balance``.
    """
    rows, labels = images.dataset.arrays(TRAIN)
    preprocess = Preprocess(images.preprocessing).to(device)
    size = inference_batch(images.preprocessing.image_size, device)
    val = Batches(images.canvases, *images.dataset.arrays(VAL), size, preprocess, device)
    plain = replace(val, rows=rows, labels=labels)
    train = replace(
        plain,
        batch_size=batch_size,
        seed=seed,
        augmentation=images.augmentation,
        balanced=balance == "sampler",
        classes=len(images.classes),
        extra=extra,
        part=ranks.rank,
        parts=ranks.world,
    )
    return TrainingBatches(train, val, plain, class_weights(labels, images.classes) if balance == "weights" else None)
