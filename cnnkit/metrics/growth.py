"""The forecast of accuracy and recall with more training images: a learning curve, a gain and a conclusion for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.intervals import CONFIDENCE, Estimate
from cnnkit.metrics.learning_curve import CurvePoints, LearningCurve, dispersion
from cnnkit.metrics.proportion import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GROWTH_FACTOR = 4  # Rosenfeld et al. extrapolate 16 times, but from hundreds of trainings
MAX_LITTLE_GAIN = 0.01  # the band of a little gain ends below it
MAX_FALL = -0.02  # a band that reaches below it comes from noise or from a failed training
MAX_NAMED_CLASSES = 3  # in a verdict, if several may gain most

_UNDEFINED = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Growth:
    """The expected growth of the recall of one class, or of the accuracy over all images (`name` is empty).

    `points` are the measurements, `now` is the last one with its Wilson interval. `later` is the expectation of the curve after `added`
    more images, and `gain` its difference from the curve's expectation now, both with their bands. A class without validation images
    has NaN and no `curve`.
    """

    name: str
    points: CurvePoints
    added: int
    now: Estimate
    later: Estimate
    gain: Estimate
    curve: LearningCurve | None

    @property
    def images(self) -> int:
        """Number of images of the largest training."""
        return int(self.points.images[-1])

    @property
    def conclusion(self) -> str:
        """The conclusion from the band of the gain: ``gains``, ``little`` or ``cannot tell``."""
        if self.curve is None or self.images + self.added > MAX_GROWTH_FACTOR * self.images:
            return "cannot tell"
        if self.gain.high < MAX_LITTLE_GAIN and self.gain.low > MAX_FALL:
            return "little"
        return "gains" if self.gain.low > 0 else "cannot tell"

    def to_dict(self) -> dict[str, Any]:
        """Return the row of learning-curve.json."""
        return {
            "class": self.name or None,
            "images": self.images,
            "added": self.added,
            "support": self.points.support,
            "now": self.now.to_dict(),
            "later": self.later.to_dict(),
            "gain": self.gain.to_dict(),
            "says": self.conclusion,
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """The expected growth over all images and of each class after `added` more images of a class, with a `verdict` in words.

    `dispersion` is the ratio of the variance between trainings to the variance of drawing images (`learning_curve.dispersion`).
    """

    added: int
    dispersion: float
    overall: Growth
    per_class: tuple[Growth, ...]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of learning-curve.json, except for the trainings."""
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
    """Return the forecast for `added` more images of a class, from trainings of S sizes on K classes.

    `images` and `hits` are (S, K), training images and right predictions, sizes ascending; `support` (K,) counts the validation
    images. The curve of a class is a function of its own images while the images of the other classes grow in proportion. The forecast
    over all images assumes `added` more images of every class.
    """
    points = [CurvePoints(images[:, k], hits[:, k], int(support[k])) for k in range(len(names))]
    spread = dispersion([LearningCurve(each, draws=1) for each in points if each.support])
    rows = [_growth(name, each, added, spread, seed) for seed, (name, each) in enumerate(zip(names, points, strict=True), start=1)]
    everything = CurvePoints(images.sum(axis=1), hits.sum(axis=1), int(support.sum()))
    overall = _growth("", everything, added * len(names), spread, 0)
    return Forecast(added, spread, overall, tuple(rows), _verdict(rows, overall, added))


def _growth(name: str, points: CurvePoints, added: int, spread: float, seed: int) -> Growth:
    now = wilson(float(points.hits[-1]), points.support)
    if not points.support:
        return Growth(name, points, added, now, _UNDEFINED, _UNDEFINED, None)
    curve = LearningCurve(points, dispersion=spread, seed=seed)
    return Growth(name, points, added, now, curve.at(float(points.images[-1]) + added), curve.gain(added), curve)


def leaders(rows: Sequence[Growth], confidence: float = CONFIDENCE) -> list[Growth]:
    """Return the rows that may gain most, the largest gain first; empty if no row clearly gains.

    A row is left out if it gains more than the first row in at most (1 - `confidence`) / 2 of the draws.
    """
    sure = [row for row in rows if row.conclusion == "gains"]
    if not sure:
        return []
    first = max(sure, key=lambda row: row.gain.value)
    best = _gains(first)
    rivals = [row for row in rows if row is not first and row.curve and np.mean(_gains(row) > best) > (1 - confidence) / 2]
    return [first, *sorted(rivals, key=lambda row: -row.gain.value)]


def _gains(row: Growth) -> NDArray[np.float64]:
    assert row.curve is not None  # noqa: S101 (the callers pass only rows with a curve)
    return row.curve.gains(row.added)


def _verdict(rows: Sequence[Growth], overall: Growth, added: int) -> str:
    common = max(rows, key=lambda row: row.points.support)
    if overall.now.low <= common.points.support / overall.points.support:
        return (
            f"cannot tell: the model trained on all images is not clearly better than always predicting {common.name}; "
            f"train longer or with other settings first"
        )
    first = leaders(rows)
    if not first:
        if all(row.conclusion == "little" for row in rows):
            return f"{added} more images would add less than {100 * MAX_LITTLE_GAIN:.0f} point of recall in every class"
        return (
            f"cannot tell: no class clearly gains from {added} more images; more validation images, more seeds or larger shares "
            f"narrow the bands"
        )
    best = first[0]
    gain = f"{100 * best.gain.value:+.1f} points of recall [{100 * best.gain.low:+.1f}, {100 * best.gain.high:+.1f}]"
    if len(first) == 1:
        return f"{best.name} would gain most from {added} more images: {gain}"
    if len(first) <= MAX_NAMED_CLASSES:
        others = ", ".join(row.name for row in first[:-1])
        return f"{others} or {first[-1].name} would gain most from {added} more images; it is unclear which. {best.name}: {gain}"
    return (
        f"{best.name} would gain from {added} more images: {gain}; it is unclear whether it gains most, because {len(first) - 1} other "
        f"classes may gain as much"
    )
