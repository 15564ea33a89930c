"""Parity: the check that an exported file gives the same probabilities as its model on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.errors import CheckFailedError, DataError
from cnnkit.exporters.protocol import Exporter
from cnnkit.files import whole_file
from cnnkit.model.classifier import Classifier
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import TorchClassifier

# Ten times the largest difference of torch and onnxruntime, 1.1e-4, and a tenth of the smallest difference of a fault, 1e-2. See
# docs/benchmarks/LOG.md, "Tolerance of parity".
TOLERANCE = 1e-3
BATCH_SIZE = 32  # decoded images in memory: 32 of 12 megapixels take 1.2 GB


@dataclass(frozen=True)
class Parity:
    """The agreement of an exported file with its model on `n` images.

    `top1_agreement` is the share of images with the same top class. `ties` is the number of images with another top class
    whose probability in the model is within `tolerance` of the highest. `worst` describes the image with the largest
    difference.
    """

    n: int
    top1_agreement: float
    max_abs_probability_difference: float
    ties: int
    tolerance: float
    worst: str

    @property
    def passed(self) -> bool:
        """Whether all probabilities agree within the tolerance, and all top classes except for ties."""
        return self.max_abs_probability_difference <= self.tolerance and self.disagreements == self.ties

    @property
    def disagreements(self) -> int:
        """The number of images whose top class differs, ties included."""
        return round(self.n * (1 - self.top1_agreement))

    def to_dict(self) -> dict[str, int | float | str]:
        """Return the content of parity.json."""
        return {
            "n": self.n,
            "top1_agreement": self.top1_agreement,
            "max_abs_probability_difference": self.max_abs_probability_difference,
            "ties": self.ties,
            "tolerance": self.tolerance,
            "worst": self.worst,
        }


def check_parity(
    reference: Classifier,
    exported: Classifier,
    images: Iterable[NDArray[np.uint8]],
    *,
    tolerance: float = TOLERANCE,
    batch: int = BATCH_SIZE,
) -> Parity:
    """Compare two classifiers on decoded `images`, uint8 (H, W, 3) of any size, with `batch` images in memory.

    Raises `DataError` if there are no images, `CheckFailedError` if the class names differ.
    """
    if reference.classes != exported.classes:
        raise CheckFailedError(f"the exported file names the classes {exported.classes}, the model {reference.classes}")
    sizes: list[str] = []
    expected: list[NDArray[np.float32]] = []
    found: list[NDArray[np.float32]] = []
    for part in _batches(images, batch):
        sizes += [f"{image.shape[1]} × {image.shape[0]} px" for image in part]
        expected.append(reference.probabilities(part))
        found.append(exported.probabilities(part))
    if not sizes:
        raise DataError("there are no images to check the exported file on; name a folder of images with --data")
    return _compare(np.concatenate(expected), np.concatenate(found), reference.classes, sizes, tolerance)


def export_checked(
    model: Model, exporter: Exporter, path: Path, images: Iterable[NDArray[np.uint8]], *, device: str | torch.device = "cpu"
) -> Parity:
    """Export `model` to `path` and check the file on `images`; it appears under that name only if the check passes.

    The model is exported from the CPU and checked on `device`. An older file stays until then. Raises `CheckFailedError` if the
    predictions differ (the new file is removed), `DataError` if there are no images, `OSError` if the file cannot be written.
    """
    remaining = iter(images)
    first = list(islice(remaining, 1))
    if not first:
        raise DataError(f"{path}: not exported, as there are no images to check it on; name a folder of images with --data")
    with whole_file(path) as part:
        exporter.write(model.to(torch.device("cpu")), part)
        parity = check_parity(TorchClassifier(model, device=device), exporter.open(part), chain(first, remaining))
        if not parity.passed:
            raise CheckFailedError(
                f"{path}: not kept, as its predictions differ from those of {model.path}: "
                f"{parity.disagreements - parity.ties} of {parity.n} images have another top class, the largest difference of a "
                f"probability is {parity.max_abs_probability_difference:.2g} (allowed: {parity.tolerance:.2g}); worst: {parity.worst}. "
                f"The fault is in the exporter {exporter.name!r} or an operation that it translates; the model file is unchanged"
            )
    return parity


def sample_photos(count: int) -> list[NDArray[np.uint8]]:
    """Return `count` real images for a check without a data set: crops of scikit-learn's two sample photographs.

    The crops are always the same. Their height and width are from 16 pixels to those of the photograph (640 × 427).
    """
    from sklearn.datasets import load_sample_images

    photos: list[NDArray[np.uint8]] = load_sample_images().images
    random = np.random.default_rng(0)
    crops: list[NDArray[np.uint8]] = []
    for index in range(count):
        photo = photos[index % len(photos)]
        height, width = (int(random.integers(16, length + 1)) for length in photo.shape[:2])
        top, left = (int(random.integers(0, length - kept + 1)) for length, kept in zip(photo.shape, (height, width), strict=False))
        crops.append(photo[top : top + height, left : left + width].copy())
    return crops


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield batch


def _compare(
    expected: NDArray[np.float32], found: NDArray[np.float32], classes: tuple[str, ...], sizes: list[str], tolerance: float
) -> Parity:
    """Compare probabilities (N, K); a NaN in either of them is an infinite difference."""
    rows = np.arange(len(expected))
    ours, theirs = expected.argmax(1), found.argmax(1)
    differs = ours != theirs
    tie = differs & (expected[rows, ours] - expected[rows, theirs] < tolerance)
    differences = np.nan_to_num(np.abs(expected.astype(np.float64) - found).max(1), nan=np.inf)
    worst = int(np.lexsort((differences, differs & ~tie))[-1])  # another top class first, then the largest difference
    named = f"image {worst + 1} of {len(rows)} ({sizes[worst]})"
    was, became = (f"{classes[top[worst]]!r} {p[worst, top[worst]]:.6f}" for top, p in ((ours, expected), (theirs, found)))
    return Parity(
        n=len(rows),
        top1_agreement=float(1 - differs.mean()),
        max_abs_probability_difference=float(differences.max()),
        ties=int(tie.sum()),
        tolerance=tolerance,
        worst=f"{named}: model {was}, file {became}",
    )
