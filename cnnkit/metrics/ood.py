"""Out-of-distribution images: the share that a model accepts, and the AUROC of its top probability.

The top probability is the baseline of Hendrycks and Gimpel (arXiv:1610.02136). Largest logit and energy (arXiv:2010.03759) separate
the images no better, and a threshold on them would not bound the risk: see docs/benchmarks/LOG.md, "Largest logit and energy".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.intervals import CONFIDENCE, Estimate
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.units import Units, normal_quantile, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DEFAULT_COVERAGE = 0.95  # of in-distribution images, for a model without a threshold: the usual point of FPR@95


@dataclass(frozen=True)
class OodReport:
    """The result of a model on `n` out-of-distribution images, with a `threshold` on the top probability.

    The threshold is the model's own rule if `stored`, otherwise the threshold that accepts `DEFAULT_COVERAGE` of the evaluated images.
    `accepted` is the accepted share of the out-of-distribution images, `kept` that of the evaluated images. `auroc` is the probability
    that an evaluated image has a higher top probability than an out-of-distribution image (0.5: no separation).
    """

    n: int
    threshold: float
    stored: bool
    accepted: Estimate
    kept: Estimate
    auroc: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``ood`` of metrics.json."""
        return {
            "n": self.n,
            "threshold": self.threshold,
            "stored_threshold": self.stored,
            "accepted": self.accepted.to_dict(),
            "in_distribution_answered": self.kept.to_dict(),
            "auroc": self.auroc.to_dict(),
        }


def ood_report(top: ArrayLike, ood_top: ArrayLike, threshold: float | None, units: Units | None = None) -> OodReport:
    """Compare the top probabilities of the evaluated images (N,) with those of out-of-distribution images (M,).

    `units` are those of the evaluated images; by default each is a unit of its own. `threshold` is the model's rule, None if it has
    none. Raises `DataError` if either set has no image.
    """
    own, others = np.asarray(top, dtype=np.float64), np.asarray(ood_top, dtype=np.float64)
    if not own.size or not others.size:
        raise DataError(f"{own.size} images of the model's classes and {others.size} out-of-distribution images: both must be at least 1")
    limit = float(np.sort(own)[math.floor((1 - DEFAULT_COVERAGE) * len(own) + 1e-9)]) if threshold is None else threshold
    of_images = units or Units.single(len(own))
    return OodReport(
        n=len(others),
        threshold=limit,
        stored=threshold is not None,
        accepted=wilson(int((others >= limit).sum()), len(others)),
        kept=proportion(own >= limit, of_images),
        auroc=auroc(own, others, units=of_images),
    )


def auroc(positive: ArrayLike, negative: ArrayLike, confidence: float = CONFIDENCE, units: Units | None = None) -> Estimate:
    """Return the area under the ROC curve of two samples (N,) and (M,) with DeLong's interval; ties count half.

    The variance comes from the ranks of each sample within the other (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837). It is
    0 if all values of one sample exceed all of the other. The interval then is that of a share: the samples hold min(N, M) independent
    pairs, and the values of each are in the same order with a probability that is the area. `units` are those of `positive`.
    """
    upper, lower = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    of_upper = units or Units.single(len(upper))
    above, below = _ranks(upper, np.sort(lower)), 1 - _ranks(lower, np.sort(upper))
    value = float(above.mean())
    if value in {0.0, 1.0}:
        pairs = min(of_upper.count, len(lower))
        return wilson(value * pairs, pairs, confidence)
    half = normal_quantile(confidence) * math.sqrt(_unit_variance(above, of_upper) + _variance(below))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def _ranks(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the sorted `others` (M,) below each of `values`, (N,); ties count half."""
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))


def _unit_variance(ranks: NDArray[np.float64], units: Units) -> float:
    """Return the variance of the mean rank of images of `units`."""
    if units.are_single:
        return _variance(ranks)
    if units.count < 2:  # noqa: PLR2004 (a spread needs two units)
        return 0.25
    return float((units.sums(ranks - ranks.mean()) ** 2).sum()) * units.count / (units.count - 1) / len(ranks) ** 2


def _variance(ranks: NDArray[np.float64]) -> float:
    """Return the variance of the mean rank; a single rank gets the largest variance of a share."""
    return float(ranks.var(ddof=1)) / len(ranks) if len(ranks) > 1 else 0.25
