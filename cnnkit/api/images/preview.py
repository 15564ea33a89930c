"""Preview: a few images of every class, preprocessed and augmented by the code of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.api.extensions.augmentations import extra_augmentations, load_augmentations
from cnnkit.api.training.network import choose_preprocessing, draw_up
from cnnkit.config.settings import TrainConfig
from cnnkit.data.augment.augment import AugmentationStrength, augment, draw_numbers, resolve_augmentation
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.augment.randomness import uniform
from cnnkit.data.dataset import select_classes, typical_side
from cnnkit.data.exclusion import leave_out
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress
from cnnkit.data.source import TRAIN, Record, Source, open_source
from cnnkit.data.store.facts import decode
from cnnkit.errors import DataError
from cnnkit.model.canvas import make_canvas
from cnnkit.model.preprocessing import Preprocessing

MAX_ROWS = 40  # images on one preview, unless the user sets the number of images per class
MAX_CLASS_IMAGES = 4  # images of each class on a preview of few classes
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PreviewRow:
    """One image as uint8 RGB (H, W, 3): the file, shrunk for the screen, the canvas of the network, and augmented variants of it."""

    label: str
    path: str
    original: Image
    canvas: Image
    variants: tuple[Image, ...]


@dataclass(frozen=True, eq=False)
class Preview:
    """A few images of each class, class by class; `notes` name the choices made and the images left out.

    `extra` are the augmentations of packages, as named.
    """

    name: str
    classes: tuple[str, ...]
    rows: tuple[PreviewRow, ...]
    preprocessing: Preprocessing
    augmentation: AugmentationStrength
    notes: tuple[str, ...]
    extra: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the preprocessing and the augmentation in one line."""
        size, mode = self.preprocessing.image_size, self.preprocessing.resize_mode
        colour = "gray" if self.preprocessing.channels == 1 else "colour"
        return f"{size} × {size} px, {colour}, {mode}; {_augmentation_text(self.augmentation, self.extra)}"


