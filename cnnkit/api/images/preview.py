"""``preview``: a few images of every class, preprocessed and augmented by the code that training uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.api.training.network import choose_preprocessing, draw_up
from cnnkit.config.settings import TrainConfig
from cnnkit.data.augment.augment import Augmentation, augment, draw_numbers, resolve_augmentation
from cnnkit.data.augment.randomness import uniform
from cnnkit.data.dataset import select_classes, typical_side
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import TRAIN, Record, Source, open_source
from cnnkit.data.store.facts import decode
from cnnkit.data.store.scan import Progress
from cnnkit.errors import DataError
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing

MOST_ROWS = 40  # images on one preview, as far as the number of classes decides
PER_CLASS = 4
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PreviewRow:
    """One image, uint8 RGB (H, W, 3) throughout: its file (shrunk for the screen), what the network sees of it, and variants of that."""

    label: str
    path: str
    original: Image
    canvas: Image
    variants: tuple[Image, ...]


@dataclass(frozen=True, eq=False)
class Preview:
    """A few images of each class, class by class; `notes` say what was chosen or left out."""

    name: str
    classes: tuple[str, ...]
    rows: tuple[PreviewRow, ...]
    preprocessing: Preprocessing
    augmentation: Augmentation
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Return how images are prepared and varied, in one line."""
        size, mode = self.preprocessing.image_size, self.preprocessing.resize_mode
        colour = "gray" if self.preprocessing.channels == 1 else "colour"
        return f"{size} × {size} px, {colour}, {mode}; {_varied(self.augmentation)}"


def preview(config: TrainConfig, *, images_per_class: int | None = None, variants: int = 6, progress: Progress | None = None) -> Preview:
    """Show what ``cnnkit train`` with `config` would feed the network; reads only the images that are shown.

    Of each class `images_per_class` images are drawn by the seed, spread over its files: `PER_CLASS`, or fewer with so many
    classes that they would be more than `MOST_ROWS`. Where the data has a train folder they are of it. The variants are
    those that the first `variants` epochs would give these images, were they the whole data.
    Raises `CnnkitError` as `prepare` does for the same settings, `DataError` if not one image can be read.
    """
    source = open_source(config.data.data, download=config.data.download)
    records, classes = select_classes(source, config.data.classes)
    blueprint = draw_up(config.model)
    spec, size_note = choose_preprocessing(blueprint, config.model, typical_side(source, records))
    augmentation, flip_note = resolve_augmentation(config.augment, classes)
    shown, many_note = _some(classes)
    keys = _draw(records, shown, images_per_class or max(1, min(PER_CLASS, MOST_ROWS // len(shown))), config.run.seed)
    rows, bad = _rows(source, records, keys, spec, progress)
    if not rows:
        raise DataError(f"{source.name}: not one of {len(keys)} images can be read, such as {bad[0]}")
    canvases = torch.stack([canvas for _, _, canvas in rows])
    kept = np.array([key for key, _, _ in rows], np.int64)
    varied = [_varied_batch(canvases, kept, epoch, augmentation, config.run.seed) for epoch in range(1, variants + 1)]
    return Preview(
        name=source.name,
        classes=classes,
        rows=tuple(
            PreviewRow(records[key].label, records[key].path, original, _picture(canvas), tuple(_picture(images[row]) for images in varied))
            for row, (key, original, canvas) in enumerate(rows)
        ),
        preprocessing=spec,
        augmentation=augmentation,
        notes=tuple(note for note in (*source.notes, size_note, flip_note, many_note, *(f"left out {text}" for text in bad)) if note),
    )


def _some(classes: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """Return at most `MOST_ROWS` classes, spread evenly, and a sentence if that is not all."""
    if len(classes) <= MOST_ROWS:
        return classes, None
    chosen = [classes[place * len(classes) // MOST_ROWS] for place in range(MOST_ROWS)]
    return chosen, f"{MOST_ROWS} of {len(classes)} classes are shown; choose others with --classes"


def _draw(records: Sequence[Record], classes: Sequence[str], number: int, seed: int) -> list[int]:
    """Return places in `records`: of every class `number`, one drawn from each of as many equal parts of its files."""
    trained = [place for place, record in enumerate(records) if record.split == TRAIN] or range(len(records))
    members: dict[str, list[int]] = {name: [] for name in classes}
    for place in trained:
        if records[place].label in members:
            members[records[place].label].append(place)
    draws = uniform(seed, 0, np.arange(len(classes)), number)
    chosen: list[int] = []
    for places, drawn in zip(members.values(), draws, strict=True):
        parts = (np.arange(number) + drawn) * (len(places) / number)
        chosen += places if len(places) <= number else [places[min(int(part), len(places) - 1)] for part in parts]
    return chosen


def _rows(
    source: Source, records: Sequence[Record], keys: Sequence[int], spec: Preprocessing, progress: Progress | None
) -> tuple[list[tuple[int, Image, Tensor]], list[str]]:
    """Read the images `keys`: (key, picture of the file, canvas (C, S, S)) of each, and a line for each that cannot be read."""
    from cnnkit.report.pictures.thumbnail import shrunk

    preprocess = Preprocess(spec)
    rows: list[tuple[int, Image, Tensor]] = []
    bad: list[str] = []
    for done, key in enumerate(keys, start=1):
        try:
            image = decode(source.read(records[key])).image
            rows.append((key, shrunk(image), preprocess.canvas(torch.from_numpy(image.copy())[None])[0]))
        except UndecodableError as error:
            bad.append(f"{records[key].path}: {error}")
        if progress is not None:
            progress(done, len(keys))
    return rows, bad


def _varied_batch(canvases: Tensor, keys: NDArray[np.int64], epoch: int, augmentation: Augmentation, seed: int) -> Tensor:
    return augment(canvases, torch.from_numpy(draw_numbers(seed, epoch, keys)), augmentation)


def _picture(image: Tensor) -> Image:
    """Turn (C, S, S) with values 0..255 into uint8 RGB (S, S, 3)."""
    return image.float().round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _varied(augmentation: Augmentation) -> str:
    """Say in words how far images are varied."""
    if not augmentation.active:
        return "not varied"
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
    ]
    return ", ".join(part for part in parts if part)
