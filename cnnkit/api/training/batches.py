"""The fourth stage of preparing a training: training batches, validation batches and class weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cnnkit.api.training.images import TrainingImages
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.batches import Batches, class_weights
from cnnkit.data.resident import make_resident
from cnnkit.data.source import TRAIN, VAL
from cnnkit.engine.batch_size import free_gpu_bytes
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
    keep_on_gpu: bool = True,
    ranks: Ranks = ONE,
) -> TrainingBatches:
    """Return the batches of `images` on `device`, shuffled and augmented by `seed`, also by the `extra` augmentations of packages.

    `balance` is the value of ``--balance``. On a CUDA GPU the canvases stay in its memory if they fit and if `keep_on_gpu`; else a
    thread prepares the next batch.
    """
    rows, labels = images.dataset.arrays(TRAIN)
    preprocess = Preprocess(images.preprocessing).to(device)
    size = inference_batch(images.preprocessing.image_size, device)
    val_rows, val_labels = images.dataset.arrays(VAL)
    on_cuda, resident = device.type == "cuda", None
    if on_cuda and keep_on_gpu:
        resident = make_resident(images.canvases, np.concatenate([rows, val_rows]), device, free_gpu_bytes(device))
    val = Batches(images.canvases, val_rows, val_labels, size, preprocess, device, resident=resident, ahead=on_cuda)
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
