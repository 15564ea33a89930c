"""Shortcuts: features such as file size or border colours that reveal the class without the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.folds import FOLDS, folds_of
from cnnkit.doctor.wording import enumerated, percent, share
from cnnkit.metrics.intervals import CONFIDENCE
from cnnkit.metrics.proportion import wilson

Features = NDArray[np.float64]

MAX_IMAGES = 5000  # drawn equally from the classes: all features of 5,000 images of CIFAR-10 take 1 s of one core
MIN_SAMPLED_PER_CLASS = 20  # for any number of classes
MIN_CLASS_IMAGES = 10  # a smaller class is left out: fewer than two images per fold say nothing
NUM_TREES = 30
# Limits of strength (see `Shortcut`) of a finding: see docs/benchmarks/RESULTS.md, "Shortcuts". The properties of a file do not depend on
# its picture: natural data reach at most 0.13, planted shortcuts at least 0.78.
FILE_WARNING_STRENGTH = 0.4
# Backgrounds depend on the class (sky, water): natural data reach 0.70, a planted frame at least 0.92.
BORDER_NOTE_STRENGTH, BORDER_WARNING_STRENGTH = 0.6, 0.85
_STANDARD_ERRORS = 1.96  # of a 95 % interval
# The share of all images that a shortcut must concern to be a warning, as for copies. In many classes one differs in some way by nature.
MIN_CONCERNED_SHARE = 0.05
_ERROR_RATE = 0.05  # of a false alarm in all comparisons of a check together


@dataclass(frozen=True)
class FeatureFamily:
    """Features of one kind: `read` returns them as (n, D) for n rows; `note` and `warning` are limits of strength."""

    name: str
    read: Callable[[Evidence, Rows], Features]
    note: float
    warning: float


@dataclass(frozen=True)
class Shortcut:
    """Prediction of K classes from `family` alone, in cross-validation.

    `accuracy` is balanced, `margin` the half-width of its 95 % interval. `easiest` is the class that stands out most. `found` is the
    share of its images that are recognised, `mistaken` the share of other images that are predicted as this class. `strength` in
    [0, 1] is the lower end of the greater of two skills. The first skill is the balanced accuracy above 1 / K, as a share of 1 - 1 / K.
    The second is `found` - `mistaken` of the easiest class, since one differently saved class of ten leaves the first skill low.
    A skill counts as 0 if its lower end is not above 0 after a correction for the number of comparisons (Bonferroni): the greatest of
    200 noisy skills is large by chance.
    `concerned` is the share of all readable images in classes that stand out: every class if the first skill does.
    """

    family: FeatureFamily
    accuracy: float
    margin: float
    easiest: str
    found: float
    mistaken: float
    strength: float
    concerned: float


def shortcut(evidence: Evidence) -> Finding | None:
    """Find out if file size, image size, encoding or border colours alone reveal the class."""
    rows = sample(evidence)
    labels = np.unique(evidence.labels[rows], return_inverse=True)[1] if len(rows) else np.zeros(0, np.int64)
    if len(rows) == 0 or labels.max() == 0:
        return None
    results = [result for family in FAMILIES if (result := measure(evidence, rows, labels, family))]
    strong = [result for result in results if result.strength >= result.family.warning]
    wide = [result for result in results if result.strength >= result.family.note and result.concerned >= MIN_CONCERNED_SHARE]
    shown = strong or wide
    if not shown:
        return None
    grave = any(result.concerned >= MIN_CONCERNED_SHARE for result in strong)
    shown.sort(key=lambda result: -result.strength * result.concerned)
    clauses = enumerated([_clause(result) for result in shown])
    advice = (
        "A network may learn this and fail on images from other sources: save all classes in the same way, without frames or captions"
        if strong
        else "This is natural if the classes have different backgrounds; else crop or mix the backgrounds"
    )
    message = (
        f"The class can be predicted without the picture ({len(rows):,} images; a constant prediction reaches "
        f"{percent(1 / (labels.max() + 1))}): {clauses}. {advice}."
    )
    return Finding("shortcut", Severity.WARNING if grave else Severity.NOTE, (), message)


def sample(evidence: Evidence, seed: int = 0) -> Rows:
    """Return the rows of readable images of large enough classes, the classes equally large, and about `MAX_IMAGES` at most."""
    classes = [rows for label in range(len(evidence.classes)) if len(rows := _readable_of(evidence, label)) >= MIN_CLASS_IMAGES]
    if not classes:
        return np.zeros(0, np.intp)
    most = max(MIN_SAMPLED_PER_CLASS, MAX_IMAGES // len(classes))
    random = np.random.default_rng(seed)
    return np.sort(np.concatenate([random.permutation(rows)[:most] for rows in classes]))


def measure(evidence: Evidence, rows: Rows, labels: NDArray[Any], family: FeatureFamily) -> Shortcut | None:
    """Predict `labels` (n,), 0..K-1, of `rows` from one family of features; return None if the features are constant.

    A forest of extremely randomised trees with balanced class weights is as strong as gradient boosting and faster: see
    docs/benchmarks/LOG.md, "Model of shortcuts".
    """
    from sklearn.ensemble import ExtraTreesClassifier  # the import takes half a second

    features = family.read(evidence, rows)
    if (features == features[0]).all():
        return None
    folds = folds_of(labels, evidence.cluster_ids[rows])
    predicted = np.zeros(len(rows), np.int64)
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        if inside.any() and outside.any():
            forest: Any = ExtraTreesClassifier(NUM_TREES, min_samples_leaf=5, class_weight="balanced", random_state=0)
            predicted[outside] = forest.fit(features[inside], labels[inside]).predict(features[outside])
    return _score(evidence, rows, labels, predicted, family)


def _score(evidence: Evidence, rows: Rows, labels: NDArray[Any], predicted: NDArray[Any], family: FeatureFamily) -> Shortcut:
    sizes = np.bincount(labels)
    classes = len(sizes)
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    mistaken = np.bincount(predicted, minlength=classes) - hits
    recall = hits / sizes
    smoothed = (hits + 1) / (sizes + 2)  # a class without mistakes is not certain
    margin = _STANDARD_ERRORS * math.sqrt(float((smoothed * (1 - smoothed) / sizes).sum())) / classes
    widened = margin * NormalDist().inv_cdf(1 - _ERROR_RATE / (2 * len(FAMILIES))) / _STANDARD_ERRORS
    above = recall.mean() - 1 / classes
    skill = float(above - margin) / (1 - 1 / classes) if above > widened else 0.0
    certain = _lower_ends(hits, mistaken, sizes, 1 - _ERROR_RATE / (classes * len(FAMILIES))) > 0
    apart = np.where(certain, _lower_ends(hits, mistaken, sizes, CONFIDENCE), 0.0)
    best = int(apart.argmax())
    names = np.unique(evidence.labels[rows])
    in_class = np.bincount(evidence.labels[evidence.readable], minlength=len(evidence.classes))
    standing_out = names if skill >= family.note else names[apart >= family.note]
    return Shortcut(
        family=family,
        accuracy=float(recall.mean()),
        margin=margin,
        easiest=evidence.classes[int(names[best])],
        found=float(recall[best]),
        mistaken=float(mistaken[best] / (len(labels) - sizes[best])),
        strength=max(skill, float(apart[best])),
        concerned=float(in_class[standing_out].sum() / in_class.sum()),
    )


def _lower_ends(hits: NDArray[Any], mistaken: NDArray[Any], sizes: NDArray[Any], confidence: float) -> NDArray[np.float64]:
    """Return the lower end of `found` - `mistaken` of each class (K,), from its `hits` and `sizes` (K,)."""
    others = sizes.sum() - sizes
    ends = [
        wilson(int(hit), int(size), confidence).low - wilson(int(wrong), int(other), confidence).high
        for hit, size, wrong, other in zip(hits, sizes, mistaken, others, strict=True)
    ]
    return np.array(ends)


def _clause(result: Shortcut) -> str:
    return (
        f"{result.family.name} alone {100 * result.accuracy:.0f} ± {100 * result.margin:.0f} % "
        f"(recognises {percent(result.found)} of {result.easiest!r} and takes {percent(result.mistaken)} of other images for it; "
        f"it concerns {share(result.concerned, 1)} of all images)"
    )


def _readable_of(evidence: Evidence, label: int) -> Rows:
    return evidence.readable[evidence.labels[evidence.readable] == label]


def _file_size(evidence: Evidence, rows: Rows) -> Features:
    return np.log1p(evidence.of("bytes")[rows][:, None])


def _image_size(evidence: Evidence, rows: Rows) -> Features:
    sizes = np.column_stack([evidence.of("width")[rows], evidence.of("height")[rows]])
    return np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]])


def _encoding(evidence: Evidence, rows: Rows) -> Features:
    facts = list(evidence.facts.take(rows))
    kinds = [np.unique(values, return_inverse=True)[1] for values in ([item.format for item in facts], [item.mode for item in facts])]
    return np.column_stack([*kinds, [item.quality for item in facts], [item.orientation for item in facts]]).astype(np.float64)


def _border_colours(evidence: Evidence, rows: Rows) -> Features:
    """Return the histogram (n, 64) of the colours of the thumbnails' border pixels, 4 levels per channel, as shares."""
    border = np.ones(evidence.thumbnails.shape[1:3], bool)
    border[1:-1, 1:-1] = False
    levels = (evidence.thumbnails[rows][:, border] // 64).astype(np.int64)
    colours = levels @ np.array([16, 4, 1])
    bins = colours + 64 * np.arange(len(rows))[:, None]
    return np.bincount(bins.ravel(), minlength=64 * len(rows)).reshape(len(rows), 64) / border.sum()


FAMILIES = (
    FeatureFamily("file size", _file_size, FILE_WARNING_STRENGTH, FILE_WARNING_STRENGTH),
    FeatureFamily("image size", _image_size, FILE_WARNING_STRENGTH, FILE_WARNING_STRENGTH),
    FeatureFamily("format, JPEG quality and colour mode", _encoding, FILE_WARNING_STRENGTH, FILE_WARNING_STRENGTH),
    FeatureFamily("border colours", _border_colours, BORDER_NOTE_STRENGTH, BORDER_WARNING_STRENGTH),
)
