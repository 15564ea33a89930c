"""Verification of near copies: agreement of two small pictures after one is shifted and stretched onto the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.store.facts import LUMA_WEIGHTS, THUMBNAIL_SIZE

Floats = NDArray[np.floating]  # float32 throughout

BATCH_PAIRS = 2048  # pairs at a time: 60 MB of working memory
ITERATIONS = 4  # 3 and 6 find 99.5 % of the same pairs: see docs/benchmarks/LOG.md, "Alignment of near copies"
BORDER_PIXELS = 2  # px of the second picture without weight: a crop of up to an eighth at each edge has no counterpart of them
MAX_STEP = np.array([1.0, 0.1, 1.0, 0.1], np.float32)  # px and share of the size that one iteration moves
MAX_MOTION = np.array([4.0, 0.3, 4.0, 0.3], np.float32)  # of all iterations: a quarter of the picture, 30 % of its size
_CENTRED_POSITIONS = np.arange(THUMBNAIL_SIZE, dtype=np.float32) - (THUMBNAIL_SIZE - 1) / 2


def agreement(pictures: NDArray[np.uint8], pairs: NDArray[np.int64]) -> Floats:
    """Return the agreement (P,) of the edges of pairs (P, 2) of pictures after alignment: -1 to 1, 1 for equal pictures.

    `pictures` are uint8 (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3). The agreement is the correlation of the differences between
    neighbouring pixels, over the part that both pictures show. Brightness, contrast and tint cancel out. The correlation of the pixels
    separates copies from look-alikes less well. At 90 % of Barz & Denzler's near duplicates in CIFAR-10, a threshold on
    pixels lets 3,569 pairs pass, a threshold on edges 2,913. With thumbnails of 32 px it is 2,919.
    """
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), BATCH_PAIRS):
        first, second = (pictures[rows].astype(np.float32) for rows in pairs[start : start + BATCH_PAIRS].T)
        motion = _align(first @ LUMA_WEIGHTS, second @ LUMA_WEIGHTS)
        scores[start : start + BATCH_PAIRS] = _edge_correlation(np.moveaxis(first, 3, 1), np.moveaxis(second, 3, 1), motion)
    return scores


def _align(first: Floats, second: Floats) -> Floats:
    """Return the motion (P, 4) that aligns `first` with `second`: px and share of the size down, then the same to the right.

    Both are luma (P, T, T). The inverse compositional algorithm (Baker & Matthews, "Lucas-Kanade 20 years on", IJCV 2004)
    computes the slopes of `second` only once. Gain and offset of the light are fitted too.
    """
    first, second = _smooth(first), _smooth(second)
    down, right = np.gradient(second, axis=1), np.gradient(second, axis=2)
    light = second - second.mean((1, 2), keepdims=True)
    causes = np.stack([down, down * _CENTRED_POSITIONS[:, None], right, right * _CENTRED_POSITIONS, light, np.ones_like(second)], 1)
    causes[:, :, :BORDER_PIXELS] = causes[:, :, -BORDER_PIXELS:] = 0
    causes[:, :, :, :BORDER_PIXELS] = causes[:, :, :, -BORDER_PIXELS:] = 0
    causes = causes.reshape(len(second), 6, -1)
    normal = causes @ causes.transpose(0, 2, 1)
    slopes = np.trace(normal[:, :4, :4], axis1=1, axis2=2)
    damping = slopes[:, None] * np.array([2.5e-4] * 4 + [0] * 2, np.float32) + 1e-6
    normal[:, np.arange(6), np.arange(6)] += damping  # else a picture with edges of one direction slides along them
    solver = np.linalg.inv(normal) @ causes
    motion = np.zeros((len(second), 4), np.float32)
    for _ in range(ITERATIONS):
        misfit = (_move(first[:, None], motion)[:, 0] - second).reshape(len(second), -1, 1)
        cause = (solver @ misfit)[:, :, 0]
        step = np.clip(cause[:, :4] / np.maximum(1 + cause[:, 4:5], 0.2), -MAX_STEP, MAX_STEP)
        stretch = (1 + motion[:, 1::2]) / (1 + step[:, 1::2]) - 1
        motion[:, 0::2] -= (1 + stretch) * step[:, 0::2]
        motion[:, 1::2] = stretch
        motion = np.clip(motion, -MAX_MOTION, MAX_MOTION)
    return motion


def _edge_correlation(first: Floats, second: Floats, motion: Floats) -> Floats:
    """Return the correlation (P,) of the pixel differences of `first` after `motion` and of `second`, both (P, channels, T, T)."""
    moved = _move(first, motion)
    rows, columns = _inside_mask(motion[:, 0], motion[:, 1]), _inside_mask(motion[:, 2], motion[:, 3])
    both = (rows[:, :, None] & columns[:, None, :])[:, None]
    product, energy_first, energy_second = 0.0, 0.0, 0.0
    for shown, axis in ((both[:, :, 1:] & both[:, :, :-1], 2), (both[:, :, :, 1:] & both[:, :, :, :-1], 3)):
        one, two = np.diff(moved, axis=axis) * shown, np.diff(second, axis=axis) * shown
        product = product + np.einsum("pcyx,pcyx->p", one, two)
        energy_first = energy_first + np.einsum("pcyx,pcyx->p", one, one)
        energy_second = energy_second + np.einsum("pcyx,pcyx->p", two, two)
    return np.asarray(product / np.sqrt(np.maximum(energy_first * energy_second, 1e-6)), np.float32)


def _move(pictures: Floats, motion: Floats) -> Floats:
    """Resample (P, channels, T, T) by `motion`, linearly; pixels beyond the edge equal the edge."""
    rows, columns = _weights(motion[:, 0], motion[:, 1]), _weights(motion[:, 2], motion[:, 3])
    return rows[:, None] @ pictures @ columns.transpose(0, 2, 1)[:, None]


def _weights(shift: Floats, stretch: Floats) -> Floats:
    """Return weights (P, T, T) that read a line of pixels at its moved positions."""
    positions = np.clip(_positions(shift, stretch), 0, THUMBNAIL_SIZE - 1)
    return np.clip(1 - np.abs(positions[:, :, None] - np.arange(THUMBNAIL_SIZE, dtype=np.float32)), 0, None)


def _inside_mask(shift: Floats, stretch: Floats) -> NDArray[np.bool_]:
    """Return a mask (P, T) of the moved positions of a line that lie in the picture."""
    positions = _positions(shift, stretch)
    return np.abs(positions - (THUMBNAIL_SIZE - 1) / 2) < THUMBNAIL_SIZE / 2


def _positions(shift: Floats, stretch: Floats) -> Floats:
    return (1 + stretch)[:, None] * _CENTRED_POSITIONS + shift[:, None] + (THUMBNAIL_SIZE - 1) / 2


def _smooth(luma: Floats) -> Floats:
    """Average each pixel with its neighbours, 1:2:1 in both directions, so that slopes predict a shift by a pixel."""
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    lines = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (lines[:, :, :-2] + 2 * lines[:, :, 1:-1] + lines[:, :, 2:]) / 16
