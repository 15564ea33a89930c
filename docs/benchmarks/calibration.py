"""Calibration error and temperature beside independent implementations, and the effect of the temperature on a run.

    python docs/benchmarks/calibration.py [RUN]

The same simulated answers (logits times a factor, labels drawn from the softmax of the logits themselves, so that the factor is
the true temperature) are given to cnnkit, to torch's LBFGS on the loss and to torchmetrics (``MulticlassCalibrationError``: bins of
equal width; once more with bins of equal numbers, by their edges; left out without it: ``pip install torchmetrics``). Prints the
largest differences.

With RUN, a run directory whose data is where it was, test is evaluated and the line of ``cnnkit eval`` printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
from document import add_option, save
from numpy.typing import NDArray
from torch.nn import functional

from cnnkit.metrics.calibration import BINS, calibration_error, expected_calibration_error, fit_temperature
from cnnkit.metrics.temperature import log_losses, softmax

CASES = [(n, classes, factor) for n in (500, 5000) for classes in (2, 10, 100) for factor in (0.5, 1.0, 1.5, 3.0)]

Answers = tuple[NDArray[np.int64], NDArray[np.float64]]


def drawn(n: int, classes: int, factor: float) -> Answers:
    """Return labels (n,) and logits (n, K) whose true temperature is `factor`."""
    random = np.random.default_rng((n, classes, round(10 * factor)))
    logits = random.normal(0, 3, (n, classes))
    labels = (softmax(logits).cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=classes - 1)
    return labels, factor * logits


def by_lbfgs(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> float:
    """Minimise torch's cross-entropy over log T: what the code published with arXiv:1706.04599 does, run to the end."""
    scores, true = torch.from_numpy(logits), torch.from_numpy(labels)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_temperature], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(scores / log_temperature.exp(), true)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_temperature.detach().exp())


def equal_width(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Torchmetrics' error: 15 bins of equal width."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    found = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), probabilities.shape[1], n_bins=BINS, norm="l1"
    )
    return float(found)


def equal_mass(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Torchmetrics' arithmetic on bins of equal numbers: its own function takes any edges."""
    from torchmetrics.functional.classification.calibration_error import _ce_compute

    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    ordered = np.sort(confidence)
    inner = ordered[len(ordered) * np.arange(1, BINS) // BINS]
    edges = np.concatenate([[0.0], np.nextafter(inner, 0), [1.0]])  # its bins hold their upper edge
    return float(_ce_compute(torch.from_numpy(confidence), torch.from_numpy(right.astype(float)), torch.from_numpy(edges), norm="l1"))


def compared(name: str, ours: Callable[..., float], theirs: Callable[..., float], *, probabilities: bool) -> tuple[str, ...]:
    """Print the largest difference over all cases and the seconds that each took, and return them."""
    differences, seconds = [], [0.0, 0.0]
    for case in CASES:
        labels, logits = drawn(*case)
        given = softmax(logits) if probabilities else logits
        found = []
        for index, work in enumerate((ours, theirs)):
            started = time.perf_counter()
            found.append(work(labels, given))
            seconds[index] += time.perf_counter() - started
        differences.append(abs(found[0] - found[1]))
    worst = int(np.argmax(differences))
    print(f"{name}: largest difference {differences[worst]:.2g} (n, K, T = {CASES[worst]}), {seconds[0]:.2f} s and {seconds[1]:.2f} s")
    return name, f"{differences[worst]:.2g}", f"{seconds[0]:.2f}", f"{seconds[1]:.2f}"


def evaluated(run: str) -> None:
    """Print what the temperature does on test."""
    from cnnkit.api.evaluation.evaluate import evaluate
    from cnnkit.report.terminal.calibration import calibration_line, effect_line

    found = evaluate(run).effect
    if found is not None:
        print(calibration_line(found.temperature, found.fitted))
        print(f"test: {effect_line(found)}")


def main() -> None:
    """Run the comparisons whose packages are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    add_option(parser)
    given = parser.parse_args()

    def temperature(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> float:
        return fit_temperature(logits, labels)

    rows = [compared("temperature, torch LBFGS", temperature, by_lbfgs, probabilities=False)]
    if importlib.util.find_spec("torchmetrics"):
        ways = {"with equal-mass bins": equal_mass, "as it is (equal width)": equal_width}
        rows += [compared(f"ECE, torchmetrics {way}", expected_calibration_error, work, probabilities=True) for way, work in ways.items()]
    claim = f"cnnkit's temperature agrees with torch's LBFGS to {rows[0][1]}."
    columns = ("figure and implementation", "largest difference", "cnnkit, s", "other, s")
    save(given.json, "Calibration beside independent implementations", claim, columns, rows, seeds="set by the script")
    labels, logits = drawn(10_000, 10, 1.5)
    started = time.perf_counter()
    found = calibration_error(labels, softmax(logits))
    print(f"ECE of 10,000 images with its interval: {found}, {time.perf_counter() - started:.2f} s")
    print(f"loss {log_losses(logits, labels).mean():.4f}, at temperature 1.5 {log_losses(logits, labels, 1.5).mean():.4f}")
    if given.run:
        evaluated(given.run)


if __name__ == "__main__":
    main()
