"""Parity: an exported file must give the model's answers on the same images, or it is not kept."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import CheckFailedError, DataError, ModelFileError
from cnnkit.exporters.protocol import Exporter
from cnnkit.files import whole_file
from cnnkit.model.classifier import Classifier
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import TorchClassifier

# Ten times the 1.1e-4 by which torch and onnxruntime differ at most, ten times below the 1e-2 of a fault: see
# docs/benchmarks/LOG.md, "Tolerance of parity".
TOLERANCE = 1e-3
BATCH = 32  # decoded images held at a time: 32 of 12 megapixels are 1.2 GB


@dataclass(frozen=True)
class Parity:
    """How well an exported file agrees with its model on `n` images.

    `top1_agreement` is the share of images with the same top class; of those that differ, `ties` differ between classes
    whose probabilities the model itself holds for equal within `tolerance`. `worst` describes the image that differs most.
    """

    n: int
    top1_agreement: float
    max_abs_probability_difference: float
    ties: int
    tolerance: float
    worst: str

    @property
    def passed(self) -> bool:
        """Whether every probability is within the tolerance and every top class the same, ties aside."""
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
    reference: Classifier, exported: Classifier, images: Iterable[NDArray[np.uint8]], *, tolerance: float = TOLERANCE, batch: int = BATCH
) -> Parity:
    """Compare two classifiers on decoded `images`, uint8 (H, W, 3) of any size, `batch` of them in memory at a time.

    Raises `DataError` if there is no image, `CheckFailedError` if the class names differ.
    """
    if reference.classes != exported.classes:
        raise CheckFailedError(f"the exported file names the classes {exported.classes}, the model {reference.classes}")
    sizes: list[str] = []
    expected: list[NDArray[np.float32]] = []
    answered: list[NDArray[np.float32]] = []
    for some in _batches(images, batch):
        sizes += [f"{image.shape[1]} × {image.shape[0]} px" for image in some]
        expected.append(reference.probabilities(some))
        answered.append(exported.probabilities(some))
    if not sizes:
        raise DataError("no image to check the exported file on; name a folder of images with --data")
    return _compare(np.concatenate(expected), np.concatenate(answered), reference.classes, sizes, tolerance)


def export_checked(model: Model, exporter: Exporter, path: Path, images: Iterable[NDArray[np.uint8]]) -> Parity:
    """Export `model` to `path`; the file appears under that name only after it gave the model's answers on `images`.

    A file that was at `path` stays until then. Raises `CheckFailedError` if the answers differ (nothing is kept),
    `DataError` if there is no image, `ModelFileError` if the file cannot be written.
    """
    remaining = iter(images)
    first = list(islice(remaining, 1))  # without any image nothing is exported in the first place
    if not first:
        raise DataError(f"{path}: not exported, there is no image to check it on; name a folder of images with --data")
    with _writing(path), whole_file(path) as part:
        exporter.write(model, part)
        parity = check_parity(TorchClassifier(model), exporter.open(part), chain(first, remaining))
        if not parity.passed:
            raise CheckFailedError(
                f"{path}: not kept, since it does not answer as {model.path} does: "
                f"{parity.disagreements - parity.ties} of {parity.n} images have another top class, the largest difference of a "
                f"probability is {parity.max_abs_probability_difference:.2g} (allowed {parity.tolerance:.2g}); worst: {parity.worst}. "
                f"The fault lies in the exporter {exporter.name!r} or an operation it translates; the model file is as it was"
            )
    return parity


def sample_photos(count: int) -> list[NDArray[np.uint8]]:
    """Return `count` real images for want of others: crops of many sizes of scikit-learn's two sample photographs.

    Always the same ones; sides from 16 pixels to the whole photograph (640 × 427).
    """
    from sklearn.datasets import load_sample_images

    photos: list[NDArray[np.uint8]] = load_sample_images().images
    random = np.random.default_rng(0)
    crops: list[NDArray[np.uint8]] = []
    for index in range(count):
        photo = photos[index % len(photos)]
        height, width = (int(random.integers(16, side + 1)) for side in photo.shape[:2])
        top, left = (int(random.integers(0, side - kept + 1)) for side, kept in zip(photo.shape, (height, width), strict=False))
        crops.append(photo[top : top + height, left : left + width].copy())
    return crops


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written: {error.strerror or error}; choose another file with --out") from error


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    remaining = iter(images)
    while some := list(islice(remaining, size)):
        yield some


def _compare(
    expected: NDArray[np.float32], answered: NDArray[np.float32], classes: tuple[str, ...], sizes: list[str], tolerance: float
) -> Parity:
    """Compare probabilities (N, K); a NaN on either side is an infinite difference."""
    rows = np.arange(len(expected))
    ours, theirs = expected.argmax(1), answered.argmax(1)
    differs = ours != theirs
    tie = differs & (expected[rows, ours] - expected[rows, theirs] < tolerance)
    differences = np.nan_to_num(np.abs(expected.astype(np.float64) - answered).max(1), nan=np.inf)
    worst = int(np.lexsort((differences, differs & ~tie))[-1])  # another top class first, then the largest difference
    named = f"image {worst + 1} of {len(rows)} ({sizes[worst]})"
    was, became = (f"{classes[top[worst]]!r} {p[worst, top[worst]]:.6f}" for top, p in ((ours, expected), (theirs, answered)))
    return Parity(
        n=len(rows),
        top1_agreement=float(1 - differs.mean()),
        max_abs_probability_difference=float(differences.max()),
        ties=int(tie.sum()),
        tolerance=tolerance,
        worst=f"{named}: model {was}, file {became}",
    )
