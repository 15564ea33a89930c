"""Coverage and power of the figures of `cnnkit compare`: intervals, tests, the number of images that would tell.

    python docs/benchmarks/comparison.py [DRAWS]

Simulates DRAWS (default 2,000) test sets a setting: n = 50, 500, 5,000 images; a model of accuracy 0.5, 0.9 or 0.99 and one as good, or
worse by half of their disagreement, which is 0.3 or 0.9 of what independent mistakes would give. Prints how often four intervals of the
difference in accuracy hold the truth, the same for macro-F1 and loss, how often the exact test finds a difference that is not there,
and how often one that is, with as many images as are said to be needed. Where statsmodels is installed, compares the
exact test with it on 2,000 tables; exits with 1 if the two differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import numpy as np
from document import add_option, save

from cnnkit.metrics.comparison import loss_difference, macro_f1_difference
from cnnkit.metrics.counts import confusion_counts
from cnnkit.metrics.paired import SIGNIFICANCE, PairedCounts, accuracy_difference, connor, images_needed, mcnemar
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.scores import macro_f1

SIZES, ACCURACIES, ALIKE = (50, 500, 5000), (0.5, 0.9, 0.99), (0.3, 0.9)
Z = 1.959964
Bounds = tuple[float, float]


def wald(counts: PairedCounts) -> Bounds:
    """The textbook interval: the difference and its standard error."""
    value = (counts.only_second - counts.only_first) / counts.n
    half = Z * np.sqrt(max(0.0, counts.disagreement - value**2) / counts.n)
    return value - half, value + half


def newcombe(counts: PairedCounts) -> Bounds:
    """Method 10 of Newcombe (1998, Stat. Med. 17:2635): two Wilson intervals and the correlation of the two proportions."""
    n = counts.n
    first, second = wilson(counts.both + counts.only_first, n), wilson(counts.both + counts.only_second, n)
    value = second.value - first.value
    margins = first.value * (1 - first.value) * second.value * (1 - second.value) * n**4
    product_ = counts.both * counts.neither - counts.only_first * counts.only_second
    corrected = max(product_ - n / 2, 0) if product_ > 0 else product_
    phi = corrected / np.sqrt(margins) if margins > 0 else 0.0
    below = (second.value - second.low) ** 2, (first.high - first.value) ** 2
    above = (second.high - second.value) ** 2, (first.value - first.low) ** 2
    low, high = (np.sqrt(max(0.0, a + b - 2 * phi * np.sqrt(a * b))) for a, b in (below, above))
    return value - low, value + high


def bootstrap(counts: PairedCounts) -> Bounds:
    """2.5 and 97.5 percent points of 1,000 multinomial draws from the four cells."""
    cells = np.array([counts.both, counts.only_first, counts.only_second, counts.neither])
    drawn = np.random.default_rng(0).multinomial(counts.n, cells / counts.n, size=1000)
    low, high = np.quantile((drawn[:, 2] - drawn[:, 1]) / counts.n, [0.025, 0.975])
    return float(low), float(high)


def tango(counts: PairedCounts) -> Bounds:
    """What cnnkit uses."""
    found = accuracy_difference(counts)
    return found.low, found.high


def settings() -> Iterator[tuple[int, float, float, float]]:
    """Yield n, the first model's accuracy, the disagreement and the difference."""
    for n, accuracy, alike, apart in product(SIZES, ACCURACIES, ALIKE, (0.0, 0.5)):
        disagreement = alike * 2 * accuracy * (1 - accuracy)
        yield n, accuracy, disagreement, -apart * disagreement  # the second is the worse: there is room below


def cells_of(accuracy: float, disagreement: float, difference: float) -> list[float]:
    """The chances of the four cells: both right, only the first, only the second, neither."""
    first, second = (disagreement - difference) / 2, (disagreement + difference) / 2
    return [accuracy - first, first, second, 1 - accuracy - second]


