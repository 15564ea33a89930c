"""The explanation of one image: its prediction, its heat map, its feature maps, and the check by occlusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.explain.stages import FeatureStage

MAX_PHOTO_SIZE = 256  # px of the longer edge of the photo, which is kept for display


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of one explanation.

    `photo` is the image, uint8 RGB (H, W, 3), with edges of at most `MAX_PHOTO_SIZE` px. `window` is the part of it that the
    model sees: top, left, bottom, right in its pixels. `canvas` is the input of the model, uint8 RGB (S, S, 3). `heat`,
    float32 (S, S) in [0, 1], and `stages` cover the canvas.
    """

    photo: NDArray[np.uint8]
    window: tuple[float, float, float, float]
    canvas: NDArray[np.uint8]
    heat: NDArray[np.float32]
    stages: tuple[FeatureStage, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of one file, or only its `error`.

    `true` is the true class if it is known, else empty.
    `predicted` is the predicted class, `explained` the class that the heat map explains; each has its probability.
    `agreement` is the rank correlation of the heat map with the drops of occlusion, or None if there was no check or it is
    undefined.
    """

    path: str
    error: str = ""
    predicted: str = ""
    probability: float = 0.0
    explained: str = ""
    explained_probability: float = 0.0
    agreement: float | None = None
    pictures: Pictures | None = field(default=None, repr=False)
    true: str = ""

    @property
    def name(self) -> str:
        """The file name with its folder, as class folders may hold files of the same name."""
        return "/".join(Path(self.path).parts[-2:])

    @property
    def wrong(self) -> bool:
        """True if the true class is known and another class is predicted."""
        return bool(self.true) and self.predicted != self.true

    def row(self) -> dict[str, object]:
        """Return the row of explain.json, without the pictures; most values are None if there is an error."""
        good = self.pictures is not None
        return {
            "path": self.path,
            "predicted": self.predicted if good else None,
            "probability": self.probability if good else None,
            "true": self.true or None,
            "class": self.explained if good else None,
            "class_probability": self.explained_probability if good else None,
            "evidence": bool(self.pictures.heat.any()) if self.pictures else None,
            "agreement": self.agreement,
            "error": self.error or None,
        }
