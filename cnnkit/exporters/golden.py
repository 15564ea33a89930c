"""Golden images: three public photographs with the probabilities that every program must get from an exported file.

They are crops of scikit-learn's two sample photographs, because an exported file goes to other people and a user's images may be private.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnkit.exporters.parity import sample_photos
from cnnkit.exporters.protocol import IMAGES
from cnnkit.model.canvas import make_canvases
from cnnkit.model.classifier import Classifier
from cnnkit.model.preprocessing import Preprocessing

CREDIT = "Crops of two photographs by danielbuechele and vultilion (flickr.com), CC BY 2.0, from scikit-learn"
JPEG_QUALITY = 90
SMALL_SIZE = (37, 53)  # height and width in px: smaller than the input of most networks, and odd

Decoder = Callable[[bytes, int | None], NDArray[np.uint8]]  # of the bytes of an image file, for the `draft_side` of a model


@dataclass(frozen=True, eq=False)
class GoldenFile:
    """A file of the folder: its name and content."""

    name: str
    content: bytes


def golden_photos() -> dict[str, bytes]:
    """Return the three image files by name: a JPEG, a PNG, and a small PNG."""
    first, second = sample_photos(2)
    height, width = SMALL_SIZE
    small = np.asarray(Image.fromarray(second).resize((width, height), Image.Resampling.BICUBIC))
    return {"photo.jpg": _encoded(first, "JPEG"), "photo.png": _encoded(second, "PNG"), "small.png": _encoded(small, "PNG")}


def golden_files(classifier: Classifier, decode: Decoder, spec: Preprocessing, kind: str) -> tuple[list[GoldenFile], list[dict[str, Any]]]:
    """Return the files of the folder, and an entry of golden.json for each image.

    `classifier` is the exported file. Pixels are raw RGB bytes (H, W, 3) in ``.rgb``. A file whose input `kind` is
    not images also gets the canvases, raw bytes (S, S, C) in ``.canvas``: a program can be tested without the resize.
    """
    photos = golden_photos()
    images = [decode(content, spec.draft_side) for content in photos.values()]
    files: list[GoldenFile] = []
    entries: list[dict[str, Any]] = []
    for (name, content), image, row in zip(photos.items(), images, classifier.probabilities(images), strict=True):
        pixels = f"{name}.rgb"
        files += [GoldenFile(name, content), GoldenFile(pixels, image.tobytes())]
        entry: dict[str, Any] = {"file": name, "pixels": pixels, "height": image.shape[0], "width": image.shape[1]}
        if kind != IMAGES:
            entry["canvas"] = f"{name}.canvas"
            files.append(GoldenFile(entry["canvas"], _canvas(image, spec)))
        entries.append({**entry, "label": classifier.classes[int(row.argmax())], "probabilities": [float(value) for value in row]})
    return files, entries


def _canvas(image: NDArray[np.uint8], spec: Preprocessing) -> bytes:
    return np.ascontiguousarray(make_canvases([image], spec)[0].transpose(1, 2, 0)).tobytes()


def _encoded(image: NDArray[np.uint8], kind: str) -> bytes:
    stream = io.BytesIO()
    settings = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(image).save(stream, kind, **settings)
    return stream.getvalue()
