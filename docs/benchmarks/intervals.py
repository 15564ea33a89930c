"""Coverage of the 95 % intervals of ``cnnkit eval``: the share of test sets in which they hold the truth.

    python docs/benchmarks/intervals.py [--draws 2000] [--sizes 50,500,5000] [--processes 2]

First, accuracy: the exact coverage of cnnkit's interval, and of others that could stand in its place, at 50, 500 and 5,000 images and a
true accuracy of 0.5, 0.9 and 0.99, and that over DRAWS simulated test sets. The width of an interval is a mean over all results.

Then every other score: DRAWS test sets of a made-up classifier of 5 classes (logits of unit noise, the true class raised so that 50, 90 or
99 % are right, one and a half times too sure of itself), equally many images of each class; the truth is the score of 500,000 more.
Printed is the share of sets whose interval holds it. The bootstraps draw 1,000 times, as ``cnnkit eval`` does.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from document import Table, add_option, save
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

from cnnkit.metrics.classification import ClassificationReport, classification_report
from cnnkit.metrics.counts import confusion_counts, margins
from cnnkit.metrics.intervals import bootstrap_counts, f1_interval
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.ranking import rank
from cnnkit.metrics.scores import Scores, f1_of

ACCURACIES = (0.5, 0.9, 0.99)
CLASSES = 5
TOO_SURE = 1.5
POPULATION = 500_000
Ends = tuple[Scores, Scores]
Labelled = tuple[NDArray[np.int64], NDArray[np.float64]]


def cnnkit_wilson(n: int) -> Ends:
    """Return both ends for 0..n hits."""
    ends = [wilson(hits, n) for hits in range(n + 1)]
    return np.array([end.low for end in ends]), np.array([end.high for end in ends])


def plain_wilson(n: int) -> Ends:
    """Return both ends of Wilson's formula as it stands."""
    z, share = norm.ppf(0.975), np.arange(n + 1) / n
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (share + z * z / (2 * n) - half) / (1 + z * z / n), (share + z * z / (2 * n) + half) / (1 + z * z / n)


def jeffreys(n: int) -> Ends:
    """Return both ends of the interval of Jeffreys' prior."""
    hits = np.arange(n + 1)
    low, high = beta.ppf(0.025, hits + 0.5, n - hits + 0.5), beta.ppf(0.975, hits + 0.5, n - hits + 0.5)
    return np.where(hits == 0, 0, low), np.where(hits == n, 1, high)


def mid_p(n: int) -> Ends:
    """Return both ends of the mid-p interval."""
    low, high = np.zeros(n + 1), np.ones(n + 1)
    for hits in range(n + 1):
        if hits:
            low[hits] = brentq(lambda p, k: binom.sf(k, n, p) + binom.pmf(k, n, p) / 2 - 0.025, 1e-12, 1 - 1e-12, args=(hits,))
        if hits < n:
            high[hits] = brentq(lambda p, k: binom.cdf(k - 1, n, p) + binom.pmf(k, n, p) / 2 - 0.025, 1e-12, 1 - 1e-12, args=(hits,))
    return low, high


METHODS = {"cnnkit": cnnkit_wilson, "Wilson": plain_wilson, "Jeffreys": jeffreys, "mid-p": mid_p}


def print_proportions(sizes: list[int], draws: int) -> Table:
    """Print the table of accuracy and return it."""
    table = Table("images", "accuracy", *METHODS, f"cnnkit, {draws} draws", "widths")
    for n in sizes:
        found = {name: method(n) for name, method in METHODS.items()}
        for accuracy in ACCURACIES:
            chances = binom.pmf(np.arange(n + 1), n, accuracy)
            holds = {name: (low <= accuracy) & (accuracy <= high) for name, (low, high) in found.items()}
            exact = (f"{100 * chances[hold].sum():.1f} %" for hold in holds.values())
            widths = ", ".join(f"{100 * (chances * (high - low)).sum():.2f}" for low, high in found.values())
            simulated = holds["cnnkit"][np.random.default_rng(n).binomial(n, accuracy, size=draws)].mean()
            table.add(str(n), str(accuracy), *exact, f"{100 * simulated:.1f} %", widths)
    return table


def made_up(n: int, accuracy: float, seed: int) -> Labelled:
    """Return labels (n,), equally many of each class, and the probabilities (n, `CLASSES`) of a classifier of this accuracy."""
    random = np.random.default_rng((seed, n, int(100 * accuracy)))
    labels = np.arange(n) % CLASSES
    logits = random.normal(size=(n, CLASSES))
    logits[np.arange(n), labels] += raised(accuracy)
    powers = np.exp(TOO_SURE * logits)
    return labels, powers / powers.sum(axis=1, keepdims=True)


