"""What more training images would bring: for each class a curve, a gain with its band, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.intervals import CONFIDENCE, Estimate, wilson
from cnnkit.metrics.learning_curve import LearningCurve, Sizes, dispersion

if TYPE_CHECKING:
    from numpy.typing import NDArray

FURTHEST = 4  # times the images there are: Rosenfeld et al. check 16 times on hundreds of trainings, here there are a few
LITTLE = 0.01  # a gain that is surely below one point is called little,
FALL = -0.02  # unless recall may also fall by more than two points: that is noise, or a training that failed
RIVALS = 3  # classes named as those that may gain most; more than that is "cannot tell"

_NOTHING = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Growth:
    """The share of right answers of one class (its recall), or of all images (accuracy; `name` is empty).

    `sizes` are what it was measured at, `now` the last of them with its Wilson interval. `later` is what the curve expects after
    `added` more images of the class, or of every class, and `gain` how far that is from what it expects now, both with their
    bands; NaN, and no `curve`, for a class that no image was there to measure with.
    """

    name: str
    sizes: Sizes
    added: int
    now: Estimate
    later: Estimate
    gain: Estimate
    curve: LearningCurve | None

    @property
    def images(self) -> int:
        """Images of the largest training."""
        return int(self.sizes.images[-1])

    @property
    def says(self) -> str:
        """What can be said of the gain: ``gains``, ``little`` or ``cannot tell``."""
        if self.curve is None or self.images + self.added > FURTHEST * self.images:
            return "cannot tell"
        if self.gain.high < LITTLE and self.gain.low > FALL:
            return "little"
        return "gains" if self.gain.low > 0 else "cannot tell"

    def to_dict(self) -> dict[str, Any]:
        """Return the row of learning-curve.json."""
        return {
            "class": self.name or None,
            "images": self.images,
            "added": self.added,
            "support": self.sizes.support,
            "now": self.now.to_dict(),
            "later": self.later.to_dict(),
            "gain": self.gain.to_dict(),
            "says": self.says,
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """The growth of all images and of each class if `added` images came to a class; `verdict` in words.

    `dispersion` is how many times the variance between trainings exceeds that of drawing images (`learning_curve.dispersion`).
    """

    added: int
    dispersion: float
    overall: Growth
    per_class: tuple[Growth, ...]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return what learning-curve.json says beside the trainings."""
        return {
            "verdict": self.verdict,
            "add": self.added,
            "dispersion": self.dispersion,
            "overall": self.overall.to_dict(),
            "per_class": [row.to_dict() for row in self.per_class],
        }


def forecast(
    images: NDArray[np.float64], hits: NDArray[np.float64], support: NDArray[np.int64], names: Sequence[str], added: int
) -> Forecast:
    """Say what `added` images of a class would bring, from trainings of S sizes on K classes.

    `images` and `hits` are (S, K), training images and right answers, sizes ascending; `support` (K,) the images measured on. The
    curve of a class is over its own images while those of the others grew in proportion, and is read so. Of all images `added`
    are thought to come to every class.
    """
    sizes = [Sizes(images[:, k], hits[:, k], int(support[k])) for k in range(len(names))]
    spread = dispersion([LearningCurve(each, draws=1) for each in sizes if each.support])
    rows = [_growth(name, each, added, spread, seed) for seed, (name, each) in enumerate(zip(names, sizes, strict=True), start=1)]
    everything = Sizes(images.sum(axis=1), hits.sum(axis=1), int(support.sum()))
    overall = _growth("", everything, added * len(names), spread, 0)
    return Forecast(added, spread, overall, tuple(rows), _verdict(rows, overall, added))


def _growth(name: str, sizes: Sizes, added: int, spread: float, seed: int) -> Growth:
    now = wilson(float(sizes.hits[-1]), sizes.support)
    if not sizes.support:
        return Growth(name, sizes, added, now, _NOTHING, _NOTHING, None)
    curve = LearningCurve(sizes, dispersion=spread, seed=seed)
    return Growth(name, sizes, added, now, curve.at(float(sizes.images[-1]) + added), curve.gain(added), curve)


def leaders(rows: Sequence[Growth], confidence: float = CONFIDENCE) -> list[Growth]:
    """Return the rows that may gain most, likeliest first; empty if none surely gains.

    Left out are those that gain less than the first in all but (1 - `confidence`) / 2 of the draws.
    """
    sure = [row for row in rows if row.says == "gains"]
    if not sure:
        return []
    first = max(sure, key=lambda row: row.gain.value)
    best = _gains(first)
    rivals = [row for row in rows if row is not first and row.curve and np.mean(_gains(row) > best) > (1 - confidence) / 2]
    return [first, *sorted(rivals, key=lambda row: -row.gain.value)]


def _gains(row: Growth) -> NDArray[np.float64]:
    assert row.curve is not None  # noqa: S101 (asked only of rows that have one)
    return row.curve.gains(row.added)


def _verdict(rows: Sequence[Growth], overall: Growth, added: int) -> str:
    common = max(rows, key=lambda row: row.sizes.support)
    if overall.now.low <= common.sizes.support / overall.sizes.support:
        return (
            f"cannot tell: trained on all images the model is not shown to be better than always answering {common.name}; "
            f"train longer or otherwise first"
        )
    first = leaders(rows)
    if not first:
        if all(row.says == "little" for row in rows):
            return f"{added} more images would bring less than {100 * LITTLE:.0f} point of recall in every class"
        return (
            f"cannot tell: no class is sure to gain from {added} more images; more validation images, more seeds or larger sizes "
            f"narrow the bands"
        )
    best = first[0]
    gain = f"{100 * best.gain.value:+.1f} points of recall [{100 * best.gain.low:+.1f}, {100 * best.gain.high:+.1f}]"
    if len(first) == 1:
        return f"{best.name} would gain most from {added} more images: {gain}"
    if len(first) <= RIVALS:
        others = ", ".join(row.name for row in first[:-1])
        return f"{others} or {first[-1].name} would gain most from {added} more images; which of them cannot be told. {best.name}: {gain}"
    return (
        f"{best.name} would gain from {added} more images: {gain}; cannot tell whether it gains most, {len(first) - 1} other classes "
        f"may gain as much"
    )
