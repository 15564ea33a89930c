"""Occlusion (Zeiler and Fergus, arXiv:1311.2901, section 4.2): how much less sure the model is when a part of the image is hidden.

It looks at nothing but answers, so it works for every network, and it checks maps that were made of gradients.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cnnkit.explain.heat import class_numbers, heat
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import TorchClassifier

PATCH = 1 / 4  # of the side: large enough to hide a part that matters
STEP = 1 / 2  # of the patch: 49 answers an image for most sizes
FEWEST = 3  # places: a rank correlation of two is always 1 or -1
DIGITS = 5  # that are ranked: float32 answers to equal images differ by 1e-7 within a batch, and many places lose nothing


class Occlusion:
    """How the probabilities of `model` fall when a patch of the image's mean colour slides over it.

    `patch` and `step` are in pixels of the canvas. The model's module is moved to `device`, as `TorchClassifier` does.
    """

    def __init__(self, model: Model, *, device: str | torch.device = "cpu") -> None:
        self._classifier = TorchClassifier(model, device=device)
        self._size = model.header.preprocessing.image_size
        self.patch = max(1, round(PATCH * self._size))
        self.step = max(1, round(STEP * self.patch))
        last = self._size - self.patch
        self._starts = sorted({*range(0, last + 1, self.step), last})

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1].

        A pixel has the mean drop over the patches that hide it; 0 is none or a rise, 1 the most in that image.
        """
        return self.heat_of(self.drops(canvases, classes))

    def heat_of(self, drops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn `drops` (N, P, P) into heat (N, S, S)."""
        total = np.zeros((len(drops), self._size, self._size), np.float32)
        hidden = np.zeros((self._size, self._size), np.float32)
        for row, column, place in self._places():
            total[(..., *place)] += drops[:, row, column, None, None]
            hidden[place] += 1
        return heat(torch.from_numpy(total / hidden), self._size)

    def drops(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases (N, C, S, S) and classes (N,) to the probability lost at each place of the patch, (N, P, P); negative if won."""
        wanted = class_numbers(classes, len(canvases), len(self._classifier.classes))
        rows = [self._drops(canvas, int(label)) for canvas, label in zip(canvases, wanted, strict=True)]
        return np.stack(rows) if rows else np.empty((0, len(self._starts), len(self._starts)), np.float32)

    def agreement(self, heat_map: NDArray[np.float32], drops: NDArray[np.float32]) -> float | None:
        """Return how well `heat_map` (S, S) ranks the places by their `drops` (P, P): Spearman's correlation, as arXiv:1610.02391, 5.3.

        1 is the same order, 0 none in common; None where one of the two is the same everywhere, so that there is no order.
        """
        from scipy.stats import rankdata

        shown = np.round([heat_map[place].mean() for _, _, place in self._places()], DIGITS)
        lost = np.round(drops.ravel(), DIGITS)
        if shown.size < FEWEST or np.ptp(shown) == 0 or np.ptp(lost) == 0:
            return None
        return float(np.corrcoef(rankdata(shown), rankdata(lost))[0, 1])

    def _drops(self, canvas: Tensor, label: int) -> NDArray[np.float32]:
        hidden = canvas.repeat(len(self._starts) ** 2 + 1, 1, 1, 1)
        colour = canvas.float().mean((1, 2)).round().to(torch.uint8)[:, None, None]
        for number, (_, _, place) in enumerate(self._places()):
            hidden[(number, slice(None), *place)] = colour
        probabilities = self._classifier.canvas_probabilities(hidden)[:, label]
        return (probabilities[-1] - probabilities[:-1]).reshape(len(self._starts), -1)

    def _places(self) -> list[tuple[int, int, tuple[slice, slice]]]:
        """Row, column and pixels of every place of the patch, in the order of `drops`."""
        spans = [slice(start, start + self.patch) for start in self._starts]
        return [(row, column, (spans[row], spans[column])) for row in range(len(spans)) for column in range(len(spans))]
