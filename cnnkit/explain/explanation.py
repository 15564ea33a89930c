"""The explanation of one image: its prediction, its heat map, its feature maps and the check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.explain.stages import Stage

SIDE = 256  # px of the photo that is kept to be shown


@dataclass(frozen=True, eq=False)
class Pictures:
    """What there is to see of one image.

    `photo` is the file, uint8 RGB (H, W, 3), at most `SIDE` px a side, and `window` what the model sees of it: top, left,
    bottom, right in its pixels. `canvas` is that as the model takes it, uint8 RGB (S, S, 3); `heat` float32 (S, S) in [0, 1]
    and `stages` are on it.
    """

    photo: NDArray[np.uint8]
    window: tuple[float, float, float, float]
    canvas: NDArray[np.uint8]
    heat: NDArray[np.float32]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of one file, or its `error` and nothing else.

    `predicted` is the model's answer, `explained` the class that the heat is evidence for; both with their probabilities.
    `agreement` is the rank correlation of the heat with the drops of occlusion; None where there was no check or it is not
    defined.
    """

    path: str
    error: str = ""
    predicted: str = ""
    probability: float = 0.0
    explained: str = ""
    explained_probability: float = 0.0
    agreement: float | None = None
    pictures: Pictures | None = None

    @property
    def name(self) -> str:
        """The file and the folder it lies in: class folders have files of the same name."""
        return "/".join(Path(self.path).parts[-2:])

    def row(self) -> dict[str, object]:
        """Return the row of explain.json: everything but the pictures; None where there is an error."""
        good = self.pictures is not None
        return {
            "path": self.path,
            "predicted": self.predicted if good else None,
            "probability": self.probability if good else None,
            "class": self.explained if good else None,
            "class_probability": self.explained_probability if good else None,
            "evidence": bool(self.pictures.heat.any()) if self.pictures else None,
            "agreement": self.agreement,
            "error": self.error or None,
        }
