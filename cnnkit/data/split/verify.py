"""Verification of near copies: agreement of two small pictures after one is shifted and stretched onto the other."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.symmetry import Symmetries, turned
from cnnkit.data.store.facts import LOOK_SIZE, LUMA_WEIGHTS, THUMBNAIL_SIZE
from cnnkit.data.store.store import Mapped

Floats = NDArray[np.floating]  # float32 throughout

BATCH_PAIRS = 512  # pairs of thumbnails at a time: 15 MB, which stay in the cache of the processor
LOOK_BATCH_PAIRS = 64  # pairs of looks at a time, for the same reason
ITERATIONS = 4  # 3 and 6 find 99.5 % of the same pairs: see docs/benchmarks/LOG.md, "Alignment of near copies"
LOOK_ITERATIONS = 3  # beginning at the motion of the thumbnails
BORDER_SHARE = 8  # part of the size at each edge of the second picture that has no weight: a crop has no counterpart of it
MAX_STEP = np.array([1.0, 0.1, 1.0, 0.1], np.float32)  # px and share of the size that one iteration moves
MAX_MOTION = np.array([0.25, 0.3, 0.25, 0.3], np.float32)  # of all iterations: a quarter of the picture, 30 % of its size
# Shares of the slopes' total, and of each cause. The first keeps a picture with edges of one direction from sliding along them. The second
# exceeds rounding errors of float32, so that the equations of any picture have a solution, even with content in its border alone.
SLOPE_DAMPING, MIN_DAMPING = 2.5e-4, 1e-4
# Details are slower than a pixel of the look and faster than a pixel of the thumbnail: see docs/benchmarks/LOG.md, "Fine structure".
DETAIL_PASSES, SHAPE_PASSES = 1, 4  # passes of the filter 1:2:1 that remove noise, and that leave only the shapes
NOISE_LEVELS = 1.5  # root mean square of rounding and encoding in the details of a look; weaker details neither agree nor differ
CELL_SIZE = 8  # px of a look's cell, in which differences are summed


class Alignment(NamedTuple):
    """Agreement (P,) of pairs of thumbnails, and the motion (P, 4): share of the picture's size down, stretch, then to the right."""

    agreement: Floats
    motion: Floats


class FineStructure(NamedTuple):
    """Comparison of the details of two aligned looks, each (P,).

    `agreement` is the correlation of the details, -1 to 1. `local_difference` is the largest difference in a cell over the mean strength of
    the details of all cells. `gain` is the contrast of the second look over that of the first.
    """

    agreement: Floats
    local_difference: Floats
    gain: Floats

    @classmethod
    def join(cls, parts: list[FineStructure]) -> FineStructure:
        """Return the concatenation of comparisons."""
        return cls(*(np.concatenate([np.empty(0, np.float32), *values]) for values in zip(*parts, strict=True))) if parts else _NO_DETAILS


_NO_DETAILS = FineStructure(*(np.empty(0, np.float32) for _ in range(3)))


def align(thumbnails: Mapped, pairs: NDArray[np.int64], symmetries: Symmetries) -> Alignment:
    """Return the agreement of the edges of pairs (P, 2) of thumbnails after alignment: -1 to 1, 1 for equal pictures.

    `thumbnails` are uint8 (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3). The first of a pair is turned by its symmetry of `symmetries` (P,).
    The agreement is the correlation of the differences between neighbouring pixels, over the part that both pictures show. Brightness,
    contrast and tint cancel out. The correlation of the pixels separates copies from look-alikes less well. At 90 % of Barz & Denzler's
    near duplicates in CIFAR-10, a threshold on pixels lets 3,569 pairs pass, a threshold on edges 2,913.
    """
    agreements, motions = np.empty(len(pairs), np.float32), np.empty((len(pairs), 4), np.float32)
    for start in range(0, len(pairs), BATCH_PAIRS):
        part = slice(start, start + BATCH_PAIRS)
        first = turned(thumbnails[pairs[part, 0]], symmetries[part]).astype(np.float32)
        second = thumbnails[pairs[part, 1]].astype(np.float32)
        motion = _align(first @ LUMA_WEIGHTS, second @ LUMA_WEIGHTS, np.zeros((len(first), 4), np.float32), ITERATIONS)
        agreements[part] = _edge_correlation(np.moveaxis(first, 3, 1), np.moveaxis(second, 3, 1), motion)
        motions[part] = motion / _units(THUMBNAIL_SIZE)
    return Alignment(agreements, motions)


