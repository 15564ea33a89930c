"""Evidence that images of a series are more alike than other images of their class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Vectors = NDArray[np.floating]

MAX_SAMPLES = 300  # images whose series is compared with other images: the share of wins is then known to within 0.05
LOOK_INTERVAL = 50  # images after which a comparison that cannot be won any more ends
MIN_SAMPLES = 20  # fewer images are no evidence
MAX_MEMBERS = 8  # of a series, the most that one image is compared with
NUM_DRAWS = 8  # of other images, for each image
MIN_SERIES = 5  # of at least two images
_STANDARD_ERRORS = 1.96  # of a 95 % interval
# The least share of images that have a better match in their series than among as many other images of the class, and the least lower end
# of its interval. Independent photographs win half of the comparisons: see docs/benchmarks/LOG.md, "Series".
MIN_WINS, MIN_WINS_LOW = 2 / 3, 0.6


@dataclass(frozen=True)
class Wins:
    """The share of images with a better match in their series than among as many other images, with the lower end of its interval.

    `value` is 0.5 for images that do not belong together. `samples` is the number of images that were compared.
    """

    value: float
    low: float
    samples: int

    @property
    def certain(self) -> bool:
        """Whether the images belong together."""
        return self.samples >= MIN_SAMPLES and self.value >= MIN_WINS and self.low >= MIN_WINS_LOW


NO_WINS = Wins(0.5, 0.0, 0)


def compare(vectors: Vectors, labels: Indices, series: Indices, *, across: bool) -> Wins:
    """Compare images (N, D) of `labels` (N,) with the other images of their `series` (N,), of their own class or `across` classes.

    Each image is compared with members of its series, and with one image of another series for each of them, of the same class.
    `vectors` are unit vectors. The samples depend on nothing but the arguments.
    """
    order = np.argsort(series, kind="stable")
    start = np.searchsorted(series[order], series[order], "left")
    end = np.searchsorted(series[order], series[order], "right")
    if np.count_nonzero((end - start > 1) & (start == np.arange(len(order)))) < MIN_SERIES:
        return NO_WINS
    of_class = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    random = np.random.default_rng(0)
    wins: list[float] = []
    for place in random.permutation(np.flatnonzero(end - start > 1)):
        row, members = order[place], order[start[place] : end[place]]
        members = random.permutation(members[((labels[members] != labels[row]) == across) & (members != row)])[:MAX_MEMBERS]
        pairs = [
            (member, others)
            for member in members
            if len(others := _others(of_class[int(labels[member])], series, int(series[row]), random))
        ]
        if not pairs:
            continue
        best = (vectors[[member for member, _ in pairs]] @ vectors[row]).max()
        rivals = (vectors[np.stack([drawn for _, drawn in pairs])] @ vectors[row]).max(axis=0)
        wins.append(float(np.mean((best > rivals) + 0.5 * (best == rivals))))
        if len(wins) == MAX_SAMPLES or (len(wins) % LOOK_INTERVAL == 0 and _high(wins) < MIN_WINS):
            break
    if not wins:
        return NO_WINS
    value = float(np.mean(wins))
    return Wins(value, value - _margin(wins), len(wins))


def _margin(wins: list[float]) -> float:
    """Return the half-width of the 95 % interval of a mean."""
    return _STANDARD_ERRORS * float(np.std(wins)) / math.sqrt(len(wins))


def _high(wins: list[float]) -> float:
    """Return the higher end of the interval of the mean of `wins`."""
    return float(np.mean(wins)) + _margin(wins)


def _others(rows: Indices, series: Indices, own: int, random: np.random.Generator) -> Indices:
    """Return `NUM_DRAWS` of `rows` at random that are not in the series `own`, or an empty array if there are none."""
    drawn = random.choice(rows, 2 * NUM_DRAWS)
    drawn = drawn[series[drawn] != own][:NUM_DRAWS]
    if len(drawn) == NUM_DRAWS:
        return drawn
    others = rows[series[rows] != own]  # the series is a large part of its class
    return random.choice(others, NUM_DRAWS) if len(others) else others
