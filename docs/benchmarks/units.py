"""Coverage of the intervals, and false alarms of the paired test, on images that come in units.

    python docs/benchmarks/units.py [--draws 4000]

Draws test sets of units of 1 to 6 images. Each unit has an own probability that an image is predicted right, from a beta distribution
whose correlation within a unit is stated. An interval must hold the true accuracy in 95 % of the draws. The intervals of independent
images stand beside it. For the paired test two models of one accuracy are drawn, and the p-value must be below 0.05 in at most 5 %.
"""

from __future__ import annotations

import argparse

import numpy as np
from document import add_option, save
from numpy.typing import NDArray

from cnnkit.metrics.paired import mcnemar, paired_counts, paired_test
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.units import Units, proportion

ACCURACIES = (0.7, 0.95)
CORRELATIONS = (0.0, 0.1, 0.3, 0.6, 0.9)
UNITS = (20, 50, 200)
LARGEST = 6  # images of a unit


def right_of(index: NDArray[np.int64], count: int, accuracy: float, correlation: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return whether each image is predicted right, (N,), for images of units `index` (N,)."""
    if not correlation:
        return rng.random(len(index)) < accuracy
    weight = (1 - correlation) / correlation
    return rng.random(len(index)) < rng.beta(accuracy * weight, (1 - accuracy) * weight, count)[index]


def coverage(count: int, accuracy: float, correlation: float, draws: int) -> tuple[float, float]:
    """Return the share of draws in which the interval of units, and that of images, holds the accuracy."""
    rng = np.random.default_rng([count, round(100 * accuracy), round(100 * correlation)])
    held = np.zeros((draws, 2), bool)
    for draw in range(draws):
        index = np.repeat(np.arange(count), rng.integers(1, LARGEST + 1, count))
        right = right_of(index, count, accuracy, correlation, rng)
        for kind, found in enumerate((proportion(right, Units(index, count)), wilson(int(right.sum()), len(right)))):
            held[draw, kind] = found.low <= accuracy <= found.high
    by_units, by_images = held.mean(axis=0)
    return float(by_units), float(by_images)


def false_alarms(count: int, accuracy: float, correlation: float, draws: int) -> tuple[float, float]:
    """Return the share of draws in which two models of one accuracy differ significantly, by units and by images."""
    rng = np.random.default_rng([count, round(100 * accuracy), round(100 * correlation), 1])
    alarms = np.zeros((draws, 2), bool)
    for draw in range(draws):
        index = np.repeat(np.arange(count), rng.integers(1, LARGEST + 1, count))
        first, second = (right_of(index, count, accuracy, correlation, rng) for _ in range(2))
        alarms[draw] = paired_test(first, second, Units(index, count)).p < 0.05, mcnemar(paired_counts(first, second)) < 0.05  # noqa: PLR2004
    by_units, by_images = alarms.mean(axis=0)
    return float(by_units), float(by_images)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=4000)
    add_option(parser)
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    for count in UNITS:
        for accuracy in ACCURACIES:
            for correlation in CORRELATIONS:
                held, plain = coverage(count, accuracy, correlation, given.draws)
                alarm, plain_alarm = false_alarms(count, accuracy, correlation, given.draws // 4)
                shares = [f"{100 * share:.1f}" for share in (held, plain, alarm, plain_alarm)]
                rows.append((str(count), f"{accuracy:g}", f"{correlation:g}", *shares))
                print("  ".join(rows[-1]), flush=True)
    held_at_50 = [float(row[3]) for row in rows if row[0] == "50"]
    claim = f"The interval of an accuracy on 50 units of 1 to 6 images holds it in {min(held_at_50):g} to {max(held_at_50):g} % of draws."
    columns = ("units", "accuracy", "correlation", "held, %", "held by images, %", "false alarms, %", "false alarms by images, %")
    notes = ["The columns 'by images' count every image as independent.", "Coverage should be 95 %, false alarms at most 5 %."]
    save(given.json, "Intervals on units", claim, columns, rows, seeds="one per row", notes=notes)


if __name__ == "__main__":
    main()
