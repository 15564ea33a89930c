"""Whether two small pictures show the same thing, after one has been shifted and stretched onto the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.store.facts import LUMA_WEIGHTS, THUMBNAIL_SIZE

Floats = NDArray[np.floating]  # float32 throughout

BATCH_PAIRS = 2048  # pairs at a time: 60 MB of working memory
ITERATIONS = 4  # 3 and 6 find the same pairs but for 0.5 %: see docs/benchmarks/LOG.md, "Alignment of near copies"
BORDER_PIXELS = 2  # px of the second picture that do not steer: a crop of up to an eighth a side has nothing to show for them
MAX_STEP = np.array([1.0, 0.1, 1.0, 0.1], np.float32)  # px and share of the size, the most that one iteration moves
MAX_MOTION = np.array([4.0, 0.3, 4.0, 0.3], np.float32)  # the most that all of them move: a quarter of the picture, 30 % of its size
_CENTRED_POSITIONS = np.arange(THUMBNAIL_SIZE, dtype=np.float32) - (THUMBNAIL_SIZE - 1) / 2


def agreement(pictures: NDArray[np.uint8], pairs: NDArray[np.int64]) -> Floats:
    """Return how well the edges of pairs (P, 2) of pictures agree once they are aligned: -1 to 1, 1 for equal pictures.

    `pictures` are uint8 (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3). The measure is the correlation of the differences between
    neighbouring pixels, over the part that both pictures show: brightness, contrast and tint cancel out. The pixels
    themselves tell copies from look-alikes less well: to hold 90 % of the near duplicates of CIFAR-10 (Barz & Denzler's
    list), a threshold on their correlation lets 3,569 pairs pass, one on edges 2,913; with thumbnails of 32 px it is 2,919.
    """
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), BATCH_PAIRS):
        first, second = (pictures[side].astype(np.float32) for side in pairs[start : start + BATCH_PAIRS].T)
        motion = _align(first @ LUMA_WEIGHTS, second @ LUMA_WEIGHTS)
        scores[start : start + BATCH_PAIRS] = _edge_correlation(np.moveaxis(first, 3, 1), np.moveaxis(second, 3, 1), motion)
    return scores


def _align(first: Floats, second: Floats) -> Floats:
    """Find (P, 4): by how many px and which share of its size `first` moves down, and right, to lie on `second`.

    Both are luma (P, side, side). The inverse compositional algorithm (Baker & Matthews, "Lucas-Kanade 20 years on", IJCV
    2004): the slopes of `second` say how a misfit turns into motion, so they are worked out once. Gain and offset of light
    are fitted along.
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
    normal[:, np.arange(6), np.arange(6)] += damping  # else a picture whose edges all run one way slides along them
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
    """Correlate the pixel differences of `second` with those of `first` after `motion`; both are (P, channels, side, side)."""
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
    """Resample (P, channels, side, side) by `motion`, linearly; beyond the edge lies the edge."""
    rows, columns = _weights(motion[:, 0], motion[:, 1]), _weights(motion[:, 2], motion[:, 3])
    return rows[:, None] @ pictures @ columns.transpose(0, 2, 1)[:, None]


def _weights(shift: Floats, stretch: Floats) -> Floats:
    """Weights (P, side, side) that read a line of pixels at the positions it is moved to."""
    positions = np.clip(_positions(shift, stretch), 0, THUMBNAIL_SIZE - 1)
    return np.clip(1 - np.abs(positions[:, :, None] - np.arange(THUMBNAIL_SIZE, dtype=np.float32)), 0, None)


def _inside_mask(shift: Floats, stretch: Floats) -> NDArray[np.bool_]:
    """Which positions (P, side) of a line lie in the picture."""
    positions = _positions(shift, stretch)
    return np.abs(positions - (THUMBNAIL_SIZE - 1) / 2) < THUMBNAIL_SIZE / 2


def _positions(shift: Floats, stretch: Floats) -> Floats:
    return (1 + stretch)[:, None] * _CENTRED_POSITIONS + shift[:, None] + (THUMBNAIL_SIZE - 1) / 2


def _smooth(luma: Floats) -> Floats:
    """Average each pixel with its neighbours, 1:2:1 both ways: slopes then foretell what a shift by a pixel does."""
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    lines = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (lines[:, :, :-2] + 2 * lines[:, :, 1:-1] + lines[:, :, 2:]) / 16
