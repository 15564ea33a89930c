"""Label sets: instead of one answer, all classes that an image may belong to, so that the true one is among them as often as asked.

Split conformal prediction with the least ambiguous sets (LAC: Sadinle, Lei and Wasserman 2019, JASA 114:223): every class whose
probability reaches one threshold, and always the first answer. Of all methods that promise the coverage it has the smallest sets;
adaptive ones (APS, RAPS: arXiv:2009.14193) spread the mistakes more evenly over easy and hard images: see
docs/benchmarks/RESULTS.md, "Label sets".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ConfigError, DataError
from cnnkit.metrics.intervals import Estimate, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class LabelSets:
    """A rule: the label set of an image holds its first answer and every class with a probability of at least `threshold`.

    The true class of an image of the same source is in the set with probability `coverage` or more, over the draw of the `n` images
    of `split` and of the image itself.
    """

    threshold: float
    coverage: float
    n: int
    split: str

    def members(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which classes are in the set of each image: (N, K) to (N, K)."""
        inside = probabilities.astype(np.float64) >= self.threshold
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        return inside


@dataclass(frozen=True)
class SetOutcome:
    """How label sets did on labelled images: `sizes[k]` images have a set of k classes (sizes[0] is 0)."""

    n: int
    coverage: Estimate
    mean_size: float
    single: float
    sizes: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json says of it; of `sizes` only those that occur."""
        sizes = {str(size): count for size, count in enumerate(self.sizes) if count}
        return {"coverage": self.coverage.to_dict(), "mean_size": self.mean_size, "single": self.single, "sizes": sizes}


def fit_label_sets(labels: ArrayLike, probabilities: ArrayLike, coverage: float, *, split: str) -> LabelSets:
    """Return the rule that holds the true class with probability `coverage`, from labels (N,) and probabilities (N, K).

    Of N + 1 exchangeable images the last is equally likely to have any rank, so the threshold is the floor((1 - coverage)(N + 1))-th
    smallest probability of a true class: exact for every N. Raises `ConfigError` if `coverage` is not between 0 and 1, `DataError`
    if there are too few images for it.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"a coverage of {coverage:g}: it must lie between 0 and 1, such as 0.95: 95 sets of 100 hold the true class")
    true, chances = np.asarray(labels), np.asarray(probabilities)
    n = len(true)
    rank = math.floor((1 - coverage) * (n + 1) + 1e-9)  # 0.05 * 20 is 1, also in binary
    if rank < 1:
        raise DataError(
            f"label sets of coverage {coverage:g} need at least {math.ceil(1 / (1 - coverage) - 1e-9) - 1} {split} images, there are {n}: "
            f"ask for less, or put more images into {split}"
        )
    own = np.sort(chances[np.arange(n), true].astype(np.float64))
    return LabelSets(float(own[rank - 1]), coverage, n, split)


def set_outcome(labels: ArrayLike, probabilities: ArrayLike, rule: LabelSets) -> SetOutcome:
    """Return how often the sets of `rule` hold the true class of these images, and how large they are."""
    true, inside = np.asarray(labels), rule.members(np.asarray(probabilities))
    n, sizes = len(true), inside.sum(axis=1)
    hits = int(inside[np.arange(n), true].sum())
    return SetOutcome(n, wilson(hits, n), float(sizes.mean()), float((sizes == 1).mean()), tuple(map(int, np.bincount(sizes))))
