"""Abstention, label sets, out-of-distribution images and drift on a finished run.

    apt-get install dataset-fashion-mnist
    python docs/benchmarks/uncertain.py RUN --ood /usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz

Reads the run's val and test images from where its config.json says they are and changes nothing in it. The rules are found as ``cnnkit
eval`` finds them; the other kinds of label sets stand here only, for comparison. `--ood` takes an idx file of gray images (N, H, W).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from document import Table, add_option, save
from scipy.ndimage import gaussian_filter
from scipy.special import logsumexp

from cnnkit.api.inference.drift import take_fingerprint
from cnnkit.data.appearance import appearance
from cnnkit.data.image import read_image
from cnnkit.exporters.opening import open_classifier
from cnnkit.metrics.abstention import Abstention, find_threshold, operating_point
from cnnkit.metrics.conformal import fit_label_sets, label_set_outcome
from cnnkit.metrics.drift import Fingerprint, compare
from cnnkit.metrics.ood import auroc, ood_report
from cnnkit.model.torch_classifier import TorchClassifier

SPLITS = 100
SEEDS = "set by the script"
Array = np.ndarray


@dataclass
class Answers:
    """What a model made of images: canvases (N, C, S, S), labels (N,) and logits (N, K) over its temperature."""

    canvases: Array
    labels: Array
    logits: Array

    @property
    def probabilities(self) -> Array:
        """(N, K), float32."""
        return np.exp(self.logits - logsumexp(self.logits, axis=1, keepdims=True)).astype(np.float32)


def answers(classifier: TorchClassifier, images: Iterator[Array], labels: Array) -> Answers:
    """Ask the model, 256 images at a time."""
    canvases, logits = [], []
    for part in batches(images):
        canvases.append(classifier.canvases(part))
        with torch.inference_mode():
            normalised = classifier._normalise(canvases[-1])  # noqa: SLF001 (the logits have no public way)
            logits.append(classifier.model.module(normalised) / classifier.model.header.temperature)
    return Answers(torch.cat(canvases).numpy(), labels, torch.cat(logits).double().numpy())


def batches(images: Iterator[Array]) -> Iterator[list[Array]]:
    """Yield lists of 256."""
    part: list[Array] = []
    for image in images:
        part.append(image)
        if len(part) == 256:  # noqa: PLR2004
            yield part
            part = []
    if part:
        yield part


def abstention(val: Answers, test: Answers, path: Path | None) -> None:
    """Print the rules found on val, what they do on test, and how often the promise holds over random splits of test."""
    top, wrong = val.probabilities.max(1), val.probabilities.argmax(1) != val.labels
    seen, missed = test.probabilities.max(1), test.probabilities.argmax(1) != test.labels
    rng = np.random.default_rng(0)
    columns = ("asked risk", "threshold from val", "val with a prediction", "test with a prediction", "test risk")
    table = Table(*columns, "held in half of test", "held in all of test")
    for risk in (0.01, 0.02, 0.05):
        rule = find_threshold(top, wrong, risk, split="val")
        if not isinstance(rule, Abstention):
            table.add(f"{risk:.0%}", f"none: {rule.needed} images would show it", *[""] * 5)
            continue
        here = operating_point(seen, missed, rule.threshold)
        halves, draws = [], []
        for _ in range(SPLITS):
            order = rng.permutation(len(seen))
            half, rest = order[: len(seen) // 2], order[len(seen) // 2 :]
            halves.append(holds(seen[half], missed[half], seen[rest], missed[rest], risk))
            drawn = rng.integers(len(seen), size=len(seen) // 2)
            draws.append(holds(seen[drawn], missed[drawn], seen, missed, risk))
        reached = f"{here.risk.value:.2%} ({here.risk.low:.2%} to {here.risk.high:.2%})"
        held = f"{sum(halves)} of {SPLITS}", f"{sum(draws)} of {SPLITS}"
        table.add(f"{risk:.0%}", f"{rule.threshold:.3f}", f"{rule.coverage:.1%}", f"{here.coverage:.1%}", reached, *held)
    claim = "The table has the risk of the threshold found on val, and the number of halves and draws of test in which its promise holds."
    save(path, "Abstention", claim, table.columns, table.rows, seeds=SEEDS, name="abstention")


def holds(top: Array, wrong: Array, other: Array, missed: Array, risk: float) -> bool:
    """Whether the threshold found on the first images keeps the risk on the others; finding none promises nothing."""
    rule = find_threshold(top, wrong, risk, split="half")
    if not isinstance(rule, Abstention):
        return True
    here = operating_point(other, missed, rule.threshold)
    return here.errors <= risk * here.accepted


def label_sets(val: Answers, test: Answers, path: Path | None) -> None:
    """Print coverage and size of four kinds of label sets, fitted on val; the last column is the least sure fifth of test."""
    table = Table("coverage", "sets", "in the set", "mean size", "empty", "worst class", "least sure fifth")
    rng = np.random.default_rng(0)
    own, others = rng.random(len(val.labels)), rng.random(len(test.labels))
    for coverage in (0.9, 0.95, 0.99):
        rule = fit_label_sets(val.labels, val.probabilities, coverage, split="val")
        table.add(f"{coverage:.0%}", "LAC (cnnkit)", *described(rule.members(test.probabilities), test))
        for name, first, penalty, random in (("APS", 0, 0.0, False), ("APS, randomised", 0, 0.0, True), ("RAPS, randomised", 1, 0.1, True)):
            scores = cumulated(val.probabilities, first, penalty, own if random else None)[np.arange(len(own)), val.labels]
            limit = np.sort(scores)[int(np.ceil(coverage * (len(own) + 1))) - 1]
            inside = cumulated(test.probabilities, first, penalty, others if random else None) <= limit
            table.add(f"{coverage:.0%}", name, *described(inside, test))
    hits, size = [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(test.labels))
        half, rest = order[: len(order) // 2], order[len(order) // 2 :]
        rule = fit_label_sets(test.labels[half], test.probabilities[half], 0.95, split="half")
        outcome = label_set_outcome(test.labels[rest], test.probabilities[rest], rule)
        hits.append(outcome.coverage.value)
        size.append(outcome.mean_size)
    halves = f"95 % sets over {SPLITS} random halves of test: coverage {np.mean(hits):.2%} ± {np.std(hits):.2%}, size {np.mean(size):.2f}"
    print(f"{halves}\n")
    claim = "The table has the coverage and the size of four kinds of label sets whose thresholds are from val."
    save(path, "Label sets", claim, table.columns, table.rows, seeds=SEEDS, notes=[f"{halves}."], name="label-sets")


def cumulated(probabilities: Array, first: int, penalty: float, random: Array | None) -> Array:
    """The score of every class in APS and RAPS (arXiv:2009.14193): the mass of the classes up to it, and a penalty from rank `first` on."""
    order = np.argsort(-probabilities, axis=1)
    ordered = np.take_along_axis(probabilities, order, 1).astype(np.float64)
    mass = np.cumsum(ordered, 1) + penalty * np.maximum(0, np.arange(1, ordered.shape[1] + 1) - first)
    if random is not None:
        mass -= random[:, None] * ordered
    scores = np.empty_like(mass)
    np.put_along_axis(scores, order, mass, 1)
    return scores


def described(inside: Array, test: Answers) -> tuple[str, ...]:
    """Return coverage, mean size, share of empty sets, coverage of the worst class and of the least sure fifth."""
    hit, sizes = inside[np.arange(len(inside)), test.labels], inside.sum(1)
    worst = min(hit[test.labels == label].mean() for label in np.unique(test.labels))
    least = np.argsort(test.probabilities.max(1))[: len(hit) // 5]
    return f"{hit.mean():.1%}", f"{sizes.mean():.2f}", f"{(sizes == 0).mean():.1%}", f"{worst:.1%}", f"{hit[least].mean():.1%}"


def out_of_distribution(val: Answers, test: Answers, others: Answers, path: Path | None) -> None:
    """Print the share of out-of-distribution images that get a prediction, and the area under the curve of three scores."""
    rows: list[tuple[str, ...]] = []
    top, wrong = val.probabilities.max(1), val.probabilities.argmax(1) != val.labels
    own, strange = test.probabilities.max(1), others.probabilities.max(1)
    for risk in (0.01, 0.02, 0.05, None):
        rule = find_threshold(top, wrong, risk, split="val") if risk else None
        report = ood_report(own, strange, rule.threshold if isinstance(rule, Abstention) else None)
        name = f"threshold for {risk:.0%} risk" if risk else "threshold with a prediction for 95 % of test"
        refused = (1 - value for value in (report.accepted.value, report.accepted.high, report.accepted.low))
        rows.append((name, "{:.1%} ({:.1%} to {:.1%})".format(*refused)))
        print(
            f"{name}: a prediction for {report.accepted.value:.1%} ({report.accepted.low:.1%} to {report.accepted.high:.1%}) of {report.n}"
        )
    claim = f"The {rows[1][0]} refuses {rows[1][1]} of the out-of-distribution images."
    save(path, "Out-of-distribution images refused", claim, ("threshold", "refused"), rows, seeds=SEEDS, name="refusals")
    rows.clear()
    scores: dict[str, Callable[[Array], Array]] = {
        "top probability": lambda logits: np.exp(logits.max(1) - logsumexp(logits, axis=1)),
        "largest logit": lambda logits: logits.max(1),
        "energy": lambda logits: logsumexp(logits, axis=1),
    }
    for name, score in scores.items():
        area = auroc(score(test.logits), score(others.logits))
        rows.append((name, f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"))
        print(f"AUROC of the {name}: {rows[-1][1]}")
    claim = f"The top probability tells out-of-distribution images apart with an AUROC of {rows[0][1]}."
    save(path, "Scores of out-of-distribution images", claim, ("score", "AUROC"), rows, seeds=SEEDS, name="auroc")
    print()


def drift(val: Answers, test: Answers, others: Answers | None, path: Path | None) -> None:
    """Print the share of batches of test that alert: unchanged, of one class alone, and changed."""
    known = take_fingerprint(appearance(val.canvases), val.probabilities, split="val")
    rng, notes = np.random.default_rng(0), list[str]()
    predicted, looks = test.probabilities.argmax(1), features(test.canvases, test.probabilities)
    for size in (30, 100, 1000):
        alerts = [compare(known, looks[rows], predicted[rows]).has_alert for rows in (rng.choice(len(looks), size) for _ in range(1000))]
        notes.append(f"{size} test images: {sum(alerts)} of 1000 batches alert")
        print(notes[-1])
    alerts = []
    for label in np.unique(test.labels):
        members = np.flatnonzero(test.labels == label)
        alerts += [compare(known, looks[rows], predicted[rows]).has_alert for rows in (rng.choice(members, 100) for _ in range(100))]
    notes.append(f"100 test images of one class: {sum(alerts)} of {len(alerts)} batches alert")
    print(notes[-1])
    some = rng.choice(len(looks), min(1000, len(looks)), replace=False)
    pixels = test.canvases[some].astype(np.float64)
    gray = (pixels * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True).repeat(3, axis=1)
    changed = {
        "blurred (sigma 0.5 px)": gaussian_filter(pixels, (0, 0, 0.5, 0.5)),
        "blurred (sigma 1 px)": gaussian_filter(pixels, (0, 0, 1, 1)),
        "darkened to 80 %": 0.8 * pixels,
        "darkened to 50 %": 0.5 * pixels,
        "gray": gray,
        "red and blue swapped": pixels[:, ::-1],
        "noise (10 levels)": pixels + rng.normal(0, 10, pixels.shape),
    }
    table = Table("30 test images", "batches with an alert", "most distant feature of 1,000")
    for name, images in changed.items():
        canvases = images.round().clip(0, 255).astype(np.uint8)
        table.add(name, *alerted(known, features(canvases, test.probabilities[some]), predicted[some], rng))
    if others is not None:
        others_look = features(others.canvases, others.probabilities)
        table.add("out-of-distribution", *alerted(known, others_look, others.probabilities.argmax(1), rng))
    claim = "The table has the share of batches of 30 changed test images that give an alert."
    save(path, "Drift alerts", claim, table.columns, table.rows, seeds=SEEDS, notes=notes, name="drift")


def alerted(known: Fingerprint, looks: Array, predicted: Array, rng: np.random.Generator) -> tuple[str, str]:
    """Return the share of alerts and the most distant feature.

    `predicted` is of the unchanged images, so that the model's confidence does not help.
    """
    parts = (rng.choice(len(looks), 30) for _ in range(200))
    alerts = [compare(known, looks[rows], predicted[rows]).has_alert for rows in parts]
    worst = compare(known, looks, predicted).shifts[0]
    return f"{np.mean(alerts):.0%}", f"{worst.feature} {worst.distance:.2f}"


def features(canvases: Array, probabilities: Array) -> Array:
    """What the fingerprint is made of: (N, F)."""
    return np.concatenate([appearance(canvases), probabilities.max(1, keepdims=True)], axis=1)


def read_split(run: Path, split: str, classes: tuple[str, ...]) -> tuple[Iterator[Array], Array]:
    """The images and labels of one split of a run on class folders."""
    root = Path(json.loads((run / "config.json").read_text("utf-8"))["data"]["location"])
    with (run / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return (read_image(root / row["path"]) for row in rows), np.array([classes.index(row["label"]) for row in rows])


def read_idx(path: Path) -> Array:
    """Gray images (N, H, W) of an idx file, gzipped or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = np.frombuffer(raw, ">i4", count=3, offset=4)
    return np.frombuffer(raw, np.uint8, offset=16).reshape(shape)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--ood", type=Path, help="idx file of gray out-of-distribution images")
    add_option(parser)
    given = parser.parse_args()
    classifier = open_classifier(given.run / "best.safetensors")
    assert isinstance(classifier, TorchClassifier)  # noqa: S101 (a model file was opened)
    val, test = (answers(classifier, *read_split(given.run, split, classifier.classes)) for split in ("val", "test"))
    accuracy, temperature = (test.probabilities.argmax(1) == test.labels).mean(), classifier.model.header.temperature
    print(f"val {len(val.labels)}, test {len(test.labels)} images, accuracy {accuracy:.1%}, temperature {temperature:.3f}")
    abstention(val, test, given.json)
    label_sets(val, test, given.json)
    others = None
    if given.ood:
        images = read_idx(given.ood)
        others = answers(classifier, (np.repeat(image[..., None], 3, axis=2) for image in images), np.zeros(len(images), np.int64))
        out_of_distribution(val, test, others, given.json)
    drift(val, test, others, given.json)


if __name__ == "__main__":
    main()
