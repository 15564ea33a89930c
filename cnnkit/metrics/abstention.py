"""Abstention: a threshold on the top probability that bounds the risk of the predictions above it.

The model abstains on an image below the threshold and accepts every other image. The risk is the error rate among the accepted
images, the coverage their share. Fixed-sequence testing finds the threshold (Angelopoulos et al., Learn then Test, arXiv:2110.01052).
It goes from the surest images downwards and tests each candidate exactly (binomial) against "the risk here exceeds the limit", until
one test fails. The sequence spends the 5 % once. The binary search of selective guaranteed risk (Geifman and El-Yaniv,
arXiv:1705.08500) divides the 5 % among all its steps. One mistake among the surest images must not end the search. The search
therefore has several starts, each with a share of the 5 %. A section that passes hands its share on (the fallback procedure: Wiens
2003, Pharmaceutical Statistics 2:211).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ConfigError, DataError
from cnnkit.metrics.intervals import CONFIDENCE, Estimate
from cnnkit.metrics.units import Units, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # rows of the risk-coverage table
NUM_CANDIDATES = 200  # finds the coverage to half a percent; every candidate is a test, and more tests fail sooner at random


@dataclass(frozen=True)
class Abstention:
    """A rule: the model abstains on an image whose top probability is below `threshold`.

    `risk` is the guarantee: with probability `confidence` over the draw of the `n` images of `split`, at most this share of later
    predictions is wrong. The rule accepted `answered` of the `n` images (`coverage` is their share), and `errors` predictions were
    wrong. `bound` is the upper Clopper-Pearson bound of the error rate, at most `risk`.
    """

    threshold: float
    risk: float
    bound: float
    confidence: float
    coverage: float
    answered: int
    errors: int
    n: int
    split: str

    def accepts(self, top: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return whether the rule accepts each image, (N,), by its top probability (N,)."""
        return top.astype(np.float64) >= self.threshold


@dataclass(frozen=True)
class Shortfall:
    """The reason why no threshold guarantees `risk` on `n` images, and two ways out.

    `best` is the rule of the smallest risk that these images guarantee (None if that exceeds 50 %). `needed` estimates the number of
    similar images that would show `risk` (None if even the surest predictions are wrong more often).
    """

    risk: float
    n: int
    best: Abstention | None
    needed: int | None


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold applied to `n` images: it accepts `accepted` images, and `errors` of their predictions are wrong.

    `risk` is the error rate among the accepted images with the interval of a proportion; NaN if the threshold accepts none.
    """

    threshold: float
    n: int
    accepted: int
    errors: int
    risk: Estimate

    @property
    def coverage(self) -> float:
        """Share of the images that the threshold accepts."""
        return self.accepted / self.n

    def to_dict(self) -> dict[str, Any]:
        """Return a row of ``risk_coverage`` in metrics.json."""
        counts = {"answered": self.accepted, "errors": self.errors}
        return {"coverage": self.coverage, "threshold": self.threshold, **counts, "risk": self.risk.to_dict()}


def find_threshold(top: ArrayLike, wrong: ArrayLike, risk: float, *, split: str, confidence: float = CONFIDENCE) -> Abstention | Shortfall:
    """Return the rule of highest coverage that guarantees `risk`, or the shortfall if no rule does.

    `top` (N,) are top probabilities, `wrong` (N,) tells whether each prediction is wrong. The guarantee holds for images of the same
    source. It assumes that less sure predictions are on the whole not more often right: once the risk exceeds `risk`, it stays above
    as the threshold falls. If the surest predictions are bad, the search returns a shortfall, not a rule that covers too much.
    Raises `ConfigError` if `risk` is not between 0 and 1, `DataError` if there is no image or a top probability is not in [0, 1].
    """
    if not 0 < risk < 1:
        raise ConfigError(f"the risk must lie between 0 and 1, got {risk:g}; 0.02 allows at most 2 wrong predictions of 100")
    ranking = _Ranking.of(top, wrong)
    found = _search(ranking, risk, 1 - confidence)
    if found:
        return _rule(ranking, found, risk, split, confidence)
    best = _rule_of_least_risk(ranking, risk, split, confidence)
    return Shortfall(risk, ranking.n, best, _images_needed(ranking, risk, 1 - confidence))


def risk_coverage(
    top: ArrayLike, wrong: ArrayLike, coverages: Sequence[float] = COVERAGES, units: Units | None = None
) -> tuple[OperatingPoint, ...]:
    """Return the operating point of each of `coverages`, the surest images first; equally sure images stay together."""
    ranking = _Ranking.of(top, wrong, units)
    ranks = ranking.end_of_equals(np.array([math.ceil(coverage * ranking.n) for coverage in coverages]))
    return tuple(ranking.point(float(ranking.top[rank - 1]), int(rank)) for rank in ranks)


def operating_point(top: ArrayLike, wrong: ArrayLike, threshold: float, units: Units | None = None) -> OperatingPoint:
    """Return the operating point of `threshold` on images with top probabilities `top` (N,); the interval of the risk counts `units`."""
    ranking = _Ranking.of(top, wrong, units)
    return ranking.point(threshold, int((ranking.top >= threshold).sum()))


def risk_coverage_curve(top: ArrayLike, wrong: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coverage and risk, each (N,), if a threshold accepts the surest 1, 2, ... N images."""
    ranking = _Ranking.of(top, wrong)
    ranks = np.arange(1, ranking.n + 1)
    return ranks / ranking.n, ranking.errors[1:] / ranks