def coverage(method: Callable[[PairedCounts], Bounds], draws: int) -> list[tuple[int, float, float]]:
    """Return n, the share of intervals that hold the truth, and their mean width, for every setting."""
    remembered = cache(method)
    found = []
    for number, (n, accuracy, disagreement, difference) in enumerate(settings()):
        drawn = np.random.default_rng(number).multinomial(n, cells_of(accuracy, disagreement, difference), size=draws)
        bounds = np.array([remembered(PairedCounts(*map(int, row))) for row in drawn])
        held = (bounds[:, 0] <= difference + 1e-9) & (difference - 1e-9 <= bounds[:, 1])
        found.append((n, float(held.mean()), float((bounds[:, 1] - bounds[:, 0]).mean())))
    return found


def answers(random: np.random.Generator, n: int, classes: int, accuracies: tuple[float, float]) -> tuple[np.ndarray, ...]:
    """Draw true classes and the answers of two models that find the same images hard, (n,) each."""
    true, ease, other = random.integers(classes, size=n), random.random(n), random.integers(1, classes, size=n)
    said = [np.where(0.7 * ease + 0.3 * random.random(n) < _quantile(accuracy), true, (true + other) % classes) for accuracy in accuracies]
    return true, *said


@cache
def _quantile(share: float) -> float:
    random = np.random.default_rng(0)
    return float(np.quantile(0.7 * random.random(10**6) + 0.3 * random.random(10**6), share))


def row_coverage(n: int, classes: int, draws: int) -> tuple[float, float]:
    """Return how often the intervals of the differences in macro-F1 and in loss hold the truth."""
    accuracies = (0.85, 0.88)
    true, first, second = answers(np.random.default_rng(1), 10**6, classes, accuracies)
    truth = macro_f1(confusion_counts(true, second, classes)) - macro_f1(confusion_counts(true, first, classes))
    held_f1 = held_loss = 0
    for seed in range(draws):
        random = np.random.default_rng(seed)
        found = macro_f1_difference(*answers(random, n, classes, accuracies), classes)
        held_f1 += found.low <= truth <= found.high
        hard = random.exponential(size=n)  # shared by both; lognormal noise makes a few images dear
        losses = [hard * random.lognormal(0.0, 1.0, size=n) * scale for scale in (0.30, 0.25)]
        loss = loss_difference(*losses)
        held_loss += loss.low <= -0.05 * np.exp(0.5) <= loss.high
    return held_f1 / draws, held_loss / draws


def false_findings(draws: int) -> list[float]:
    """Return how often p < 0.05 where the two models are equally good, for every such setting."""
    test = cache(lambda first, second: mcnemar(PairedCounts(0, first, second, 0)))
    shares = []
    for number, (n, accuracy, disagreement, difference) in enumerate(settings()):
        if difference == 0:
            drawn = np.random.default_rng(number).multinomial(n, cells_of(accuracy, disagreement, 0.0), size=draws)
            shares.append(float(np.mean([test(int(row[1]), int(row[2])) < SIGNIFICANCE for row in drawn])))
    return shares


def powers(draws: int) -> Iterator[tuple[float, float, tuple[int, float], tuple[int, float]]]:
    """Yield difference, disagreement, and twice a number of images with how often the exact test then tells: Connor's, cnnkit's."""
    test = cache(lambda first, second: mcnemar(PairedCounts(0, first, second, 0)))

    def told(n: int, difference: float, disagreement: float) -> float:
        drawn = np.random.default_rng(0).multinomial(n, cells_of(0.6, disagreement, difference), size=draws)
        return float(np.mean([test(int(row[1]), int(row[2])) < SIGNIFICANCE for row in drawn]))

    for difference, disagreement in ((0.3, 0.4), (0.1, 0.2), (0.02, 0.1), (0.02, 0.03), (0.01, 0.05), (0.005, 0.02)):
        plain, exact = int(np.ceil(connor(difference, disagreement))), images_needed(difference, disagreement) or 0
        yield difference, disagreement, *((n, told(n, difference, disagreement)) for n in (plain, exact))


