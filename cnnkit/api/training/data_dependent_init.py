"""Data-dependent initialisation of a network: from training images, before the first update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.api.training.batches import TrainingBatches
from cnnkit.data.augment.randomness import permutation
from cnnkit.data.batches import Batches
from cnnkit.data.progress import Progress
from cnnkit.engine.early_stopping import EarlyStopping
from cnnkit.engine.fit import TrainingFigures
from cnnkit.engine.logistic import LinearMap, regressions
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.validation import Validation, validation_of
from cnnkit.metrics.scores import accuracy
from cnnkit.model.head import Head, caught_features, fresh_head_parameters, linear_head, mixture_of_old_classes, old_head, set_head
from cnnkit.model.weights import WeightsReport

MAX_INIT_IMAGES = 2000  # 500,000 patches of 12 numbers suffice for the covariance of `fast-cnn`; arXiv:2404.00498 takes 5,000 images
MAX_FIT_IMAGES = 20_000  # of train, in each view: the features of both views take 330 MB at 2,048 numbers an image
MAX_CHOICE_IMAGES = 5000  # of val: an accuracy of 90 % has a standard error of 0.4 points
# Shares of a time budget at which the features of val, of train and of its augmented view end. Train has nearly all of it: a forward
# pass costs a third of a training step, and a part of an epoch gains less than the last layer of all images
# (docs/benchmarks/LOG.md, "Shares of a short budget").
FEATURE_SHARES = (1 / 4, 9 / 10, 1 / 2)
AUGMENTED_VIEW = 2  # its index among the views
PATIENCE = 2  # weaker penalties without a better score, after which no weaker one is tried


@runtime_checkable
class StartsFromImages(Protocol):
    """A network that initialises a layer from normalised training images (N, C, H, W)."""

    def start_from(self, images: Tensor) -> None:
        """Initialise layers from `images`."""
        ...


@dataclass(frozen=True, eq=False)
class HeadFit:
    """The settings of the fit of a new last layer: the time budget in seconds (0: none) and the runtime.

    `class_weights` (K,) weigh the loss. `progress(done, total)` counts images.
    """

    budget: float
    runtime: Runtime
    class_weights: Tensor | None = None
    progress: Progress | None = None
    clock: Callable[[], float] = time.perf_counter


class Start(NamedTuple):
    """A note on the last layer (None: the layer was not set), and the figures of its fit (None: it was not fitted)."""

    note: str | None = None
    figures: TrainingFigures | None = None


def start_from_images(
    module: nn.Module, report: WeightsReport | None, batches: TrainingBatches, classes: int, fit: HeadFit | None
) -> Start:
    """Initialise layers of `module` from images of `batches`; return the note and the figures of the last layer.

    `report` describes the loaded weights. With weights, a last layer of `classes` outputs that was not loaded starts at zero, as in Big
    Transfer (arXiv:1912.11370), and `fit` fits it; None leaves it at zero, for a dry run or for the state of a resumed run. A random
    layer would start with confident errors, which the first steps would carry into the loaded layers.

    Without weights (None), a module with `start_from` gets up to `MAX_INIT_IMAGES` images.
    """
    if report is not None:
        fresh = fresh_head_parameters(module, classes, report.fresh)
        start = _fit_head(module, report.spare, batches, classes, fit) if fresh and fit is not None else Start()
        if start.figures is None:
            with torch.no_grad():
                for name in fresh:
                    module.get_parameter(name).zero_()
        if not fresh or start.figures is not None:
            return start
        return Start("the new last layer is fitted before the first epoch" if fit is None else "the new last layer starts at zero")
    if isinstance(module, StartsFromImages):
        rows = len(batches.plain.rows)
        indices = np.linspace(0, rows - 1, min(MAX_INIT_IMAGES, rows)).astype(np.int64)
        module.start_from(torch.cat([batch for batch, _ in _select(batches.plain, indices).epoch(0)]))
    return Start()


class _Features(NamedTuple):
    """Inputs of the last layer (N, D), float32, and the labels (N,)."""

    values: Tensor
    labels: Tensor


class _Candidate(NamedTuple):
    """A possible last layer, with its name and its score on val."""

    name: str
    head: LinearMap
    score: Validation

    @property
    def val_accuracy(self) -> str:
        """The val accuracy in percent."""
        return f"{100 * accuracy(self.score.table):.1f} %"


def _fit_head(module: nn.Module, old: Mapping[str, Tensor], batches: TrainingBatches, classes: int, fit: HeadFit) -> Start:
    """Set the last layer to the best, by its loss on val, of zero, a mixture of the `old` classes and logistic regressions.

    On a few images the loss tells regressions apart that are equally accurate. The regressions see train with and without the augmented
    view, so the best is never below a regression on the plain images.
    Return no figures if the layer is no linear map of one vector per image to the logits.
    """
    began = fit.clock()
    layer = linear_head(module, classes)
    views = _compute_features(module, layer, batches, fit) if layer is not None else []
    if layer is None or not views:
        return Start()
    val, plain, *others = views
    train = _Features(*(torch.cat(parts) for parts in zip(plain, *others, strict=True)))

    def candidate(name: str, head: LinearMap) -> _Candidate:
        return _Candidate(name, head, validation_of(head.logits(val.values), val.labels, classes))

    def regression_on(features: _Features) -> _Candidate:
        fits = regressions(features.values, features.labels, classes, fit.class_weights)
        return _best((candidate("a logistic regression", head) for head in fits), PATIENCE)

    regression = _best(map(regression_on, (plain, train) if others else (plain,)))
    starts = [candidate("zero", LinearMap.zero(classes, plain.values.shape[1], plain.values.device))]
    if known := old_head(module, layer, old):
        mixture = mixture_of_old_classes(*known, plain.values, plain.labels, classes)
        starts.append(candidate("a mixture of the old classes", LinearMap(*mixture)))
    best = _best((*starts, regression))
    set_head(layer, best.head.weight, best.head.bias)
    score = validation_of(best.head.logits(plain.values), plain.labels, classes)
    figures = TrainingFigures(score.loss, accuracy(score.table), len(train.labels), fit.clock() - began)
    total = min(len(batches.plain.rows), MAX_FIT_IMAGES)
    part = f" on {len(plain.labels)} of {total} images, as the budget is short" if len(plain.labels) < total else ""
    beaten = ", ".join(f"{each.name} {each.val_accuracy}" for each in (regression, *starts) if each is not best)
    return Start(f"the new last layer starts as {best.name}{part}: val accuracy {best.val_accuracy} ({beaten})", figures)


def _best(candidates: Iterable[_Candidate], patience: int = 0) -> _Candidate:
    """Return the best of `candidates` by the loss, the first of equal ones; `patience` worse ones in a row end the search."""
    stopping, best = EarlyStopping("val_loss", patience), None
    for number, candidate in enumerate(candidates):
        if stopping.update(number, candidate.score.loss) or best is None:
            best = candidate
        if stopping.exhausted:
            break
    assert best is not None  # noqa: S101 (there is a candidate)
    return best


def _compute_features(module: nn.Module, layer: Head, batches: TrainingBatches, fit: HeadFit) -> list[_Features]:
    """Return the inputs of `layer` for val, for train and for one augmented view of train, if the augmentation is on.

    Each is a random part of the images if they are many or the time budget is short. The augmented view is left out if its share is over
    before it begins. The list is empty if `layer` has no such inputs.
    """
    plain, train = batches.plain, batches.train
    views = [_sample(batches.val, MAX_CHOICE_IMAGES, train.seed), _sample(plain, MAX_FIT_IMAGES, train.seed)]
    if train.augmentation is not None and train.augmentation.active:
        views.append(replace(views[1], augmentation=replace(train.augmentation, mixup=0.0, cutmix=0.0), seed=train.seed))
    total, done, began = sum(len(view.rows) for view in views), 0, fit.clock()
    found: list[_Features] = []
    with caught_features(module, layer) as features_of:
        for view, share in zip(views, FEATURE_SHARES, strict=False):
            parts: list[_Features] = []
            for images, labels in view.epoch(0):
                if (parts or len(found) == AUGMENTED_VIEW) and fit.budget and fit.clock() - began > share * fit.budget:
                    break
                features = features_of(fit.runtime.to_memory_format(images))
                if features is None:
                    return []
                parts.append(_Features(features, labels))
                done += len(labels)
                if fit.progress is not None:
                    fit.progress(done, total)
            if parts:
                found.append(_Features(*(torch.cat(part) for part in zip(*parts, strict=True))))
    return found


def _sample(batches: Batches, images: int, seed: int) -> Batches:
    """Return `batches` in a random order, with at most `images` images."""
    return _select(batches, permutation(seed, 0, len(batches.rows))[:images])


def _select(batches: Batches, indices: NDArray[np.int64]) -> Batches:
    return replace(batches, rows=batches.rows[indices], labels=batches.labels[indices])
