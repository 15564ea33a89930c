"""Parity: the check that an exported file gives the same probabilities as its model on the same images.

The certificate of a file has two parts: real images, and hard images that every check has, of the least and the largest sizes. Both are
predicted in batches of `BATCH_SIZES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.errors import CheckFailedError, DataError
from cnnkit.exporters.protocol import Exporter, ExportOptions
from cnnkit.files import whole_file
from cnnkit.model.classifier import Classifier
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import TorchClassifier

# Ten times the largest difference of torch and onnxruntime, 1.1e-4, and a tenth of the smallest difference of a fault, 1e-2. See
# docs/benchmarks/LOG.md, "Tolerance of parity".
TOLERANCE = 1e-3
# A network in 16 bits has 11 bits of precision: see docs/benchmarks/LOG.md, "Exports in 16 bits".
HALF_TOLERANCE = 2e-2
BATCH_SIZES = (1, 2, 7)  # images, in turn: a graph may hold the size of the batch it was made from
LEVELS = {"black": 0, "white": 255}
HARD_SIZES = ((1, 1), (37, 501), (3000, 4000))  # height and width in px, of crops and enlargements of a photograph
CROP_SIZE = (120, 90)  # of images that share a batch


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


@dataclass(frozen=True)
class Certificate:
    """The parity of an exported file: on real images, and by name on the hard images that every check has."""

    real: Parity
    hard: Mapping[str, Parity]

    @property
    def failed(self) -> tuple[str, Parity] | None:
        """The first part that failed, by its name; None if all passed. The real images come first."""
        return next(((name, parity) for name, parity in (("", self.real), *self.hard.items()) if not parity.passed), None)

    @property
    def largest_difference(self) -> float:
        """The largest difference of a probability on any image."""
        return max(parity.max_abs_probability_difference for parity in (self.real, *self.hard.values()))

    def to_dict(self) -> dict[str, object]:
        """Return the content of parity.json: that of the real images, and `hard_images` by name."""
        return {**self.real.to_dict(), "hard_images": {name: parity.to_dict() for name, parity in self.hard.items()}}


def check_parity(
    reference: Classifier,
    exported: Classifier,
    images: Iterable[NDArray[np.uint8]],
    *,
    tolerance: float = TOLERANCE,
    batches: Sequence[int] = BATCH_SIZES,
) -> Parity:
    """Compare two classifiers on decoded `images`, uint8 (H, W, 3) of any size, in batches of the sizes `batches` in turn.

    Raises `DataError` if there are no images, `CheckFailedError` if the class names differ.
    """
    if reference.classes != exported.classes:
        raise CheckFailedError(f"the exported file names the classes {exported.classes}, the model {reference.classes}")
    sizes: list[str] = []
    expected: list[NDArray[np.float32]] = []
    found: list[NDArray[np.float32]] = []
    for part in _batches(images, batches):
        sizes += [f"{image.shape[1]} × {image.shape[0]} px" for image in part]
        expected.append(reference.probabilities(part))
        found.append(exported.probabilities(part))
    if not sizes:
        raise DataError("there are no images to check the exported file on; name a folder of images with --data")
    return _compare(np.concatenate(expected), np.concatenate(found), reference.classes, sizes, tolerance)


def certify(
    reference: Classifier, exported: Classifier, images: Iterable[NDArray[np.uint8]], *, tolerance: float = TOLERANCE
) -> Certificate:
    """Compare two classifiers on decoded `images` and on the hard images; raises the errors of `check_parity`."""
    real = check_parity(reference, exported, images, tolerance=tolerance)
    return Certificate(real, check_hard_images(reference, exported, tolerance=tolerance) if real.passed else {})


def export_checked(
    model: Model,
    exporter: Exporter,
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    *,
    options: ExportOptions | None = None,
    device: str | torch.device = "cpu",
    tell: Callable[[str], object] = str,
) -> Certificate:
    """Export `model` to `path` and check the file on `images` and the hard images; it appears under that name only if it passes.

    The model is exported from the CPU and checked on `device`. An older file stays until then. `tell` gets the step that begins. Raises
    `CheckFailedError` if the predictions differ (the new file is removed), `DataError` if there are no images, `OSError` if the file
    cannot be written.
    """
    remaining = iter(images)
    first = list(islice(remaining, 1))
    if not first:
        raise DataError(f"{path}: not exported, as there are no images to check it on; name a folder of images with --data")
    options = options or exporter.options()
    with whole_file(path) as part:
        tell(f"writing {path.name}")
        exporter.write_file(model.to(torch.device("cpu")), part, options)
        tell(f"comparing {path.name} with the model")
        reference, tolerance = TorchClassifier(model, device=device), HALF_TOLERANCE if options.half else TOLERANCE
        found = certify(reference, exporter.open(part), chain(first, remaining), tolerance=tolerance)
        if found.failed:
            name, parity = found.failed
            raise CheckFailedError(
                f"{path}: not kept, as its predictions differ from those of {model.path}: "
                f"{parity.disagreements - parity.ties} of {parity.n} images have another top class{f' ({name})' if name else ''}, the "
                f"largest difference of a probability is {parity.max_abs_probability_difference:.2g} (allowed: {parity.tolerance:.2g}); "
                f"worst: {parity.worst}. "
                f"The fault is in the exporter {exporter.name!r} or an operation that it translates; the model file is unchanged"
            )
    return found


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


def hard_images() -> dict[str, list[NDArray[np.uint8]]]:
    """Return the hard images by name, each a batch: extreme sizes, one level everywhere, and 1, 2 and 7 crops of one size."""
    from PIL import Image

    photo, other = sample_photos(2)
    found: dict[str, list[NDArray[np.uint8]]] = {}
    for height, width in HARD_SIZES:
        enlarged = np.asarray(Image.fromarray(photo).resize((max(width, 64), max(height, 64)), Image.Resampling.BICUBIC))
        found[f"{width} × {height} px"] = [enlarged[:height, :width].copy()]
    height, width = CROP_SIZE
    found |= {name: [np.full((height, width, 3), level, np.uint8)] for name, level in LEVELS.items()}
    larger = np.asarray(Image.fromarray(other).resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
    crops = [larger[offset : offset + height, offset : offset + width].copy() for offset in range(0, 10 * max(BATCH_SIZES), 10)]
    return found | {f"batch of {count}": crops[:count] for count in BATCH_SIZES}


def check_hard_images(reference: Classifier, exported: Classifier, *, tolerance: float = TOLERANCE) -> dict[str, Parity]:
    """Compare two classifiers on each batch of `hard_images`; return the parity by name."""
    found: dict[str, Parity] = {}
    for name, images in hard_images().items():
        found[name] = check_parity(reference, exported, images, tolerance=tolerance, batches=(len(images),))
    return found


def _batches(images: Iterable[NDArray[np.uint8]], sizes: Sequence[int]) -> Iterator[list[NDArray[np.uint8]]]:
    remaining, turns = iter(images), cycle(sizes)
    while batch := list(islice(remaining, next(turns))):
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
