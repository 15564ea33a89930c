"""The first stage of preparing a training: images found, decoded, divided into splits and normalised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cnnkit.api.training.network import Blueprint, choose_preprocessing
from cnnkit.config.settings import DataConfig, TrainConfig
from cnnkit.data.augment.augment import AugmentationStrength, resolve_augmentation
from cnnkit.data.batches import normalised_by
from cnnkit.data.dataset import Dataset, load_dataset, select_classes, typical_side, with_canvases
from cnnkit.data.exclusion import leave_out
from cnnkit.data.progress import Progress
from cnnkit.data.source import TRAIN, VAL, Source, open_source
from cnnkit.data.store.stream import Canvases
from cnnkit.doctor.scan_notes import scan_notes
from cnnkit.engine.runtime import keep_freed_memory
from cnnkit.errors import DataError
from cnnkit.model.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Decoded images in splits, the preprocessing of their canvases and the augmentation of the train split."""

    source: Source
    dataset: Dataset
    preprocessing: Preprocessing
    augmentation: AugmentationStrength
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in index order."""
        return self.dataset.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the network's input."""
        return self.preprocessing.channels, self.preprocessing.image_size, self.preprocessing.image_size

    @property
    def canvases(self) -> Canvases:
        """The store's canvases, uint8 (M, C, S, S)."""
        canvases = self.dataset.store.canvases
        assert canvases is not None  # noqa: S101 (load_images asked for this geometry)
        return canvases

    def count(self, split: str) -> int:
        """Return the number of images in `split`."""
        return len(self.dataset.of(split))


def open_training_source(config: DataConfig, progress: Progress | None = None) -> Source:
    """Open the source that ``--data`` names; raises `DataError` if there is none."""
    source = open_source(config.data, download=config.download, group_by=config.group_by, progress=progress)
    return leave_out(source, config.exclude)


def load_images(
    config: TrainConfig, blueprint: Blueprint, *, source: Source, dataset: Dataset | None = None, progress: Progress | None = None
) -> TrainingImages:
    """Decode the images of `source` that `config` selects, at the size of `blueprint`, and divide them into splits.

    `dataset` is an earlier result for these images; its canvases are used if their geometry fits. `progress(done, total)` follows the
    scan. Raises `DataError` if a class name is no text, or if train or val has no image.
    """
    records, _ = select_classes(source, config.data.classes)
    preprocessing, size_note = choose_preprocessing(blueprint, config.model, typical_side(source, records))
    known = dataset and with_canvases(dataset, preprocessing)
    dataset = known or load_dataset(source, config.data, preprocessing, config.run.seed, progress)
    keep_freed_memory()  # after the scan, whose memory goes back to the system
    augmentation, flip_note = resolve_augmentation(config.augment, dataset.classes)
    scanned = scan_notes(source, dataset, config.data.classes)
    notes = tuple(note for note in (*dataset.notes, *scanned, size_note, flip_note) if note)
    images = TrainingImages(source, dataset, preprocessing, augmentation, notes)
    for split, purpose in ((TRAIN, "train on"), (VAL, "validate with")):
        if not images.count(split):
            raise DataError(f"{source.name}: there are no images to {purpose}; give train and val a share: --split 0.7/0.15/0.15")
    if blueprint.preprocessing is not None:  # mean and std come with the weights
        return images
    rows, _ = dataset.arrays(TRAIN)
    return replace(images, preprocessing=normalised_by(dataset.store, preprocessing, rows))
