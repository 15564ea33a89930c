"""The images of an evaluation that a page shows, and the confusion matrix whose cells select them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cnnkit.metrics.confusion import ConfusedPair, most_confused
from cnnkit.metrics.counts import Counts
from cnnkit.report.terminal.numbers import percent

MAX_MATRIX_CLASSES = 30  # a matrix of more classes is a picture and a table of pairs, without cells to press
MAX_PAIRS = 100
MAX_CELL_IMAGES = 40  # more images of one cell teach little and leave no room for other cells
MAX_MISTAKES = 1_500
CLASS_RIGHT_IMAGES = 6  # right predictions that the page shows of each class
HEAT_MAP_IMAGES = 24  # the worst mistakes, and as many least confident predictions, each with its heat map
CLASS_SAMPLES = 6  # training images that the page shows of each class, up to `MAX_MATRIX_CLASSES` classes
MAX_SAMPLED_CLASSES = 60  # of more classes, the page shows one training image each of this number
_SHADES = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """A row of predictions.csv: both classes as indices, the probability of the predicted class, the loss in nats."""

    path: str
    true: int
    predicted: int
    probability: float
    loss: float

    @property
    def right(self) -> bool:
        """True if the predicted class is the true class."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Choice:
    """The images of a page: `gallery` in the order of priority, with the worst image of every cell first; `samples` by class."""

    gallery: tuple[ImagePrediction, ...] = ()
    worst: tuple[ImagePrediction, ...] = ()
    unsure: tuple[ImagePrediction, ...] = ()
    samples: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])

    def paths(self) -> list[str]:
        """Return the path of every image once."""
        predictions = (*self.worst, *self.unsure, *self.gallery)
        return list(
            dict.fromkeys([*(prediction.path for prediction in predictions), *(path for paths in self.samples.values() for path in paths)])
        )


def choose(predictions: Sequence[ImagePrediction], training: Mapping[int, Sequence[str]]) -> Choice:
    """Choose the images of a page from `predictions` and the `training` images by class; the choice is not random."""
    wrong = sorted(
        (prediction for prediction in predictions if not prediction.right), key=lambda prediction: (-_loss(prediction), prediction.path)
    )
    cells: dict[tuple[int, int], list[ImagePrediction]] = defaultdict(list)
    for prediction in wrong:
        cells[prediction.true, prediction.predicted].append(prediction)
    classes = len(training)
    few = classes <= MAX_MATRIX_CLASSES
    # with many classes only the largest cells can be pressed, so their images come first
    pressed = set(cells if few else sorted(cells, key=lambda cell: (-len(cells[cell]), cell))[:MAX_PAIRS])
    mistakes = [
        (cell not in pressed, rank, prediction) for cell, found in cells.items() for rank, prediction in enumerate(found[:MAX_CELL_IMAGES])
    ]
    mistakes.sort(key=lambda item: (*item[:2], -_loss(item[2]), item[2].path))
    right = list(_right(predictions)) if few else []
    return Choice(
        gallery=(*(prediction for *_, prediction in mistakes[:MAX_MISTAKES]), *right),
        worst=tuple(wrong[:HEAT_MAP_IMAGES]),
        unsure=tuple(sorted(predictions, key=lambda prediction: (prediction.probability, prediction.path))[:HEAT_MAP_IMAGES]),
        samples=_samples(training),
    )


def _right(predictions: Sequence[ImagePrediction]) -> Iterator[ImagePrediction]:
    """Yield `CLASS_RIGHT_IMAGES` right predictions of each class, from the most to the least confident."""
    found: dict[int, list[ImagePrediction]] = defaultdict(list)
    for prediction in predictions:
        if prediction.right:
            found[prediction.true].append(prediction)
    for of_class in found.values():
        of_class.sort(key=lambda prediction: (-prediction.probability, prediction.path))
        yield from _spread(of_class, CLASS_RIGHT_IMAGES)


def _samples(training: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
    """Return `CLASS_SAMPLES` paths of each class; with many classes, one path each of `MAX_SAMPLED_CLASSES`, evenly spread."""
    if len(training) <= MAX_MATRIX_CLASSES:
        return {label: tuple(_spread(paths, CLASS_SAMPLES)) for label, paths in training.items()}
    return {label: tuple(_spread(training[label], 1)) for label in _spread(list(training), MAX_SAMPLED_CLASSES)}


def _spread(items: Sequence[T], limit: int) -> list[T]:
    """Return up to `limit` of `items`, evenly spread, starting with the first."""
    count = min(limit, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _loss(prediction: ImagePrediction) -> float:
    return prediction.loss if math.isfinite(prediction.loss) else math.inf


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: its number of images, and its shade, 0 to 8, by the root of its share of the row."""

    count: int
    shade: int


@dataclass(frozen=True)
class MatrixRow:
    """One true class of the matrix."""

    name: str
    cells: tuple[Cell, ...]
    total: int
    recall: str


def matrix(table: Counts, classes: Sequence[str]) -> list[MatrixRow]:
    """Return the rows of a (K, K) table of counts."""
    rows = []
    for index, name in enumerate(classes):
        total = int(table[index].sum())
        cells = tuple(Cell(int(count), _shade(int(count), total)) for count in table[index])
        recall = table[index, index] / total if total else math.nan
        rows.append(MatrixRow(name, cells, total, percent(float(recall))))
    return rows


@dataclass(frozen=True)
class Pair:
    """A row of the table of confused classes: the `pair` and the indices of both classes."""

    true: int
    predicted: int
    pair: ConfusedPair


def pairs(table: Counts, classes: Sequence[str]) -> list[Pair]:
    """Return the `MAX_PAIRS` most frequent mistakes of a (K, K) table."""
    index = {name: label for label, name in enumerate(classes)}
    return [Pair(index[pair.true], index[pair.predicted], pair) for pair in most_confused(table, classes, MAX_PAIRS)]


def _shade(count: int, total: int) -> int:
    return max(1, round(_SHADES * math.sqrt(count / total))) if count else 0