def compare_details(looks: Mapped, pairs: NDArray[np.int64], symmetries: Symmetries, motion: Floats, *, reduced: bool) -> FineStructure:
    """Return the comparison of the details of pairs (P, 2) of looks, uint8 (N, `LOOK_SIZE`, `LOOK_SIZE`).

    `motion` (P, 4) is that of `align`, from which a finer alignment begins. The details are the structure between a pixel of the look and a
    pixel of the thumbnail. With `reduced` the looks are halved first, for images with too few pixels for a whole look.
    """
    parts: list[FineStructure] = []
    for start in range(0, len(pairs), LOOK_BATCH_PAIRS):
        part = slice(start, start + LOOK_BATCH_PAIRS)
        first = turned(looks[pairs[part, 0]], symmetries[part]).astype(np.float32)
        second = looks[pairs[part, 1]].astype(np.float32)
        small_first, small_second = _halve(first), _halve(second)
        units = _units(LOOK_SIZE // 2)
        moved = _align(small_first, small_second, motion[part] * units, LOOK_ITERATIONS) / units
        parts.append(_details(small_first, small_second, moved) if reduced else _details(first, second, moved))
    return FineStructure.join(parts)


def _details(first: Floats, second: Floats, motion: Floats) -> FineStructure:
    """Compare the details of `first` (P, S, S) after `motion` (P, 4) with those of `second`, over the part that both show."""
    size = first.shape[-1]
    motion = motion * _units(size)
    both = _inside_mask(motion[:, :2], size)[:, :, None] & _inside_mask(motion[:, 2:], size)[:, None, :]
    one, two = (_band(picture) * both for picture in (_move(first[:, None], motion)[:, 0], second))
    noise = NOISE_LEVELS**2 * both.sum((1, 2), dtype=np.float32)
    product, energy_one, energy_two = (np.einsum("pyx,pyx->p", *values) for values in ((one, two), (one, one), (two, two)))
    gain = np.sqrt((energy_two + noise) / (energy_one + noise))
    difference = np.square(one * gain[:, None, None] - two)
    cells = difference.reshape(len(one), size // CELL_SIZE, CELL_SIZE, size // CELL_SIZE, CELL_SIZE).sum((2, 4))
    strength = (energy_two + energy_one * gain**2 + noise) / cells[0].size if len(cells) else noise
    agreement = (product + noise) / np.sqrt((energy_one + noise) * (energy_two + noise) + 1e-6)
    return FineStructure(agreement, cells.max((1, 2)) / (strength + 1e-6), gain)


def _band(pictures: Floats) -> Floats:
    """Return the details of pictures (P, S, S): their structure without noise and without shapes."""
    clean = _smooth(pictures, DETAIL_PASSES)
    return clean - _smooth(clean, SHAPE_PASSES)


def _halve(pictures: Floats) -> Floats:
    """Average pictures (P, S, S) over 2 x 2 pixels."""
    lines = pictures[:, ::2] + pictures[:, 1::2]  # a `mean` over two axes takes twenty times as long
    return (lines[:, :, ::2] + lines[:, :, 1::2]) * np.float32(0.25)


def _units(size: int) -> Floats:
    """Return the factors from a motion in shares of the picture to one in pixels of `size`."""
    return np.array([size, 1.0, size, 1.0], np.float32)


def _align(first: Floats, second: Floats, motion: Floats, iterations: int) -> Floats:
    """Return the motion (P, 4) that aligns `first` with `second`: px and share of the size down, then the same to the right.

    Both are luma (P, S, S), and `motion` is the beginning. The inverse compositional algorithm (Baker & Matthews, "Lucas-Kanade 20 years
    on", IJCV 2004) computes the slopes of `second` only once. Gain and offset of the light are fitted too.
    """
    size = first.shape[-1]
    border, centred = size // BORDER_SHARE, _centred(size)
    first, second = _smooth(first), _smooth(second)
    down, right = np.gradient(second, axis=1), np.gradient(second, axis=2)
    light = second - second.mean((1, 2), keepdims=True)
    causes = np.stack([down, down * centred[:, None], right, right * centred, light, np.ones_like(second)], 1)
    inner = slice(border, size - border)
    solver = _solver(causes[:, :, inner, inner].reshape(len(second), 6, -1))
    seen = second[:, inner, inner]
    limits = MAX_MOTION * _units(size)
    for _ in range(iterations):
        misfit = (_move(first[:, None], motion)[:, 0, inner, inner] - seen).reshape(len(second), -1, 1)
        cause = (solver @ misfit)[:, :, 0]
        step = np.clip(cause[:, :4] / np.maximum(1 + cause[:, 4:5], 0.2), -MAX_STEP, MAX_STEP)
        stretch = (1 + motion[:, 1::2]) / (1 + step[:, 1::2]) - 1
        shift = motion[:, 0::2] - (1 + stretch) * step[:, 0::2]
        motion = np.clip(np.stack([shift[:, 0], stretch[:, 0], shift[:, 1], stretch[:, 1]], axis=1), -limits, limits)
    return motion


def _solver(causes: Floats) -> Floats:
    """Return the matrices (P, 6, pixels) that turn a misfit into the strengths of `causes` (P, 6, pixels), by damped least squares."""
    normal = causes @ causes.transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("pii->pi", normal) + 1e-3)  # causes of unit length make the equations of all pictures alike
    normal = normal / (scale[:, :, None] * scale[:, None, :])
    slopes = np.square(scale[:, :4]).sum(1, keepdims=True) / np.square(scale[:, :4])
    normal[:, np.arange(4), np.arange(4)] += SLOPE_DAMPING * slopes
    normal[:, np.arange(6), np.arange(6)] += MIN_DAMPING
    inverse = np.linalg.inv(normal.astype(np.float64)).astype(np.float32)
    return (inverse @ (causes / scale[:, :, None])) / scale[:, :, None]


def _edge_correlation(first: Floats, second: Floats, motion: Floats) -> Floats:
    """Return the correlation (P,) of the pixel differences of `first` after `motion` and of `second`, both (P, channels, T, T)."""
    moved = _move(first, motion)
    rows, columns = _inside_mask(motion[:, :2], THUMBNAIL_SIZE), _inside_mask(motion[:, 2:], THUMBNAIL_SIZE)
    both = (rows[:, :, None] & columns[:, None, :])[:, None]
    product, energy_first, energy_second = 0.0, 0.0, 0.0
    for shown, axis in ((both[:, :, 1:] & both[:, :, :-1], 2), (both[:, :, :, 1:] & both[:, :, :, :-1], 3)):
        one, two = np.diff(moved, axis=axis) * shown, np.diff(second, axis=axis) * shown
        product = product + np.einsum("pcyx,pcyx->p", one, two)
        energy_first = energy_first + np.einsum("pcyx,pcyx->p", one, one)
        energy_second = energy_second + np.einsum("pcyx,pcyx->p", two, two)
    return np.asarray(product / np.sqrt(np.maximum(energy_first * energy_second, 1e-6)), np.float32)


def _move(pictures: Floats, motion: Floats) -> Floats:
    """Resample (P, channels, S, S) by `motion`, linearly; pixels beyond the edge equal the edge."""
    size = pictures.shape[-1]
    rows, columns = _weights(motion[:, :2], size), _weights(motion[:, 2:], size)
    return rows[:, None] @ pictures @ columns.transpose(0, 2, 1)[:, None]


def _weights(motion: Floats, size: int) -> Floats:
    """Return weights (P, S, S) that read a line of pixels at its moved positions."""
    positions = np.clip(_positions(motion, size), 0, size - 1)
    before = np.minimum(positions.astype(np.int64), size - 2)  # a position lies between this pixel and the next one
    weights = np.zeros((*positions.shape, size), np.float32)
    pair, line = np.ogrid[: len(positions), :size]
    for pixel in (before, before + 1):
        weights[pair, line, pixel] = np.clip(1 - np.abs(positions - pixel.astype(np.float32)), 0, None)
    return weights


def _inside_mask(motion: Floats, size: int) -> NDArray[np.bool_]:
    """Return a mask (P, S) of the moved positions of a line that lie in the picture."""
    return np.abs(_positions(motion, size) - (size - 1) / 2) < size / 2


def _positions(motion: Floats, size: int) -> Floats:
    """Return the moved positions (P, S) of a line by its shift in px and its stretch, `motion` (P, 2)."""
    return (1 + motion[:, 1:]) * _centred(size) + motion[:, :1] + (size - 1) / 2


def _centred(size: int) -> Floats:
    return np.arange(size, dtype=np.float32) - (size - 1) / 2


def _smooth(pictures: Floats, passes: int = 1) -> Floats:
    """Average each pixel of (P, S, S) with its neighbours, 1:2:1 in both directions, so that slopes predict a shift by a pixel."""
    matrix = _smoothing_matrix(pictures.shape[-1], passes)
    return matrix @ pictures @ matrix.T


@cache
def _smoothing_matrix(size: int, passes: int) -> Floats:
    """Return the matrix (S, S) of the filter 1:2:1 on a line of pixels, which goes on beyond its ends with the last pixel."""
    matrix = (2 * np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 4
    matrix[0, 0] = matrix[-1, -1] = 0.75
    return np.linalg.matrix_power(matrix, passes).astype(np.float32)
