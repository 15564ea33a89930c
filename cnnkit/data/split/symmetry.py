"""The eight symmetries of the square, for small pictures and for their descriptions.

A symmetry is a number from 0 to 7, the sum of three moves in this order: 4 swaps rows and columns, 1 turns the picture upside down,
2 mirrors it left to right. 0 changes nothing, 2 is a mirror image, 3 a half turn, 5 and 6 are quarter turns.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Symmetries = NDArray[np.int8]

Value = TypeVar("Value", bound=np.generic)
NUM_SYMMETRIES = 8
IDENTITY = 0
_UPSIDE_DOWN, _MIRRORED, _TRANSPOSED = 1, 2, 4


def turned(pictures: NDArray[Value], symmetries: Symmetries) -> NDArray[Value]:
    """Return pictures (P, S, S, ...), each after its symmetry of `symmetries` (P,)."""
    result = pictures.copy()
    for number in np.unique(symmetries).tolist():
        rows = np.flatnonzero(symmetries == number)
        result[rows] = _turn(pictures[rows], number)
    return result


def relative(first: Symmetries, second: Symmetries) -> Symmetries:
    """Return the symmetry that turns a picture into another one, if the first after `first` equals the other one after `second`."""
    return _relative_table()[first, second]


def inverse(symmetries: Symmetries) -> Symmetries:
    """Return the symmetry that undoes each of `symmetries`."""
    return _relative_table()[IDENTITY, symmetries]


@cache
def frequency_moves(counts: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the indices (8, D) and signs (8, D) that turn descriptions of DCT coefficients as `turned` turns their pictures.

    A description holds for each count n of `counts` the n x n coefficients of a channel row by row, without the mean. A mirror image
    changes the sign of odd frequencies, a transposed picture has transposed coefficients.
    """
    starts = np.cumsum([0, *(count * count - 1 for count in counts)])
    indices = np.empty((NUM_SYMMETRIES, starts[-1]), np.int64)
    signs = np.empty((NUM_SYMMETRIES, starts[-1]), np.float32)
    for count, start in zip(counts, starts[:-1], strict=True):
        down, right = (axis.ravel()[1:] for axis in np.indices((count, count)))
        part = slice(start, start + len(down))
        for number in range(NUM_SYMMETRIES):
            transposed = right * count + down if number & _TRANSPOSED else down * count + right
            indices[number, part] = start + transposed - 1
            odd = down * bool(number & _UPSIDE_DOWN) + right * bool(number & _MIRRORED)
            signs[number, part] = 1 - 2 * (odd % 2)
    return indices, signs


def canonical_versions(down: NDArray[np.floating], right: NDArray[np.floating], margin: float) -> NDArray[np.bool_]:
    """Return a mask (N, 8) of the symmetries that bring a picture into canonical form, or within `margin` of this form.

    `down` and `right` (N,) are the coefficients of the lowest frequency of each direction. Both are positive in canonical form, and
    `right` is the larger. At least one symmetry of each picture is in the mask. A `margin` of 2 gives all symmetries of unit vectors.
    """
    mask = np.empty((len(down), NUM_SYMMETRIES), np.bool_)
    for number in range(NUM_SYMMETRIES):
        low, high = (right, down) if number & _TRANSPOSED else (down, right)
        low, high = (-low if number & _UPSIDE_DOWN else low), (-high if number & _MIRRORED else high)
        mask[:, number] = (low >= -margin) & (high >= -margin) & (np.abs(high) - np.abs(low) >= -margin)
    return mask


def _turn(pictures: NDArray[Value], number: int) -> NDArray[Value]:
    if number & _TRANSPOSED:
        pictures = np.swapaxes(pictures, 1, 2)
    return pictures[:, :: -1 if number & _UPSIDE_DOWN else 1, :: -1 if number & _MIRRORED else 1]


@cache
def _relative_table() -> Symmetries:
    """Return the table (8, 8) of `relative`, found on a picture without any symmetry."""
    picture = np.arange(4).reshape(1, 2, 2)
    views = [_turn(picture, number) for number in range(NUM_SYMMETRIES)]
    table = np.empty((NUM_SYMMETRIES, NUM_SYMMETRIES), np.int8)
    for number, view in enumerate(views):
        for first, seen in enumerate(views):
            for second in range(NUM_SYMMETRIES):
                if np.array_equal(_turn(view, second), seen):
                    table[first, second] = number
    return table
