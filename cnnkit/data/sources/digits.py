"""The embedded data set: ``--data digits``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Request, SourceKind
from cnnkit.errors import DataError


class DigitsSource:
    """The 1,797 real handwritten digits inside scikit-learn: 8 x 8 gray, NIST via the UCI repository (Alpaydin, 1998)."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # takes half a second, which folders do not need

        digits: Any = load_digits()
        levels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 17 gray levels, 0..16
        self.name = "digits"
        self.notes: Sequence[str] = ()
        self.records = tuple(Record(f"{label}/{index:04d}", str(label)) for index, label in enumerate(digits.target))
        self._images = {record.path: np.repeat(image[:, :, None], 3, axis=2) for record, image in zip(self.records, levels, strict=True)}

    def read(self, record: Record) -> NDArray[np.uint8]:
        """Return the pixels of one digit."""
        if record.path not in self._images:
            raise UndecodableError("no such image in digits")
        return self._images[record.path]

    def stamp(self, record: Record) -> str:
        """Return the path, since the digits never change."""
        return record.path


def _open(request: Request) -> DigitsSource:
    if request.name:
        raise DataError(f"--data digits:{request.name}: digits has no subsets; type --data digits")
    return DigitsSource()


digits = SourceKind(open=_open, summary="1,797 real handwritten digits, 8 × 8 gray, inside scikit-learn: no file is needed")