def raised(accuracy: float) -> float:
    """By how much the true class's logit must be raised: the chance that it is the highest of `CLASSES` is then `accuracy`."""
    points, step = np.linspace(-8, 16, 3001, retstep=True)

    def excess(by: float) -> float:
        return float((norm.pdf(points - by) * norm.cdf(points) ** (CLASSES - 1)).sum() * step) - accuracy

    return float(brentq(excess, 0, 7))


def scores_of(report: ClassificationReport) -> dict[str, tuple[float, float, float]]:
    """Return value and ends of every score of the table."""
    estimates = {
        "accuracy": report.accuracy,
        "balanced accuracy": report.balanced_accuracy,
        "macro F1": report.macro_f1,
        "ROC AUC": report.roc_auc,
        "average precision": report.average_precision,
        "loss": report.loss,
        "Brier": report.brier,
        "ECE": report.ece,
    }
    first = report.per_class[0]
    return {
        **{name: (found.value, found.low, found.high) for name, found in estimates.items()},
        "weighted F1": (report.weighted_f1, *report.weighted_f1_interval),
        "F1 of a class": (first.f1, *first.f1_interval),
        "its recall": (first.recall, *first.recall_interval),
        "its precision": (first.precision, *first.precision_interval),
    }


def one_set(seed: int, n: int, accuracy: float, truth: dict[str, float]) -> dict[str, bool]:
    """Return which intervals of one test set hold the truth."""
    labels, chances = made_up(n, accuracy, seed)
    found = scores_of(classification_report(labels, chances, [str(k) for k in range(CLASSES)], split="test"))
    holds = {name: bool(low <= truth[name] <= high) for name, (_, low, high) in found.items()}
    table = confusion_counts(labels, chances.argmax(axis=1), CLASSES)
    drawn = bootstrap_counts(table, lambda sums: np.nan_to_num(f1_of(sums)[:, 0]))
    holds["F1 of a class, bootstrap"] = drawn.low <= truth["F1 of a class"] <= drawn.high
    return holds


def true_scores(accuracy: float) -> dict[str, float]:
    """Return the scores of very many images."""
    labels, chances = made_up(POPULATION, accuracy, -1 % 2**32)
    said = chances.argmax(axis=1)
    sums = margins(confusion_counts(labels, said, CLASSES))
    ordering, gaps = rank(labels, chances), (said == labels) - chances.max(axis=1)
    order = np.argsort(chances.max(axis=1))
    f1, mine = f1_interval(int(sums.hits[0]), int(sums.support[0]), int(sums.predicted[0])).value, chances[np.arange(len(labels)), labels]
    return {
        "accuracy": float((said == labels).mean()),
        "balanced accuracy": float((sums.hits / sums.support).mean()),
        "macro F1": float(f1_of(sums).mean()),
        "weighted F1": float(f1_of(sums).mean()),
        "ROC AUC": ordering.roc_auc,
        "average precision": ordering.average_precision,
        "loss": float(-np.log(mine).mean()),
        "Brier": float(((chances**2).sum(axis=1) - 2 * mine + 1).mean()),
        "ECE": float(sum(abs(part.sum()) for part in np.array_split(gaps[order], 15)) / len(gaps)),
        "F1 of a class": f1,
        "its recall": float(sums.hits[0] / sums.support[0]),
        "its precision": float(sums.hits[0] / sums.predicted[0]),
    }


def print_others(sizes: list[int], draws: int, processes: int) -> Table:
    """Print the table of the other scores, a column for each size and accuracy, and return it."""
    cells = [(n, accuracy) for n in sizes for accuracy in ACCURACIES]
    columns: dict[tuple[int, float], Counter[str]] = {}
    with ProcessPoolExecutor(processes) as pool:
        for n, accuracy in cells:
            one = partial(one_set, n=n, accuracy=accuracy, truth=true_scores(accuracy))
            columns[n, accuracy] = sum((Counter(holds) for holds in pool.map(one, range(draws), chunksize=20)), Counter[str]())
    table = Table("score", *(f"{n}, {accuracy}" for n, accuracy in cells))
    for name in columns[cells[0]]:
        table.add(name, *(f"{100 * columns[cell][name] / draws:.1f} %" for cell in cells))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=2000, help="simulated test sets")
    parser.add_argument("--sizes", default="50,500,5000", help="images in a test set")
    parser.add_argument("--processes", type=int, default=2)
    add_option(parser)
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    table, seeds = print_proportions(sizes, given.draws), "set by the script"
    claim = f"cnnkit's interval of the accuracy holds the truth in at least {min(cells[2] for cells in table.rows)} of the test sets."
    save(given.json, "Intervals of the accuracy", claim, table.columns, table.rows, seeds=seeds, name="accuracy")
    print()
    table = print_others(sizes, given.draws, given.processes)
    claim = f"The table has the share of {given.draws:,} simulated test sets in which the 95 % interval of a score holds the truth."
    save(given.json, "Intervals of the other scores", claim, table.columns, table.rows, seeds=seeds, name="scores")


if __name__ == "__main__":
    main()
