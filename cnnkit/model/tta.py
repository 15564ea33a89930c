"""Test-time augmentation: a model answers for several views of an image, and the answers are averaged.

A model is shown only views of a kind that its training images had: a mirrored 2 is no 2 to a network that never saw one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.model.file import ModelHeader

SIDE = 32  # an image of this side is shifted by one pixel, as in arXiv:2404.00498, and a larger one in proportion
_MIRRORS: dict[str, tuple[tuple[int, ...], ...]] = {  # the dimensions of (N, C, S, S) that are reversed, one tuple per view
    "none": ((),),
    "h": ((), (3,)),
    "v": ((), (2,)),
    "hv": ((), (3,), (2,), (2, 3)),
}
_MIRRORED = {
    "none": "not mirrored",
    "h": "plain or mirrored left-right",
    "v": "plain or mirrored upside down",
    "hv": "plain or mirrored left-right, upside down or both",
}


@dataclass(frozen=True)
class Views:
    """Which views a model is shown of every canvas: the plain one, mirrored ones, shifted ones, and every combination.

    `mirror` is none, h, v or hv, as in ``--flip``. `shift` in pixels goes up and left in one view and down and right in
    another; what comes from outside the canvas is its reflection. The two together have half of the weight, as in the
    published code of airbench94 (arXiv:2404.00498), whose six views these are for ``Views("h", 1)``.
    """

    mirror: str = "none"
    shift: int = 0

    def __len__(self) -> int:
        """The number of views."""
        return len(_MIRRORS[self.mirror]) * (3 if self.shift else 1)

    def __str__(self) -> str:
        """Say it in a sentence, for the screen and the report."""
        shifted = f", in place or shifted by {self.shift} px up-left or down-right" if self.shift else ""
        views = f"{len(self)} views of every image: {_MIRRORED[self.mirror]}{shifted}"
        return f"test-time augmentation: the logits are averaged over {views}"

    def of(self, canvas: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield each view of canvases (N, C, S, S), of their shape and type, after its weight; the weights sum to 1."""
        offsets = ((0, 0.5), (-self.shift, 0.25), (self.shift, 0.25)) if self.shift else ((0, 1.0),)
        mirrors = _MIRRORS[self.mirror]
        for offset, weight in offsets:
            shifted = _shifted(canvas, offset) if offset else canvas
            for dims in mirrors:
                yield weight / len(mirrors), shifted.flip(dims) if dims else shifted

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``tta`` of metrics.json."""
        return {"views": len(self), "mirror": self.mirror, "shift_pixels": self.shift, "mean_of": "logits"}


PLAIN = Views()


def trained_views(header: ModelHeader) -> Views:
    """Return the views that the model's training images prepared it for: mirrored and shifted as they were, and no further.

    A network that was built to answer the same for an image and its mirror image (its option ``mirror``) need not be asked twice.
    Raises `ModelFileError` if the file does not say how its training images were varied, `ConfigError` if they were
    neither mirrored nor shifted by a pixel.
    """
    varied = header.training.get("augmentation", {})
    size, mirror, reach = header.preprocessing.image_size, varied.get("flip"), varied.get("shift")
    if mirror not in _MIRRORS or reach is None:
        raise ModelFileError(
            "--tta: the model file does not say how its training images were varied (those of older versions do not), so it is not "
            "known which views the model may be shown; evaluate without --tta, or train anew"
        )
    if header.options.get("mirror") is True:
        mirror = mirror.replace("h", "") or "none"
    views = Views(mirror, min(max(1, round(size / SIDE)), int(reach * size)))
    if views == PLAIN and varied["flip"] != "none":
        raise ConfigError(
            "--tta: the training images were not shifted, and for an image mirrored left-right the network answers the same by itself; "
            "evaluate without --tta, or train with --shift 0.1"
        )
    if views == PLAIN:
        raise ConfigError(
            "--tta: the training images were neither mirrored nor shifted, so the model knows no view but the plain one; evaluate "
            "without --tta, or train with --shift 0.1, and with --flip h where a mirrored image is still of its class"
        )
    return views


def _shifted(canvas: Tensor, offset: int) -> Tensor:
    """Return canvases (N, C, S, S) whose pixel (y, x) was at (y + `offset`, x + `offset`), reflected at the edges."""
    last = canvas.shape[-1] - 1
    place = (torch.arange(last + 1, device=canvas.device) + offset).abs()
    place = last - (last - place).abs()
    return canvas[:, :, place[:, None], place]
