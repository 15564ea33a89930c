"""Occlusion (Zeiler and Fergus, arXiv:1311.2901, section 4.2): the drop of a probability when a part of the image is hidden.

It uses predictions alone, so it works for every network, and it can check heat maps that come from gradients.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cnnkit.explain.heat import heat, to_class_indices
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import TorchClassifier

PATCH_SHARE = 1 / 4  # of the image's width: large enough to hide an important part
STEP_SHARE = 1 / 2  # of the patch: 49 predictions per image for most sizes
MIN_POSITIONS = 3  # a rank correlation of two is always 1 or -1
RANKED_DIGITS = 5  # float32 probabilities of equal images differ by 1e-7 within a batch, and many positions have no drop


class Occlusion:
    """The drop of the probabilities of `model` when a patch of the image's mean colour slides over it.

    `patch` and `step` are in pixels of the canvas. The module of the model is moved to `device`, as in `TorchClassifier`; None leaves
    it where it is.
    """

    def __init__(self, model: Model, *, device: str | torch.device | None = "cpu") -> None:
        self._classifier = TorchClassifier(model, device=device)
        self._size = model.header.preprocessing.image_size
        self.patch = max(1, round(PATCH_SHARE * self._size))
        self.step = max(1, round(STEP_SHARE * self.patch))
        last = self._size - self.patch
        self._starts = sorted({*range(0, last + 1, self.step), last})

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1].

        The value of a pixel is the mean drop over the patches that hide it. 0 is no drop or a rise, 1 the largest in that image.
        """
        return self.heat_of(self.drops(canvases, classes))

    def heat_of(self, drops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn `drops` (N, P, P) into heat (N, S, S)."""
        total = np.zeros((len(drops), self._size, self._size), np.float32)
        hidden = np.zeros((self._size, self._size), np.float32)
        for row, column, window in self._windows():
            total[(..., *window)] += drops[:, row, column, None, None]
            hidden[window] += 1
        return heat(torch.from_numpy(total / hidden), self._size)

    def drops(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases (N, C, S, S) and classes (N,) to the drop of the probability at each patch position, (N, P, P).

        A rise is negative.
        """
        indices = to_class_indices(classes, len(canvases), len(self._classifier.classes))
        rows = [self._drops(canvas, int(label)) for canvas, label in zip(canvases, indices, strict=True)]
        return np.stack(rows) if rows else np.empty((0, len(self._starts), len(self._starts)), np.float32)

    def agreement(self, heat_map: NDArray[np.float32], drops: NDArray[np.float32]) -> float | None:
        """Return Spearman's rank correlation of `heat_map` (S, S) and `drops` (P, P) over the patch positions (arXiv:1610.02391, 5.3).

        1 is the same order, 0 is unrelated. It is None if one of the two is constant, so that it has no order.
        """
        from scipy.stats import rankdata

        shown = np.round([heat_map[window].mean() for _, _, window in self._windows()], RANKED_DIGITS)
        lost = np.round(drops.ravel(), RANKED_DIGITS)
        if shown.size < MIN_POSITIONS or np.ptp(shown) == 0 or np.ptp(lost) == 0:
            return None
        return float(np.corrcoef(rankdata(shown), rankdata(lost))[0, 1])

    def _drops(self, canvas: Tensor, label: int) -> NDArray[np.float32]:
        hidden = canvas.repeat(len(self._starts) ** 2 + 1, 1, 1, 1)
        colour = canvas.float().mean((1, 2)).round().to(torch.uint8)[:, None, None]
        for index, (_, _, window) in enumerate(self._windows()):
            hidden[(index, slice(None), *window)] = colour
        probabilities = self._classifier.canvas_probabilities(hidden)[:, label]
        return (probabilities[-1] - probabilities[:-1]).reshape(len(self._starts), -1)

    def _windows(self) -> list[tuple[int, int, tuple[slice, slice]]]:
        """Return row, column and pixels of every patch position, in the order of `drops`."""
        spans = [slice(start, start + self.patch) for start in self._starts]
        return [(row, column, (spans[row], spans[column])) for row in range(len(spans)) for column in range(len(spans))]
