"""Fixtures for tests without a network: a classifier of known predictions and gray images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules

SPEC = Preprocessing(image_size=16, mean=(0.5,) * 3, std=(0.2,) * 3)


@dataclass
class BrightnessClassifier:
    """A classifier whose probability of the second class is the brightness of the image, in [0, 1]."""

    classes: tuple[str, ...] = ("dark", "light")
    rules: Rules = field(default_factory=Rules)
    preprocessing: Preprocessing | None = SPEC
    batches: list[int] = field(default_factory=list[int])

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        light = np.array([image.mean() / 255 for image in images], np.float32)
        return np.stack([1 - light, light], axis=1)


@pytest.fixture
def brightness() -> Callable[..., BrightnessClassifier]:
    """Return the class `BrightnessClassifier`: ``brightness(rules=Rules(...))``."""
    return BrightnessClassifier


@pytest.fixture
def gray_images(tmp_path: Path) -> Callable[..., list[Path]]:
    """Return a function that writes a PNG per gray level: ``gray_images(10, 200, folder="odd")`` makes odd/0-10.png and odd/1-200.png."""

    def write(*levels: int, folder: str = "gray") -> list[Path]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        files = [tmp_path / folder / f"{index}-{level}.png" for index, level in enumerate(levels)]
        for file, level in zip(files, levels, strict=True):
            Image.new("RGB", (20, 16), (level, level, level)).save(file)
        return files

    return write


DRAFT_SIDE = 16  # half of the images of the fixture `trained`


@pytest.fixture
def draft_model(trained: Any, tmp_path: Path) -> Path:
    """Return the model file of `trained` with a draft at half size of its images."""
    from cnnkit.model.file import read_header, rewrite_header

    path = Path(shutil.copy(trained.run / "best.safetensors", tmp_path / "draft.safetensors"))
    header = read_header(path)
    preprocessing = header.preprocessing.model_copy(update={"draft_side": DRAFT_SIDE})
    rewrite_header(path, header.model_copy(update={"preprocessing": preprocessing}))
    return path


@pytest.fixture
def draft_probabilities(draft_model: Path) -> Callable[[Sequence[Path]], NDArray[np.float32]]:
    """Return a function that maps files to the probabilities (N, K) of `draft_model` for their drafts."""
    from cnnkit.data.image import read_image
    from cnnkit.exporters.opening import open_classifier

    def probabilities(files: Sequence[Path]) -> NDArray[np.float32]:
        drafts = [read_image(file, DRAFT_SIDE) for file in files]
        assert all(min(draft.shape[:2]) == DRAFT_SIDE for draft in drafts)
        found = open_classifier(draft_model)
        assert abs(found.probabilities(drafts) - found.probabilities([read_image(file) for file in files])).max() > 0.001
        return found.probabilities(drafts)

    return probabilities