def preview(config: TrainConfig, *, images_per_class: int | None = None, variants: int = 6, progress: Progress | None = None) -> Preview:
    """Return images as ``cnnkit train`` with `config` would show them to the network; only these images are read.

    The seed draws `images_per_class` images of each class, spread over its files. By default these are `MAX_CLASS_IMAGES`, or fewer if
    the preview would have more than `MAX_ROWS` images. They come from the train folder if the data has one. The variants are the
    augmented images of the first `variants` epochs of a training on these images alone.

    Raises the same `CnnkitError` as `prepare` for these settings, and `DataError` if no image can be read.
    """
    source = leave_out(open_source(config.data.data, download=config.data.download, progress=progress), config.data.exclude)
    records, classes = select_classes(source, config.data.classes)
    blueprint = draw_up(config.model)
    spec, size_note = choose_preprocessing(blueprint, config.model, typical_side(source, records))
    augmentation, flip_note = resolve_augmentation(config.augment, classes)
    extra = extra_augmentations(load_augmentations(config.augment.augment_with), spec.channels)
    shown, many_note = _thin_out(classes)
    keys = _draw(records, shown, images_per_class or max(1, min(MAX_CLASS_IMAGES, MAX_ROWS // len(shown))), config.run.seed)
    rows, bad = _rows(source, records, keys, spec, progress)
    if not rows:
        raise DataError(f"{source.name}: none of {len(keys)} images can be read, such as {bad[0]}")
    canvases = torch.stack([canvas for _, _, canvas in rows])
    kept = np.array([key for key, _, _ in rows], np.int64)
    augmented = [_augmented(canvases, kept, epoch, augmentation, config.run.seed, extra) for epoch in range(1, variants + 1)]
    return Preview(
        name=source.name,
        classes=classes,
        rows=tuple(
            PreviewRow(
                records[key].label, records[key].path, original, _picture(canvas), tuple(_picture(images[row]) for images in augmented)
            )
            for row, (key, original, canvas) in enumerate(rows)
        ),
        preprocessing=spec,
        augmentation=augmentation,
        extra=config.augment.augment_with,
        notes=tuple(note for note in (*source.notes, size_note, flip_note, many_note, *(f"left out {text}" for text in bad)) if note),
    )


def _thin_out(classes: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """Return at most `MAX_ROWS` classes, evenly spread, and a sentence if some are left out."""
    if len(classes) <= MAX_ROWS:
        return classes, None
    chosen = [classes[index * len(classes) // MAX_ROWS] for index in range(MAX_ROWS)]
    return chosen, f"{MAX_ROWS} of {len(classes)} classes are shown; choose others with --classes"


def _draw(records: Sequence[Record], classes: Sequence[str], number: int, seed: int) -> list[int]:
    """Return indices into `records`: the files of each class are cut into `number` equal parts, and one file of each is drawn."""
    train_rows = [row for row, record in enumerate(records) if record.split == TRAIN] or range(len(records))
    members: dict[str, list[int]] = {name: [] for name in classes}
    for row in train_rows:
        if records[row].label in members:
            members[records[row].label].append(row)
    draws = uniform(seed, 0, np.arange(len(classes)), number)
    chosen: list[int] = []
    for rows, drawn in zip(members.values(), draws, strict=True):
        positions = (np.arange(number) + drawn) * (len(rows) / number)
        chosen += rows if len(rows) <= number else [rows[min(int(position), len(rows) - 1)] for position in positions]
    return chosen


def _rows(
    source: Source, records: Sequence[Record], keys: Sequence[int], spec: Preprocessing, progress: Progress | None
) -> tuple[list[tuple[int, Image, Tensor]], list[str]]:
    """Read the images `keys`; return (key, picture of the file, canvas (C, S, S)) of each, and a line on each unreadable image."""
    from cnnkit.report.pictures.thumbnail import shrunk

    rows: list[tuple[int, Image, Tensor]] = []
    bad: list[str] = []
    for done, key in enumerate(keys, start=1):
        try:
            image = decode(source.read(records[key]), spec.draft_side).image
            rows.append((key, shrunk(image), torch.from_numpy(make_canvas(image[None], spec))[0]))
        except UndecodableError as error:
            bad.append(f"{records[key].path}: {error}")
        if progress is not None:
            progress(done, len(keys))
    return rows, bad


def _augmented(
    canvases: Tensor,
    keys: NDArray[np.int64],
    epoch: int,
    augmentation: AugmentationStrength,
    seed: int,
    extra: tuple[ExtraAugmentation, ...],
) -> Tensor:
    return augment(canvases, torch.from_numpy(draw_numbers(seed, epoch, keys, extra)), augmentation, extra)


def _picture(image: Tensor) -> Image:
    """Turn an image (C, S, S) with values from 0 to 255 into uint8 RGB (S, S, 3)."""
    return image.float().round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _augmentation_text(augmentation: AugmentationStrength, extra: tuple[str, ...]) -> str:
    """Return the augmentation in words; `extra` names those of packages."""
    if not augmentation.active and not extra:
        return "not augmented"
    flips = {"h": "mirrored left-right", "v": "mirrored upside down", "hv": "mirrored both ways"}
    low, high = augmentation.zoom
    parts = [
        f"rotated up to {augmentation.rotate:g}°" if augmentation.rotate else "",
        flips.get(augmentation.flip, ""),
        f"zoomed {low:g} to {high:g}" if (low, high) != (1.0, 1.0) else "",
        f"shifted up to {100 * augmentation.shift:g} %" if augmentation.shift else "",
        f"colour varied by up to {100 * augmentation.color:g} %" if augmentation.color else "",
        f"{100 * augmentation.erase:g} % with a part erased" if augmentation.erase else "",
        "RandAugment {},{}".format(*augmentation.randaugment) if augmentation.randaugment[0] else "",
        *extra,
    ]
    return ", ".join(part for part in parts if part)