def upper_bound(errors: int, accepted: int, level: float) -> float:
    """Return the one-sided Clopper-Pearson bound of the error rate after `errors` of `accepted` predictions.

    Above this rate, at most `errors` errors have a probability below `level`.
    """
    from scipy.special import betaincinv

    return 1.0 if errors >= accepted else float(betaincinv(errors + 1, accepted - errors, 1 - level))


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Images from the surest downwards: `top` (N,), and `errors` (N + 1,), the mistakes among the first 0, 1, ... N."""

    top: NDArray[np.float64]
    errors: NDArray[np.int64]
    units: Units

    @staticmethod
    def of(top: ArrayLike, wrong: ArrayLike, units: Units | None = None) -> _Ranking:
        """Sort the images; raises `DataError` if there is no image or a top probability is outside 0..1."""
        tops, mistakes = np.asarray(top, dtype=np.float64), np.asarray(wrong, dtype=np.int64)
        if tops.shape != mistakes.shape or tops.ndim != 1 or not tops.size:
            raise DataError(f"top probabilities of shape {tops.shape} and mistakes of shape {mistakes.shape}: both must be (N,), N > 0")
        if not ((tops >= 0) & (tops <= 1 + 1e-3)).all():  # also true for NaN
            raise DataError("a top probability is NaN or outside 0..1: the model's weights may be damaged, or these are logits")
        order = np.argsort(-tops, kind="stable")
        of_images = (units or Units.single(len(tops))).of_rows(order)
        return _Ranking(tops[order], np.concatenate([[0], np.cumsum(mistakes[order])]), of_images)

    def point(self, threshold: float, accepted: int) -> OperatingPoint:
        """Return the operating point of a threshold that accepts the surest `accepted` images."""
        wrong = np.diff(self.errors[: accepted + 1]).astype(bool)
        risk = proportion(wrong, self.units.of_rows(slice(accepted)))
        return OperatingPoint(threshold, self.n, accepted, int(self.errors[accepted]), risk)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.top)

    def end_of_equals(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the last rank of the images as sure as the image at each of `ranks` (1 to N); no threshold separates them."""
        return np.searchsorted(-self.top, -self.top[ranks - 1], side="right")


def _search(ranking: _Ranking, risk: float, level: float) -> int:
    """Return the number of the surest images that a threshold may accept, 0 if no test passes.

    A threshold lies half way to the next image. Mistakes above the point where the true risk passes `risk` are binomial, and mistakes
    below that point are more frequent. Each test is therefore exact or conservative.
    """
    starts = _starts(ranking.n, risk, level)
    step = max(1, ranking.n // NUM_CANDIDATES)
    found, budget = 0, 0.0
    for start, end in pairwise([*starts, ranking.n + 1]):
        budget += level / len(starts)
        ranks = np.arange(start, end, step)
        ranks = ranking.end_of_equals(ranks if end <= ranking.n else np.append(ranks, ranking.n))
        passed = _probability_of_errors(ranking.errors[ranks], ranks, risk) <= budget
        until = len(ranks) if passed.all() else int(passed.argmin())  # the first test that fails
        if until:
            found = int(ranks[until - 1])
        if until < len(ranks):
            budget = 0.0
    return found


def _starts(n: int, risk: float, level: float) -> list[int]:
    """Return the start ranks of the search: the fewest images that can show `risk` at their share of `level`, then 2, 4, ... times."""
    count = 1
    while _min_images(risk, level / (count + 1)) * 2**count <= n:
        count += 1
    first = _min_images(risk, level / count)
    return [first * 2**index for index in range(count)] if first <= n else []


def _min_images(risk: float, level: float) -> int:
    """Return the number of predictions, all right, that shows a risk of at most `risk`."""
    return max(1, math.ceil(math.log(level) / math.log1p(-risk)))


def _probability_of_errors(errors: ArrayLike, accepted: ArrayLike, risk: float) -> Any:
    """Return the probability of at most `errors` errors among `accepted` predictions of error rate `risk`, element by element."""
    from scipy.special import bdtr

    return bdtr(errors, accepted, risk)


def _rule(ranking: _Ranking, rank: int, risk: float, split: str, confidence: float) -> Abstention:
    threshold = float(ranking.top[rank - 1] + ranking.top[rank]) / 2 if rank < ranking.n else 0.0
    errors = int(ranking.errors[rank])
    bound = upper_bound(errors, rank, 1 - confidence)
    return Abstention(threshold, risk, bound, confidence, rank / ranking.n, rank, errors, ranking.n, split)


def _rule_of_least_risk(ranking: _Ranking, risk: float, split: str, confidence: float) -> Abstention | None:
    """Return the rule of the smallest risk above `risk`, to 0.1 %, that these images can show; None if that exceeds 50 %."""
    for candidate in np.arange(math.floor(1000 * risk) + 1, 501) / 1000:
        found = _search(ranking, float(candidate), 1 - confidence)
        if found:
            return _rule(ranking, found, float(candidate), split, confidence)
    return None


def _images_needed(ranking: _Ranking, risk: float, level: float) -> int | None:
    """Estimate the number of images that would show `risk`, if the true error rates equal those of these images."""
    first = min(ranking.n, 20)  # the error rate of fewer images says nothing
    ranks = np.unique(np.linspace(first, ranking.n, NUM_CANDIDATES).astype(np.int64))
    shares = ranking.errors[ranks] / ranks
    more = np.geomspace(_min_images(risk, level), 10**8, 400).astype(np.int64)
    levels = np.array([level / max(1, len(_starts(int(number), risk, level))) for number in more])  # the share of each start
    enough = _probability_of_errors(np.floor(shares[:, None] * more), more, risk) <= levels
    possible = enough.any(axis=1) & (shares < risk)
    needed = more[enough.argmax(axis=1)] * ranking.n / ranks
    return math.ceil(needed[possible].min()) if possible.any() else None
