"""Images of one shape can be worked on together: a call for each costs more than small sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def same_shape(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Return the places of images of each shape."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    return list(places.values())
