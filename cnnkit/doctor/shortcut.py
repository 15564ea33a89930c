"""Can the class be told without looking at the picture? Then a network may learn that instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.folds import FOLDS, folds_of
from cnnkit.doctor.wording import enumerated, percent
from cnnkit.metrics.intervals import wilson

Features = NDArray[np.float64]

MAX_IMAGES = 5000  # drawn equally from the classes: all of CIFAR-10's features take 1 s of one core
MIN_SAMPLED_PER_CLASS = 20  # and of each class, however many there are
MIN_CLASS_IMAGES = 10  # a class of fewer images is left out: two per fold say nothing
NUM_TREES = 30
# Strength (see `Shortcut`) from which a family is reported: see docs/benchmarks/RESULTS.md, "Shortcuts". What a file is like has
# nothing to do with what it shows: natural data stay at 0.13 at most, planted shortcuts reach 0.78 and more.
FILE_WARNING_STRENGTH = 0.4
# Backgrounds do have to do with it (sky, water): natural data reach 0.70, a planted frame 0.92 and more.
BORDER_NOTE_STRENGTH, BORDER_WARNING_STRENGTH = 0.6, 0.85
_STANDARD_ERRORS = 1.96  # standard errors: 95 %


@dataclass(frozen=True)
class FeatureFamily:
    """Features that belong together: `read` gives them as (n, D) for n rows; `note` and `warning` are limits of strength."""

    name: str
    read: Callable[[Evidence, Rows], Features]
    note: float
    warning: float


@dataclass(frozen=True)
class Shortcut:
    """How well `family` alone tells K classes apart in cross-validation.

    `accuracy` is balanced, `margin` the half-width of its 95 % interval. `easiest` is the class that stands out most:
    `found` is the share of its images that are recognised, `mistaken` the share of the others that are taken for it.
    `strength` in [0, 1] is the lower end of the greater of two skills: the balanced accuracy above chance, as a share of what
    is possible, and `found` - `mistaken` of the easiest class (one class in ten that is saved differently leaves the former low).
    """

    family: FeatureFamily
    accuracy: float
    margin: float
    easiest: str
    found: float
    mistaken: float
    strength: float


def shortcut(evidence: Evidence) -> Finding | None:
    """Look whether file size, image size, encoding or border colours alone give the class away."""
    rows = sample(evidence)
    labels = np.unique(evidence.labels[rows], return_inverse=True)[1] if len(rows) else np.zeros(0, np.int64)
    if len(rows) == 0 or labels.max() == 0:
        return None
    results = [result for family in FAMILIES if (result := measure(evidence, rows, labels, family))]
    grave = [result for result in results if result.strength >= result.family.warning]
    shown = grave or [result for result in results if result.strength >= result.family.note]
    if not shown:
        return None
    shown.sort(key=lambda result: -result.strength)
    clauses = enumerated([_clause(result) for result in shown])
    advice = (
        "A network may learn this and fail on images from elsewhere: save all classes in the same way, without frames or captions"
        if grave
        else "Natural if the classes are seen before different backgrounds; else crop or mix the backgrounds"
    )
    message = (
        f"The class can be told without the picture (chance {percent(1 / (labels.max() + 1))}, {len(rows):,} images): {clauses}. {advice}."
    )
    return Finding("shortcut", Severity.WARNING if grave else Severity.NOTE, (), message)


def sample(evidence: Evidence, seed: int = 0) -> Rows:
    """Return the rows to measure on: readable, of classes that are large enough, and not many more than `MAX_IMAGES`."""
    classes = [rows for label in range(len(evidence.classes)) if len(rows := _readable_of(evidence, label)) >= MIN_CLASS_IMAGES]
    if not classes:
        return np.zeros(0, np.intp)
    most = max(MIN_SAMPLED_PER_CLASS, MAX_IMAGES // len(classes))
    random = np.random.default_rng(seed)
    return np.sort(np.concatenate([random.permutation(rows)[:most] for rows in classes]))


def measure(evidence: Evidence, rows: Rows, labels: NDArray[Any], family: FeatureFamily) -> Shortcut | None:
    """Predict `labels` (n,), 0..K-1, of `rows` from one family of features; None if they are the same for all.

    A forest of extremely randomised trees, each class weighing the same: as strong as gradient boosting and faster, see
    docs/benchmarks/LOG.md, "Model of shortcuts".
    """
    from sklearn.ensemble import ExtraTreesClassifier  # half a second

    features = family.read(evidence, rows)
    if (features == features[0]).all():
        return None
    part = folds_of(labels, evidence.cluster_ids[rows])
    answers = np.zeros(len(rows), np.int64)
    for fold in range(FOLDS):
        inside, outside = part != fold, part == fold
        if inside.any() and outside.any():
            forest: Any = ExtraTreesClassifier(NUM_TREES, min_samples_leaf=5, class_weight="balanced", random_state=0)
            answers[outside] = forest.fit(features[inside], labels[inside]).predict(features[outside])
    return _judged(evidence, rows, labels, answers, family)


def _judged(evidence: Evidence, rows: Rows, labels: NDArray[Any], answers: NDArray[Any], family: FeatureFamily) -> Shortcut:
    sizes = np.bincount(labels)
    classes = len(sizes)
    hits = np.bincount(labels[answers == labels], minlength=classes)
    mistaken = np.bincount(answers, minlength=classes) - hits
    recall = hits / sizes
    smoothed = (hits + 1) / (sizes + 2)  # so that a class without a mistake is not thought certain
    margin = _STANDARD_ERRORS * math.sqrt(float((smoothed * (1 - smoothed) / sizes).sum())) / classes
    skill = (recall.mean() - margin - 1 / classes) / (1 - 1 / classes)
    apart = [
        wilson(int(hit), int(size)).low - wilson(int(wrong), len(labels) - int(size)).high
        for hit, wrong, size in zip(hits, mistaken, sizes, strict=True)
    ]
    best = int(np.argmax(apart))
    names = np.unique(evidence.labels[rows])
    return Shortcut(
        family=family,
        accuracy=float(recall.mean()),
        margin=margin,
        easiest=evidence.classes[int(names[best])],
        found=float(recall[best]),
        mistaken=float(mistaken[best] / (len(labels) - sizes[best])),
        strength=max(0.0, float(skill), apart[best]),
    )


def _clause(result: Shortcut) -> str:
    return (
        f"{result.family.name} alone {100 * result.accuracy:.0f} ± {100 * result.margin:.0f} % "
        f"(finds {percent(result.found)} of {result.easiest!r} and takes {percent(result.mistaken)} of the others for it)"
    )


def _readable_of(evidence: Evidence, label: int) -> Rows:
    return evidence.readable[evidence.labels[evidence.readable] == label]


def _file_size(evidence: Evidence, rows: Rows) -> Features:
    return np.log1p(np.array([[evidence.facts[row].bytes] for row in rows], np.float64))


def _image_size(evidence: Evidence, rows: Rows) -> Features:
    sizes = np.array([(evidence.facts[row].width, evidence.facts[row].height) for row in rows], np.float64)
    return np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]])


def _encoding(evidence: Evidence, rows: Rows) -> Features:
    facts = [evidence.facts[row] for row in rows]
    kinds = [np.unique(values, return_inverse=True)[1] for values in ([item.format for item in facts], [item.mode for item in facts])]
    return np.column_stack([*kinds, [item.quality for item in facts], [item.orientation for item in facts]]).astype(np.float64)


def _border_colours(evidence: Evidence, rows: Rows) -> Features:
    """The colours of the thumbnails' outermost ring as a histogram of 4 levels per channel: (n, 64), shares that sum to 1."""
    ring = np.ones(evidence.thumbnails.shape[1:3], bool)
    ring[1:-1, 1:-1] = False
    levels = (evidence.thumbnails[rows][:, ring] // 64).astype(np.int64)
    colours = levels @ np.array([16, 4, 1])
    places = colours + 64 * np.arange(len(rows))[:, None]
    return np.bincount(places.ravel(), minlength=64 * len(rows)).reshape(len(rows), 64) / ring.sum()


FAMILIES = (
    FeatureFamily("file size", _file_size, FILE_WARNING_STRENGTH, FILE_WARNING_STRENGTH),
    FeatureFamily("image size", _image_size, FILE_WARNING_STRENGTH, FILE_WARNING_STRENGTH),
    FeatureFamily("format, JPEG quality and colour mode", _encoding, FILE_WARNING_STRENGTH, FILE_WARNING_STRENGTH),
    FeatureFamily("border colours", _border_colours, BORDER_NOTE_STRENGTH, BORDER_WARNING_STRENGTH),
)
