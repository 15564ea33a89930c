"""Label sets: all classes that an image may belong to, so that the set holds the true class with a given probability.

The method is split conformal prediction with the least ambiguous sets (LAC: Sadinle, Lei and Wasserman 2019, JASA 114:223). A set
holds every class whose probability reaches one threshold, and always the predicted class. LAC has the smallest sets of all methods
that guarantee the coverage. Adaptive methods (APS, RAPS: arXiv:2009.14193) spread the mistakes more evenly over easy and hard images:
see docs/benchmarks/RESULTS.md, "Label sets".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ConfigError, DataError
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.units import Units, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class LabelSets:
    """A rule: the label set of an image holds the predicted class and every class with a probability of at least `threshold`.

    For an image of the same source, the set holds the true class with a probability of at least `coverage`. The probability is over the
    draw of the `n` images of `split` and of the image itself.
    """

    threshold: float
    coverage: float
    n: int
    split: str

    def members(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return whether each class is in the set of each image, (N, K), by the probabilities (N, K)."""
        inside = probabilities.astype(np.float64) >= self.threshold
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        return inside


@dataclass(frozen=True)
class LabelSetOutcome:
    """The result of label sets on `n` labelled images.

    `coverage` is the share of sets that hold the true class, `single` the share of sets of one class. `sizes[k]` images have a set of
    k classes (sizes[0] is 0).
    """

    n: int
    coverage: Estimate
    mean_size: float
    single: float
    sizes: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``evaluated`` of metrics.json; `sizes` holds only the sizes that occur."""
        sizes = {str(size): count for size, count in enumerate(self.sizes) if count}
        return {"coverage": self.coverage.to_dict(), "mean_size": self.mean_size, "single": self.single, "sizes": sizes}


def fit_label_sets(labels: ArrayLike, probabilities: ArrayLike, coverage: float, *, split: str) -> LabelSets:
    """Return the rule whose sets hold the true class with probability `coverage`, from labels (N,) and probabilities (N, K).

    The last of N + 1 exchangeable images has every rank with equal probability. The threshold is therefore the
    floor((1 - coverage)(N + 1))-th smallest probability of a true class, which is exact for every N. Raises `ConfigError` if `coverage`
    is not between 0 and 1, `DataError` if there are too few images.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"the coverage must lie between 0 and 1, got {coverage:g}; with 0.95, 95 sets of 100 hold the true class")
    true, probs = np.asarray(labels), np.asarray(probabilities)
    n = len(true)
    rank = math.floor((1 - coverage) * (n + 1) + 1e-9)  # 0.05 * 20 is 1 in spite of rounding
    if rank < 1:
        raise DataError(
            f"label sets of coverage {coverage:g} need at least {math.ceil(1 / (1 - coverage) - 1e-9) - 1} {split} images, got {n}: "
            f"choose a lower coverage, or put more images into {split}"
        )
    own = np.sort(probs[np.arange(n), true].astype(np.float64))
    return LabelSets(float(own[rank - 1]), coverage, n, split)


def label_set_outcome(labels: ArrayLike, probabilities: ArrayLike, rule: LabelSets, units: Units | None = None) -> LabelSetOutcome:
    """Return the coverage and the sizes of the sets of `rule` on images with labels (N,) and probabilities (N, K).

    The interval of the coverage counts `units`; by default every image is a unit.
    """
    true, inside = np.asarray(labels), rule.members(np.asarray(probabilities))
    n, sizes = len(true), inside.sum(axis=1)
    coverage = proportion(inside[np.arange(n), true], units or Units.single(n))
    return LabelSetOutcome(n, coverage, float(sizes.mean()), float((sizes == 1).mean()), tuple(map(int, np.bincount(sizes))))
