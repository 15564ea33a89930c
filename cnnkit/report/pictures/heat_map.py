"""Heat maps to look at: over the image that the network saw, beside it, and the feature maps of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from cnnkit.report.pictures.contact_sheet import Tile, contact_sheet
from cnnkit.report.pictures.overlay import COLOURS, overlay

if TYPE_CHECKING:
    from cnnkit.explain.explanation import Explanation, Pictures
    from cnnkit.explain.stages import FeatureStage

SIDE = 256  # px of a tile of one image
SMALL = 128  # px of a tile among many
ACROSS = 3  # images in a row of the sheet
_SEEN = (255, 190, 0)  # the frame around what the network sees of the file
_LEGEND = "purple: none, yellow: most; line: half of it"
_NONE = "no evidence for this class anywhere"


def explanation_png(pictures: Pictures, *, title: str, head: str) -> bytes:
    """Return one image as a PNG: the file where the network saw another picture, what it saw, and under `head` the heat over it."""
    size = len(pictures.canvas)
    tiles, heads = (
        [Tile(pictures.canvas), Tile(overlay(pictures.canvas, pictures.heat, SIDE), _said(pictures))],
        [
            f"what the network saw, {size} x {size} px",
            head,
        ],
    )
    if pictures.photo.shape != pictures.canvas.shape or (pictures.photo != pictures.canvas).any():
        tiles.insert(0, Tile(with_window(pictures.photo, pictures.window)))
        heads.insert(0, "the file; framed: what the network saw")
    return contact_sheet([tiles], heads=heads, title=title, side=SIDE)


def explanations_sheet(explanations: Sequence[Explanation], *, title: str) -> bytes:
    """Return a PNG of many: each image beside its heat, three in a row; those with an error are left out."""
    pairs: list[list[Tile]] = []
    for one in explanations:
        if one.pictures is not None:
            heat = overlay(one.pictures.canvas, one.pictures.heat, SMALL)
            pairs.append([Tile(one.pictures.canvas, one.name), Tile(heat, f"{one.explained} {100 * one.explained_probability:.1f} %")])
    rows = [[tile for pair in pairs[start : start + ACROSS] for tile in pair] for start in range(0, len(pairs), ACROSS)]
    return contact_sheet(rows, title=title, side=SMALL)


def features_png(pictures: Pictures, *, title: str) -> bytes:
    """Return the feature maps as a PNG: a row for each stage, the canvas before them, each channel from its least to its most."""
    rows = [[Tile(pictures.canvas), *_channels(stage)] for stage in pictures.stages]
    labels = [f"{stage.size} x {stage.size}, layer {stage.layer}" for stage in pictures.stages]
    return contact_sheet(rows, labels=labels, title=title, side=SMALL)


def with_window(photo: NDArray[np.uint8], window: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Return `photo` (H, W, 3) with a frame around `window` (top, left, bottom, right), dimmed outside it."""
    height, width = photo.shape[:2]
    top, left, bottom, right = (round(edge) for edge in window)
    inside = np.zeros((height, width), np.bool_)
    inside[top:bottom, left:right] = True
    if inside.all():
        return photo
    shown = np.where(inside[..., None], photo, photo // 2)
    thick = max(1, min(height, width) // 128)
    core = np.zeros_like(inside)
    core[top + thick : bottom - thick, left + thick : right - thick] = True
    shown[inside & ~core] = _SEEN
    return shown.astype(np.uint8)


def _channels(stage: FeatureStage) -> list[Tile]:
    tiles: list[Tile] = []
    for channel, values in zip(stage.shown, stage.maps, strict=True):
        spread = float(np.ptp(values))
        scaled = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
        tiles.append(Tile(np.rint(255 * colormaps[COLOURS](scaled)[..., :3]).astype(np.uint8), f"channel {channel} of {stage.channels}"))
    return tiles


def _said(pictures: Pictures) -> str:
    return _LEGEND if pictures.heat.any() else _NONE
