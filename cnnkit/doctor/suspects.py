"""Suspicious labels: contradictions between labels and out-of-fold probabilities, by confident learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.folds import FOLDS, folds_of
from cnnkit.doctor.wording import enumerated, share
from cnnkit.errors import counted
from cnnkit.metrics.label_quality import label_issues

_MIN_SPREAD = 1e-6  # lower limit of a feature's standard deviation, against a division by zero
WARNING_SUSPECT_SHARE = 0.01  # of suspects among all images; below it the model itself may be wrong


def suspects(
    paths: Sequence[str], labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]], classes: Sequence[str]
) -> Finding | None:
    """Find images whose label contradicts `probabilities` (N, K) of a model that was trained without them.

    `labels` (N,) index `classes` (K,). The most certain cases come first.
    """
    rows = label_issues(labels, probabilities)
    if not len(rows):
        return None
    seen = probabilities[rows].argmax(axis=1)
    pairs = Counter(f"{classes[int(labels[row])]!r} that looks like {classes[int(other)]!r}" for row, other in zip(rows, seen, strict=True))
    listed = enumerated([f"{pair} ({count:,})" for pair, count in pairs.most_common()])
    message = (
        f"{counted(len(rows))} ({share(len(rows), len(labels))}) with a label that looks wrong: {listed}. "
        f"Training keeps them; look at them, the most certain first (--sheet FILE.png), and move images with a wrong label."
    )
    severity = Severity.WARNING if len(rows) > WARNING_SUSPECT_SHARE * len(labels) else Severity.NOTE
    return Finding("label-suspect", severity, tuple((paths[int(row)],) for row in rows), message)


def out_of_fold(
    features: NDArray[np.floating[Any]], labels: NDArray[np.int64], cluster_ids: NDArray[Any], seed: int = 0
) -> NDArray[np.float64]:
    """Return probabilities (N, K) for N images, each from a model that was fitted without the image and its cluster.

    `features` (N, D) are the features of a trained network, `labels` (N,) are 0..K-1, `cluster_ids` (N,) mark images that are not
    independent. The model is a linear discriminant with one covariance for all classes, since a model that fits every image also fits
    wrong labels: see docs/benchmarks/LOG.md, "Model of label suspects".
    """
    folds = folds_of(labels, cluster_ids, seed)
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        if inside.any() and outside.any():
            probabilities[outside] = _discriminant(features[inside], labels[inside], features[outside], probabilities.shape[1])
    return probabilities


def _discriminant(
    features: NDArray[np.floating[Any]], labels: NDArray[np.int64], queries: NDArray[np.floating[Any]], classes: int
) -> NDArray[np.float64]:
    """Fit Fisher's linear discriminant on `features` (n, D) and return the probabilities (m, K) of `queries` (m, D).

    Classes without an image in `labels` have probability 0.
    """
    sizes = np.bincount(labels, minlength=classes)
    means = np.zeros((classes, features.shape[1]), np.float32)
    np.add.at(means, labels, features)
    means /= np.maximum(sizes, 1)[:, None]
    inside = (features - means[labels]).astype(np.float32)
    scale = np.maximum(inside.std(axis=0), np.float32(_MIN_SPREAD))
    centres = (means / scale).astype(np.float64)
    weights = np.linalg.solve(_covariance(inside / scale), centres.T)
    with np.errstate(divide="ignore"):
        prior = np.log(sizes / sizes.sum())
    scores = (queries / scale) @ weights - 0.5 * (centres.T * weights).sum(axis=0) + prior
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _covariance(centred: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the covariance (D, D) of `centred` (n, D), shrunk towards a multiple of the identity; it has an inverse even for D > n.

    The shrinkage follows Ledoit and Wolf 2004 (Journal of Multivariate Analysis 88, pages 365-411, lemmas 3.2 to 3.4). It equals
    scikit-learn's `ledoit_wolf`, but needs one matrix product of floats instead of two of doubles.
    """
    n, features = centred.shape
    sample = (centred.T @ centred).astype(np.float64) / n
    level = np.trace(sample) / features
    distance = ((sample - level * np.eye(features)) ** 2).sum()
    lengths = np.einsum("nd,nd->n", centred, centred, dtype=np.float64)
    noise = min(distance, (lengths**2).sum() / n**2 - (sample**2).sum() / n)
    shrinkage = noise / distance if distance else 1.0
    return (1 - shrinkage) * sample + (shrinkage * level + _MIN_SPREAD) * np.eye(features)
