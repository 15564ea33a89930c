"""Fixtures for the tests of data: a source whose images are made when they are read."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data.source import Record
from cnnkit.model.preprocessing import Preprocessing


class NoiseSource:
    """Images of noise, 16 x 16, as pixels, or as PNG files if `encoded`.

    `on_read` is called with the number of each image that is read. `spoil` maps the number and the file of an image to the
    bytes that are read instead.
    """

    notes = ()

    def __init__(
        self,
        number: int,
        on_read: Callable[[int], object] = bool,
        *,
        encoded: bool = False,
        spoil: Callable[[int, bytes], bytes] = lambda _, file: file,
        seed: int = 0,
        name: str = "noise",
    ) -> None:
        self.name = name
        self._spoil = spoil
        self.records = tuple(Record(f"{'ab'[index % 2]}/{index}", "ab"[index % 2]) for index in range(number))
        self.stamps: dict[str, str] = {}
        self.read_count = 0
        self._on_read = on_read
        self._encoded = encoded
        self._seed = seed

    def read(self, record: Record) -> bytes | NDArray[np.uint8]:
        index = int(record.path[2:])
        self.read_count += 1
        self._on_read(index)
        if not self._encoded:
            return self.image(index)
        file = io.BytesIO()
        Image.fromarray(self.image(index)).save(file, "PNG")
        return self._spoil(index, file.getvalue())

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.random.default_rng((self._seed, index)).integers(0, 256, (16, 16, 3), np.uint8)

    def stamp(self, record: Record) -> str:
        return self.stamps.get(record.path, "1")


@pytest.fixture
def noise_source() -> type[NoiseSource]:
    """Return the class of sources of noise: ``noise_source(10)``, ``noise_source(10, encoded=True)``."""
    return NoiseSource


@pytest.fixture
def geometry() -> Preprocessing:
    """Return a preprocessing with canvases of 16 px."""
    return Preprocessing(image_size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
