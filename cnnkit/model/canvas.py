"""The canvas of a decoded image: resized, cropped or padded to a uint8 square of `image_size`, computed by numpy without torch.

Every training, evaluation and prediction starts from a canvas, and the store keeps them. `Preprocess` computes the same values in torch
for the exported graph. Both take their filter weights from `filter_weights`.

Resizing and cropping are one linear map, computed as two matrix products with antialiasing filter weights, first across and then down.
As in Pillow, the weights are whole numbers and each product is rounded to whole levels. So every sum is exact in float32, in any order:
one image or a batch, numpy, torch or onnxruntime, result in the same pixels. A built-in resize operator does not promise that.

An output pixel has few weights that are not zero. So neighbouring outputs form a block, and each block is a product with the inputs
that it needs: see docs/benchmarks/LOG.md, "Exact resize in blocks".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing, group_by_shape

# The approximate sum of the filter weights, which are whole numbers. 2^15 times 255, with the negative lobes of a cubic, stays
# below 2^24, the limit of exact whole numbers in float32. Rounding the weights moves a pixel by at most 0.3 level for an image
# shrunk up to 200-fold: see docs/benchmarks/LOG.md, "Exact resize".
WEIGHT_UNIT = 2.0**15
# ITU-R BT.601 luma in units of 2^-16: the whole numbers of Pillow's convert("L").
LUMA_WEIGHTS = (19595.0, 38470.0, 7471.0)
LUMA_UNIT = 2.0**16
# Sizes of the products: see docs/benchmarks/LOG.md, "Exact resize in blocks".
MAX_STRIP_PIXELS = 2**19  # that are floats at a time: 6 MB
MAX_GROUP_PIXELS = 2**16  # read or written pixels of small images of one shape that are resized together
BLOCK_INPUTS = 16  # input pixels between the first and the last output of a block
MIN_BLOCK_OUTPUTS, MAX_BLOCK_OUTPUTS = 4, 32
FAR_PIXEL = 1e9  # a position outside every image and every filter
CACHED_LINES, MAX_CACHED_PIXELS = 16, 2**14  # filters of at most 4 MB that are kept, for photos of one size


@dataclass(frozen=True, eq=False)
class _Block:
    """The outputs `first` to `last` of a line, the inputs `start` to `stop` that they need, and `weights` (inputs, outputs)."""

    first: int
    last: int
    start: int
    stop: int
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Line:
    """The filter of a line: its blocks, the inputs `start` to `stop` that any block needs, and the outputs `inside` the image."""

    blocks: tuple[_Block, ...]
    start: int
    stop: int
    inside: NDArray[np.bool_]


def make_canvases(images: Sequence[NDArray[np.uint8]], spec: Preprocessing) -> NDArray[np.uint8]:
    """Map decoded images, uint8 (H, W, 3) of any and differing sizes, to canvases, uint8 (N, C, S, S).

    Each canvas equals that of its image alone, because the sums are exact.
    """
    size = spec.image_size
    canvases = np.empty((len(images), spec.channels, size, size), np.uint8)
    for rows in group_by_shape(images):
        height, width, _ = images[rows[0]].shape
        count = max(1, MAX_GROUP_PIXELS // max(height * width, size * size))
        for start in range(0, len(rows), count):
            group = rows[start : start + count]
            canvases[group] = make_canvas(np.stack([images[row] for row in group]) if len(group) > 1 else images[group[0]][None], spec)
    return canvases


def make_canvas(images: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.uint8]:
    """Map decoded images of one size, uint8 (N, H, W, 3), to canvases, uint8 (N, C, S, S)."""
    count, height, width, _ = images.shape
    if _is_identity(images, spec):
        return np.array(images.transpose(0, 3, 1, 2), order="C")
    size, cubic = spec.image_size, spec.interpolation == "bicubic"
    scale_y, scale_x = scales(np, np.float32(height), np.float32(width), spec)
    rows = _line(height, size, float(scale_y), cubic=cubic, channels=1)
    columns = _line(width, size, float(scale_x), cubic=cubic, channels=3)
    levels = _down(rows, _across(columns, images[:, rows.start : rows.stop], size), size).reshape(count, size, size, 3)
    if spec.channels == 1:
        levels = levels @ np.array(LUMA_WEIGHTS, np.float32)[:, None] / np.float32(LUMA_UNIT)
        _round(levels)
    if spec.resize_mode == "pad":
        levels[:, ~(rows.inside[:, None] & columns.inside[None, :])] = PAD_LEVEL
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(0, 3, 1, 2))


def normalise(canvases: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.float32]:
    """Map canvases, uint8 (N, C, S, S), to normalised float32 images; the same numbers as `Preprocess.normalise`."""
    result = canvases.astype(np.float32)
    result -= np.float32(255) * np.array(spec.mean, np.float32).reshape(1, -1, 1, 1)
    result /= np.float32(255) * np.array(spec.std, np.float32).reshape(1, -1, 1, 1)
    return result


def scales(ops: Any, height: Any, width: Any, spec: Preprocessing) -> tuple[Any, Any]:
    """Return the input pixels per output pixel, down and across; `ops` is numpy or torch, `height` and `width` are its float32 scalars."""
    if spec.resize_mode == "squash":
        return height / spec.image_size, width / spec.image_size
    if spec.resize_mode == "pad":
        scale = ops.maximum(height, width) / spec.image_size
    else:
        scale = ops.minimum(height, width) * spec.crop / spec.image_size
    return scale, scale


def filter_weights(ops: Any, outputs: Any, inputs: Any, length: Any, scale: Any, *, cubic: bool) -> tuple[Any, Any]:
    """Return the weights that resample a centred window of a line, as multiples of 1/`WEIGHT_UNIT`, and the outputs inside the image.

    `ops` is numpy or torch, and the other arguments are its float32 arrays. `outputs` (size,) are centres of output pixels relative to
    the centre of the output, `inputs` are centres of input pixels, (1, n) or (size, n), and `length` is the number of input pixels.
    The weights are (size, n), the outputs inside are bool (size,).

    An output has its centre at the input coordinate ``length / 2 + output * scale``. The filter is a triangle or Keys' cubic with
    a = -0.5, stretched by `scale` when shrinking, as in Pillow and torch's antialias=True. An output whose centre is outside the image
    has no weights (padding), but at least one output has.
    """
    offsets = outputs * scale
    centres = length / 2 + offsets
    distance = abs(inputs - centres[:, None]) / scale.clip(min=1.0)
    if cubic:
        near = (1.5 * distance - 2.5) * distance * distance + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = ops.where(distance < 1, near, ops.where(distance < 2, far, ops.zeros_like(far)))  # noqa: PLR2004
    else:
        weights = (1 - distance).clip(min=0)
    weights = ops.round(weights * WEIGHT_UNIT)
    inside = abs(offsets) <= ops.maximum(length, scale) / 2
    return inside[:, None] * ops.round(weights / weights.sum(1)[:, None].clip(min=1) * WEIGHT_UNIT), inside


def _is_identity(images: NDArray[np.uint8], spec: Preprocessing) -> bool:
    """Return whether both matrices would be identities, so that a copy has the same bytes at a tenth of the cost."""
    keeps = spec.resize_mode != "crop" or spec.crop == 1
    return keeps and spec.channels == 3 and images.shape[1:3] == (spec.image_size, spec.image_size)  # noqa: PLR2004 (RGB)


def _line(pixels: int, size: int, scale: float, *, cubic: bool, channels: int) -> _Line:
    """Return the filter of a line of `pixels` pixels with `channels` interleaved channels."""
    make = _cached_line if pixels <= MAX_CACHED_PIXELS else _make_line
    return make(pixels, size, scale, cubic=cubic, channels=channels)


def _make_line(pixels: int, size: int, scale: float, *, cubic: bool, channels: int) -> _Line:
    length, factor = np.float32(pixels), np.float32(scale)
    outputs = np.arange(size, dtype=np.float32) + np.float32(0.5 - size / 2)
    reach = (2 if cubic else 1) * max(scale, 1.0) + 2  # of a filter, and a margin for the rounding of its centre
    starts = np.floor(length / 2 + outputs * factor - reach).astype(np.int64)
    taps = starts[:, None] + np.arange(int(2 * reach) + 2)
    inputs = np.where((taps >= 0) & (taps < pixels), taps.astype(np.float32) + np.float32(0.5), np.float32(FAR_PIXEL))
    weights, inside = filter_weights(np, outputs, inputs, length, factor, cubic=cubic)
    weights /= np.float32(WEIGHT_UNIT)  # exact, since the unit is a power of two
    group = int(min(MAX_BLOCK_OUTPUTS, max(MIN_BLOCK_OUTPUTS, BLOCK_INPUTS // scale)))
    blocks: list[_Block] = []
    for first in range(0, size, group):
        output, tap = weights[first : first + group].nonzero()
        if not len(output):
            continue
        used = taps[first + output, tap]
        start, stop, last = int(used.min()), int(used.max()) + 1, min(first + group, size)
        block = np.zeros((stop - start, channels, last - first, channels), np.float32)
        for channel in range(channels):
            block[used - start, channel, output, channel] = weights[first + output, tap]
        blocks.append(_Block(first, last, start, stop, block.reshape((stop - start) * channels, -1)))
    return _Line(tuple(blocks), min(block.start for block in blocks), max(block.stop for block in blocks), inside)


_cached_line = lru_cache(maxsize=CACHED_LINES)(_make_line)


def _across(line: _Line, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Resample the lines of images (N, H, W, 3) to whole levels (N, H, 3 S)."""
    count, height, width = images.shape[0], images.shape[1], line.stop - line.start
    lines = images[:, :, line.start : line.stop].reshape(count * height, width, 3)
    levels = np.zeros((len(lines), 3 * size), np.float32)
    step = max(1, MAX_STRIP_PIXELS // width)
    for top in range(0, len(lines), step):
        strip = lines[top : top + step].astype(np.float32).reshape(-1, 3 * width)
        part = levels[top : top + step]
        for block in line.blocks:
            inputs = strip[:, 3 * (block.start - line.start) : 3 * (block.stop - line.start)]
            np.matmul(inputs, block.weights, out=part[:, 3 * block.first : 3 * block.last])
        _round(part)
    return levels.reshape(count, height, 3 * size)


def _down(line: _Line, lines: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resample the columns of lines (N, H, 3 S), of which the first is `line.start`, to whole levels (N, S, 3 S)."""
    levels = np.zeros((len(lines), size, lines.shape[2]), np.float32)
    for block in line.blocks:
        inputs = lines[:, block.start - line.start : block.stop - line.start]
        np.matmul(block.weights.T, inputs, out=levels[:, block.first : block.last])
    _round(levels)
    return levels


def _round(values: NDArray[np.float32]) -> None:
    """Round halves up, in place, and limit to 0..255."""
    values += np.float32(0.5)
    np.floor(values, out=values)
    np.clip(values, 0, 255, out=values)
