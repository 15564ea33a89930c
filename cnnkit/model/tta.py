"""Test-time augmentation: the mean of a model's logits over several views of an image.

The views vary only as the training images did: a network that never saw a mirrored 2 does not recognise it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.model.file import ModelHeader

ONE_PIXEL_SHIFT_SIZE = 32  # px: an image of this size is shifted by one pixel, as in arXiv:2404.00498, a larger one in proportion
_MIRRORS: dict[str, tuple[tuple[int, ...], ...]] = {  # the reversed dimensions of (N, C, S, S), one tuple per view
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
    """The views of a canvas: the plain one, mirrored ones, shifted ones, and every combination.

    `mirror` is none, h, v or hv, as in ``--flip``. `shift` pixels go up and left in one view, down and right in another;
    pixels from outside the canvas are its reflection. The shifted views together have half of the weight, as in the published code
    of airbench94 (arXiv:2404.00498); ``Views("h", 1)`` are its six views.
    """

    mirror: str = "none"
    shift: int = 0

    def __len__(self) -> int:
        """Return the number of views."""
        return len(_MIRRORS[self.mirror]) * (3 if self.shift else 1)

    def __str__(self) -> str:
        """Return a sentence for the screen and the report."""
        shifted = f", unshifted or shifted by {self.shift} px up-left or down-right" if self.shift else ""
        views = f"{len(self)} views of every image: {_MIRRORED[self.mirror]}{shifted}"
        return f"test-time augmentation: the logits are averaged over {views}"

    def of(self, canvas: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield the weight and the canvases of each view, in the shape and type of `canvas` (N, C, S, S); weights sum to 1."""
        offsets = ((0, 0.5), (-self.shift, 0.25), (self.shift, 0.25)) if self.shift else ((0, 1.0),)
        mirrors = _MIRRORS[self.mirror]
        for offset, weight in offsets:
            shifted = _shifted(canvas, offset) if offset else canvas
            for dims in mirrors:
                yield weight / len(mirrors), shifted.flip(dims) if dims else shifted

    def to_dict(self) -> dict[str, Any]:
        """Return the value of ``tta`` in metrics.json."""
        return {"views": len(self), "mirror": self.mirror, "shift_pixels": self.shift, "mean_of": "logits"}


PLAIN_VIEW = Views()


def trained_views(header: ModelHeader) -> Views:
    """Return the views that the training of the model allows: mirrored and shifted as its images were, and no further.

    A network with the option ``mirror`` treats an image and its mirror image the same, so it needs no view mirrored
    left-right. Raises `ModelFileError` if the file does not record the augmentation of its training images. Raises
    `ConfigError` if the plain view is the only one.
    """
    varied = header.training.get("augmentation", {})
    size, mirror, reach = header.preprocessing.image_size, varied.get("flip"), varied.get("shift")
    if mirror not in _MIRRORS or reach is None:
        raise ModelFileError(
            "--tta: the model file does not record the augmentation of its training images (an older version wrote it), so the "
            "views are unknown; evaluate without --tta, or train again"
        )
    if header.options.get("mirror") is True:
        mirror = mirror.replace("h", "") or "none"
    views = Views(mirror, min(max(1, round(size / ONE_PIXEL_SHIFT_SIZE)), int(reach * size)))
    if views == PLAIN_VIEW and varied["flip"] != "none":
        raise ConfigError(
            "--tta: the training images were not shifted, and the network treats an image and its left-right mirror image the same; "
            "evaluate without --tta, or train with --shift 0.1"
        )
    if views == PLAIN_VIEW:
        raise ConfigError(
            "--tta: the training images were neither mirrored nor shifted, so there is no second view; evaluate without --tta, or "
            "train with --shift 0.1, and with --flip h if a mirrored image keeps its class"
        )
    return views


def _shifted(canvas: Tensor, offset: int) -> Tensor:
    """Return canvases (N, C, S, S) whose pixel (y, x) was at (y + `offset`, x + `offset`), reflected at the edges."""
    last = canvas.shape[-1] - 1
    index = (torch.arange(last + 1, device=canvas.device) + offset).abs()
    index = last - (last - index).abs()
    return canvas[:, :, index[:, None], index]