def against_statsmodels() -> float | None:
    """Return the largest relative difference between the exact p-values of the two on 2,000 tables; None without statsmodels."""
    try:
        from statsmodels.stats.contingency_tables import mcnemar as theirs
    except ImportError:
        return None
    random = np.random.default_rng(0)
    largest = 0.0
    for _ in range(2000):
        both, first, second, neither = (int(count) for count in random.integers(0, 10 ** random.integers(1, 5), size=4))
        expected = float(theirs([[both, first], [second, neither]], exact=True).pvalue)
        ours = mcnemar(PairedCounts(both, first, second, neither))
        largest = max(largest, abs(ours - expected) / max(expected, 1e-300))
    return largest


def main() -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("draws", type=int, nargs="?", default=2000, help="simulated test sets a setting")
    add_option(parser)
    given = parser.parse_args()
    draws, seeds, notes = given.draws, "set by the script", list[str]()
    rows: list[tuple[str, ...]] = []
    print(f"difference in accuracy: coverage of 95 % intervals, {draws:,} draws a setting, {len(list(settings()))} settings")
    for method in (wald, newcombe, bootstrap, tango):
        found = coverage(method, draws)
        for n in SIZES:
            held, widths = zip(*((share, width) for size, share, width in found if size == n), strict=True)
            spread = f"{100 * min(held):.1f} to {100 * max(held):.1f} %, mean {100 * np.mean(held):.1f} %"
            rows.append((method.__name__, f"{n:,}", spread, f"{100 * np.mean(widths):.2f} points"))
            print(f"  {method.__name__:10} n = {n:5,}: {spread}; mean width {rows[-1][-1]}")
    for n, classes in ((200, 3), (1000, 10), (2000, 50)):
        f1, loss = row_coverage(n, classes, max(1, draws // 4))
        covered = f"n = {n:,}, {classes} classes: coverage of macro-F1's difference {100 * f1:.1f} %, of the loss's {100 * loss:.1f} %"
        notes.append(f"{covered}.")
        print(covered)
    claim = f"Tango's interval, which cnnkit takes, covers a difference in accuracy of {rows[-1][1]} images in {rows[-1][2]}."
    columns = ("interval", "images", "coverage", "mean width")
    save(given.json, "Intervals of a difference in accuracy", claim, columns, rows, seeds=seeds, notes=notes, name="intervals")
    false = false_findings(draws)
    notes = [f"exact McNemar, equal models: p < 0.05 in {100 * min(false):.1f} to {100 * max(false):.1f} % of the draws"]
    print(notes[0])
    rows.clear()
    for difference, disagreement, (plain, power), (exact, reached) in powers(5 * draws):
        asked = f"Connor asks for {plain:,} images, told in {100 * power:.1f} %; cnnkit for {exact:,}, told in {100 * reached:.1f} %"
        print(f"difference {difference}, disagreement {disagreement}: {asked}")
        told = (f"{plain:,}", f"{100 * power:.1f} %", f"{exact:,}", f"{100 * reached:.1f} %")
        rows.append((f"{difference}, {disagreement}", *told))
    largest = against_statsmodels()
    notes.append(
        "statsmodels is not installed" if largest is None else f"p-values against statsmodels: largest relative difference {largest:.1e}"
    )
    print(notes[-1])
    claim = f"With as many images as cnnkit asks for, the exact test tells a true difference in at least {min(row[-1] for row in rows)}."
    columns = ("difference, disagreement", "Connor's number", "told", "with the correction (used)", "told")
    save(given.json, "Images needed to tell two models apart", claim, columns, rows, seeds=seeds, notes=notes, name="images-needed")
    return int(largest is not None and largest > 1e-9)  # noqa: PLR2004 (far below any digit that is shown)


if __name__ == "__main__":
    sys.exit(main())
