"""Images of no class the model knows: how many it answers as if it knew them, and how well its top probability tells them apart.

The top probability is the baseline of Hendrycks and Gimpel (arXiv:1610.02136). Largest logit and energy (arXiv:2010.03759) tell
images apart no better, and a threshold on them would not bound the risk: see docs/benchmarks/LOG.md, "Largest logit and energy".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.intervals import CONFIDENCE, Estimate, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

KEPT = 0.95  # of the model's own images answered where the model has no threshold: the usual point of FPR@95


@dataclass(frozen=True)
class StrangerReport:
    """How a model took `n` images of another kind, with a `threshold` on the top probability.

    `stored` says that the threshold is the model's own rule, else it is the one that answers `KEPT` of the evaluated images. `accepted`
    is the share of strangers that is answered, `kept` that of the evaluated images; `auroc` the probability that one of these is
    surer than a stranger (0.5: cannot be told apart).
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


def stranger_report(top: ArrayLike, strange: ArrayLike, threshold: float | None) -> StrangerReport:
    """Compare top probabilities of the model's own images (N,) with those of strangers (M,); `threshold` is the model's rule, if any.

    Raises `DataError` if either has no image.
    """
    own, others = np.sort(np.asarray(top, dtype=np.float64)), np.asarray(strange, dtype=np.float64)
    if not own.size or not others.size:
        raise DataError(f"{own.size} images of the model's classes and {others.size} of another kind: both must be at least 1")
    limit = float(own[math.floor((1 - KEPT) * len(own) + 1e-9)]) if threshold is None else threshold
    return StrangerReport(
        n=len(others),
        threshold=limit,
        stored=threshold is not None,
        accepted=wilson(int((others >= limit).sum()), len(others)),
        kept=wilson(int((own >= limit).sum()), len(own)),
        auroc=auroc(own, others),
    )


def auroc(positive: ArrayLike, negative: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the area under the ROC curve of two samples (N,) and (M,), equals counted half, with DeLong's interval.

    DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837: the variance of the mean rank of each sample among the other.
    """
    upper, lower = np.sort(np.asarray(positive, dtype=np.float64)), np.sort(np.asarray(negative, dtype=np.float64))
    above, below = _ranks(upper, lower), 1 - _ranks(lower, upper)
    value = float(above.mean())
    spread = math.sqrt(_variance(above) + _variance(below))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * spread
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def _ranks(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of `others`, sorted, that lies below each value, equals counted half."""
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))


def _variance(ranks: NDArray[np.float64]) -> float:
    """Of the mean of ranks; that of a single one is not known, and taken as the largest that a share can have."""
    return float(ranks.var(ddof=1)) / len(ranks) if len(ranks) > 1 else 0.25
