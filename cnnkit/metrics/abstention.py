"""When a model should say "I don't know": the threshold on its top probability that bounds the errors among its answers.

Risk is the error rate among answered images, coverage the share that is answered. The threshold is found by fixed-sequence
testing (Angelopoulos et al., Learn then Test, arXiv:2110.01052): from the surest images downwards, each candidate is tested
exactly (binomial) against "the risk here is above what was asked", until one fails. That spends the 5 % once, where the
binary search of selective guaranteed risk (Geifman and El-Yaniv, arXiv:1705.08500) divides it among all its steps. One mistake
among the surest few must not end the search, so it has several starts, each with a share of the 5 %; a passed section hands its
share on (the fallback procedure: Wiens 2003, Pharmaceutical Statistics 2:211).
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
from cnnkit.metrics.intervals import CONFIDENCE, Estimate, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # rows of the risk-coverage table
STEPS = 200  # candidates: coverage is found to half a percent; more would fail sooner by chance, each being a test


@dataclass(frozen=True)
class Abstention:
    """A rule: an image whose top probability is below `threshold` is not answered.

    `risk` is what was asked for: with probability `confidence` over the draw of the `n` images of `split`, at most this share of
    later answers is wrong. Of those images `answered` were (`coverage` is their share), `errors` of them wrongly; `bound` is the
    upper Clopper-Pearson bound of that share, at most `risk`.
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

    def answers(self, top: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which images are answered, (N,), by their top probabilities (N,)."""
        return top.astype(np.float64) >= self.threshold


@dataclass(frozen=True)
class Shortfall:
    """No threshold can guarantee `risk` on `n` images: what can be guaranteed instead, and how many images it would take.

    `best` is the rule of the smallest risk that can be guaranteed (None: not even 50 %); `needed` is about how many images would
    show `risk`, if more images behave like these (None: their surest answers are wrong more often than that).
    """

    risk: float
    n: int
    best: Abstention | None
    needed: int | None


@dataclass(frozen=True)
class Operating:
    """What a threshold does to some images: of `n`, `answered` have a top probability of at least `threshold`, `errors` of them wrong."""

    threshold: float
    n: int
    answered: int
    errors: int

    @property
    def coverage(self) -> float:
        """Share of the images that is answered."""
        return self.answered / self.n

    @property
    def risk(self) -> Estimate:
        """Share of the answers that is wrong, with Wilson's interval; NaN if nothing is answered."""
        return wilson(self.errors, self.answered)

    def to_dict(self) -> dict[str, Any]:
        """Return a row of ``risk_coverage`` in metrics.json."""
        counts = {"answered": self.answered, "errors": self.errors}
        return {"coverage": self.coverage, "threshold": self.threshold, **counts, "risk": self.risk.to_dict()}


def find_threshold(top: ArrayLike, wrong: ArrayLike, risk: float, *, split: str, confidence: float = CONFIDENCE) -> Abstention | Shortfall:
    """Return the rule that answers as many images as it can at no more than `risk`, or why there is none.

    `top` (N,) are top probabilities, `wrong` (N,) whether the answer is. The guarantee is for images of the same source, and
    assumes of the model that less sure answers are on the whole not more often right: once the risk is above `risk`, it stays there as
    the threshold falls. Where the surest answers are bad, nothing is found rather than too much. Raises `ConfigError` if `risk` is not
    between 0 and 1, `DataError` for no image or a top probability that is none.
    """
    if not 0 < risk < 1:
        raise ConfigError(f"a risk of {risk:g}: it must lie between 0 and 1, such as 0.02 for at most 2 wrong of 100 answers")
    ranking = _Ranking.of(top, wrong)
    found = _search(ranking, risk, 1 - confidence)
    if found:
        return _rule(ranking, found, risk, split, confidence)
    return Shortfall(risk, ranking.n, _least(ranking, risk, split, confidence), _images_needed(ranking, risk, 1 - confidence))


def risk_coverage(top: ArrayLike, wrong: ArrayLike, coverages: Sequence[float] = COVERAGES) -> tuple[Operating, ...]:
    """Return what answering the surest share of the images does, for each of `coverages`; equals are answered together."""
    ranking = _Ranking.of(top, wrong)
    ranks = ranking.end_of_equals(np.array([math.ceil(coverage * ranking.n) for coverage in coverages]))
    return tuple(Operating(float(ranking.top[rank - 1]), ranking.n, int(rank), int(ranking.errors[rank])) for rank in ranks)


def operating(top: ArrayLike, wrong: ArrayLike, threshold: float) -> Operating:
    """Return what `threshold` does to these images."""
    ranking = _Ranking.of(top, wrong)
    answered = int((ranking.top >= threshold).sum())
    return Operating(threshold, ranking.n, answered, int(ranking.errors[answered]))


def curve(top: ArrayLike, wrong: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coverage and risk (N,) when the surest image, the surest two, ... all are answered."""
    ranking = _Ranking.of(top, wrong)
    ranks = np.arange(1, ranking.n + 1)
    return ranks / ranking.n, ranking.errors[1:] / ranks


def upper_bound(errors: int, answered: int, level: float) -> float:
    """Return the one-sided Clopper-Pearson bound: the share above which so few errors have a probability below `level`."""
    from scipy.special import betaincinv

    return 1.0 if errors >= answered else float(betaincinv(errors + 1, answered - errors, 1 - level))


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Images from the surest down: `top` (N,), and `errors` (N + 1,), the mistakes among the first 0, 1, ... N."""

    top: NDArray[np.float64]
    errors: NDArray[np.int64]

    @staticmethod
    def of(top: ArrayLike, wrong: ArrayLike) -> _Ranking:
        """Sort; raises `DataError` for no image, or a top probability outside 0..1."""
        tops, mistakes = np.asarray(top, dtype=np.float64), np.asarray(wrong, dtype=np.int64)
        if tops.shape != mistakes.shape or tops.ndim != 1 or not tops.size:
            raise DataError(f"top probabilities of shape {tops.shape} and mistakes of shape {mistakes.shape}: both must be (N,), N > 0")
        if not ((tops >= 0) & (tops <= 1 + 1e-3)).all():  # also true for NaN
            raise DataError("a top probability is NaN or outside 0..1: the model's weights may be damaged, or these are logits")
        order = np.argsort(-tops, kind="stable")
        return _Ranking(tops[order], np.concatenate([[0], np.cumsum(mistakes[order])]))

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.top)

    def end_of_equals(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rank at which the images that are as sure as the one at each of `ranks` (1 to N) end: no threshold can part them."""
        return np.searchsorted(-self.top, -self.top[ranks - 1], side="right")


def _search(ranking: _Ranking, risk: float, level: float) -> int:
    """Return how many of the surest images can be answered, 0 if none can be shown to do.

    A threshold lies half way to the next image, so given how many images lie above the point where the true risk passes `risk`,
    the mistakes among these are binomial, and those among further ones more frequent: each test is exact or conservative.
    """
    starts = _starts(ranking.n, risk, level)
    step = max(1, ranking.n // STEPS)
    found, budget = 0, 0.0
    for start, end in pairwise([*starts, ranking.n + 1]):
        budget += level / len(starts)
        ranks = np.arange(start, end, step)
        ranks = ranking.end_of_equals(ranks if end <= ranking.n else np.append(ranks, ranking.n))
        passed = _chance(ranking.errors[ranks], ranks, risk) <= budget
        until = len(ranks) if passed.all() else int(passed.argmin())  # the first that fails
        if until:
            found = int(ranks[until - 1])
        if until < len(ranks):
            budget = 0.0
    return found


def _starts(n: int, risk: float, level: float) -> list[int]:
    """Ranks at which the search starts anew: the fewest images that can show `risk` at their share of `level`, then twice as many, ..."""
    count = 1
    while _fewest(risk, level / (count + 1)) * 2**count <= n:
        count += 1
    first = _fewest(risk, level / count)
    return [first * 2**index for index in range(count)] if first <= n else []


def _fewest(risk: float, level: float) -> int:
    """The number of answers, all right, that shows a risk of at most `risk`."""
    return max(1, math.ceil(math.log(level) / math.log1p(-risk)))


def _chance(errors: ArrayLike, answered: ArrayLike, risk: float) -> Any:
    """The probability of at most so many errors among `answered` if each has the probability `risk`; of the shape of the arguments."""
    from scipy.special import bdtr

    return bdtr(errors, answered, risk)


def _rule(ranking: _Ranking, rank: int, risk: float, split: str, confidence: float) -> Abstention:
    threshold = float(ranking.top[rank - 1] + ranking.top[rank]) / 2 if rank < ranking.n else 0.0
    errors = int(ranking.errors[rank])
    bound = upper_bound(errors, rank, 1 - confidence)
    return Abstention(threshold, risk, bound, confidence, rank / ranking.n, rank, errors, ranking.n, split)


def _least(ranking: _Ranking, risk: float, split: str, confidence: float) -> Abstention | None:
    """The rule of the smallest risk above `risk`, to a tenth of a percent, that these images can show; None above a half."""
    for candidate in np.arange(math.floor(1000 * risk) + 1, 501) / 1000:
        found = _search(ranking, float(candidate), 1 - confidence)
        if found:
            return _rule(ranking, found, float(candidate), split, confidence)
    return None


def _images_needed(ranking: _Ranking, risk: float, level: float) -> int | None:
    """About how many images would show `risk`, taking the shares of mistakes seen here for the true ones."""
    ranks = np.unique(np.linspace(min(ranking.n, 20), ranking.n, STEPS).astype(np.int64))  # of fewer, a share says nothing
    shares = ranking.errors[ranks] / ranks
    more = np.geomspace(_fewest(risk, level), 10**8, 400).astype(np.int64)
    enough = _chance(np.floor(shares[:, None] * more), more, risk) <= level
    possible = enough.any(axis=1) & (shares < risk)
    needed = more[enough.argmax(axis=1)] * ranking.n / ranks
    return math.ceil(needed[possible].min()) if possible.any() else None
