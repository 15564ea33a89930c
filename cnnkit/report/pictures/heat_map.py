"""Pictures of an explanation: the heat map over the input of the network, and the feature maps of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from cnnkit.report.pictures.contact_sheet import Style, Tile, contact_sheet
from cnnkit.report.pictures.overlay import COLOUR_MAP, overlay

if TYPE_CHECKING:
    from cnnkit.explain.explanation import Explanation, Pictures
    from cnnkit.explain.stages import FeatureStage

TILE_SIZE = 256  # px, for one image
SMALL_TILE_SIZE = 128  # px, for many images
IMAGES_PER_ROW = 3
_WINDOW_COLOUR = (255, 190, 0)  # of the frame around the part of the file that the network saw
_LEGEND = "purple: none, yellow: most; line: half of the maximum"
_NO_EVIDENCE = "no evidence for this class anywhere"


def explanation_png(pictures: Pictures, *, title: str, head: str, wrong: bool = False) -> bytes:
    """Return a PNG of one image: the file, if it differs from the input of the network, the input, and below `head` the heat map.

    The input and the heat map of a `wrong` prediction have a red frame; `title` should say so.
    """
    size = len(pictures.canvas)
    style: Style = "bad" if wrong else "plain"
    heat = overlay(pictures.canvas, pictures.heat, TILE_SIZE)
    tiles, heads = (
        [Tile(pictures.canvas, style=style), Tile(heat, _legend(pictures), style)],
        [
            f"input of the network, {size} x {size} px",
            head,
        ],
    )
    if pictures.photo.shape != pictures.canvas.shape or (pictures.photo != pictures.canvas).any():
        tiles.insert(0, Tile(with_window(pictures.photo, pictures.window)))
        heads.insert(0, "the file; framed: the part that the network saw")
    return contact_sheet([tiles], heads=heads, title=title, size=TILE_SIZE)


def explanations_sheet(explanations: Sequence[Explanation], *, title: str) -> bytes:
    """Return a PNG of many images, each beside its heat map, three in a row; images with an error are left out.

    A wrong prediction has a red frame, and the words ``wrong`` and its true class.
    """
    pairs: list[list[Tile]] = []
    for one in explanations:
        if one.pictures is not None:
            heat = overlay(one.pictures.canvas, one.pictures.heat, SMALL_TILE_SIZE)
            style: Style = "bad" if one.wrong else "plain"
            evidence = f"{one.explained} {100 * one.explained_probability:.1f} %"
            notes = (f"wrong: {one.predicted}", f"true: {one.true}") if one.wrong else ("", "")
            pairs.append([Tile(one.pictures.canvas, one.name, style, notes[0]), Tile(heat, evidence, style, notes[1])])
    rows = [[tile for pair in pairs[start : start + IMAGES_PER_ROW] for tile in pair] for start in range(0, len(pairs), IMAGES_PER_ROW)]
    return contact_sheet(rows, title=title, size=SMALL_TILE_SIZE)


def features_png(pictures: Pictures, *, title: str) -> bytes:
    """Return a PNG of the feature maps: a row for each stage, which starts with the canvas; each channel uses the whole colour scale."""
    rows = [[Tile(pictures.canvas), *_channels(stage)] for stage in pictures.stages]
    labels = [f"{stage.size} x {stage.size}, layer {stage.layer}" for stage in pictures.stages]
    return contact_sheet(rows, labels=labels, title=title, size=SMALL_TILE_SIZE)


def with_window(photo: NDArray[np.uint8], window: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Return `photo` (H, W, 3) with a frame around `window` (top, left, bottom, right) and dimmed outside of it."""
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
    shown[inside & ~core] = _WINDOW_COLOUR
    return shown.astype(np.uint8)


def _channels(stage: FeatureStage) -> list[Tile]:
    tiles: list[Tile] = []
    for channel, values in zip(stage.shown, stage.maps, strict=True):
        spread = float(np.ptp(values))
        scaled = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
        tiles.append(Tile(np.rint(255 * colormaps[COLOUR_MAP](scaled)[..., :3]).astype(np.uint8), f"channel {channel} of {stage.channels}"))
    return tiles


def _legend(pictures: Pictures) -> str:
    return _LEGEND if pictures.heat.any() else _NO_EVIDENCE
