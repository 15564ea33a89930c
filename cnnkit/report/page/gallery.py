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

MOST_BUTTONS = 30  # classes of a matrix whose cells can be pressed; beyond, pairs and a picture of the matrix
MOST_PAIRS = 100
PER_CELL = 40  # images of one cell: more teach little and push the others out
MOST_MISTAKES = 1_500
CORRECT = 6  # right answers shown of a class
LOOKED_AT = 24  # worst mistakes and least sure answers, each with its heat map
SAMPLES = 6  # training images shown of a class, up to `MOST_BUTTONS` classes
MOST_SAMPLED = 60  # classes shown by one training image each where there are more
_SHADES = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A row of predictions.csv: classes as indices, the probability of the predicted one, the loss in nats."""

    path: str
    true: int
    predicted: int
    probability: float
    loss: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Choice:
    """The images of a page: `gallery` in the order in which they get room, the worst of every cell first; `samples` by class."""

    gallery: tuple[Answer, ...] = ()
    worst: tuple[Answer, ...] = ()
    unsure: tuple[Answer, ...] = ()
    samples: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])

    def paths(self) -> list[str]:
        """Return every image once."""
        answers = (*self.worst, *self.unsure, *self.gallery)
        return list(dict.fromkeys([*(answer.path for answer in answers), *(path for paths in self.samples.values() for path in paths)]))


def choose(answers: Sequence[Answer], training: Mapping[int, Sequence[str]]) -> Choice:
    """Choose what to show of `answers`, and of the `training` images of every class; the same input gives the same choice."""
    wrong = sorted((answer for answer in answers if not answer.right), key=lambda answer: (-_loss(answer), answer.path))
    cells: dict[tuple[int, int], list[Answer]] = defaultdict(list)
    for answer in wrong:
        cells[answer.true, answer.predicted].append(answer)
    classes = len(training)
    few = classes <= MOST_BUTTONS
    # of many classes only the largest cells can be pressed, so they come first
    pressed = set(cells if few else sorted(cells, key=lambda cell: (-len(cells[cell]), cell))[:MOST_PAIRS])
    mistakes = [(cell not in pressed, rank, answer) for cell, found in cells.items() for rank, answer in enumerate(found[:PER_CELL])]
    mistakes.sort(key=lambda item: (*item[:2], -_loss(item[2]), item[2].path))
    right = list(_right(answers)) if few else []
    return Choice(
        gallery=(*(answer for *_, answer in mistakes[:MOST_MISTAKES]), *right),
        worst=tuple(wrong[:LOOKED_AT]),
        unsure=tuple(sorted(answers, key=lambda answer: (answer.probability, answer.path))[:LOOKED_AT]),
        samples=_samples(training),
    )


def _right(answers: Sequence[Answer]) -> Iterator[Answer]:
    """Yield `CORRECT` right answers of each class, from the surest to the least sure."""
    found: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.right:
            found[answer.true].append(answer)
    for of_class in found.values():
        of_class.sort(key=lambda answer: (-answer.probability, answer.path))
        yield from _spread(of_class, CORRECT)


def _samples(training: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
    """Return `SAMPLES` paths of each class; of many classes one each, of `MOST_SAMPLED` classes spread evenly."""
    if len(training) <= MOST_BUTTONS:
        return {label: tuple(_spread(paths, SAMPLES)) for label, paths in training.items()}
    return {label: tuple(_spread(training[label], 1)) for label in _spread(list(training), MOST_SAMPLED)}


def _spread(items: Sequence[T], most: int) -> list[T]:
    """Return up to `most` of `items`, evenly spread, the first among them."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _loss(answer: Answer) -> float:
    return answer.loss if math.isfinite(answer.loss) else math.inf


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: how many images, and how strongly it is coloured, 0 to 8, by the root of its share of the row."""

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
    """A row of the table of confused classes: both as indices too."""

    true: int
    predicted: int
    pair: ConfusedPair


def pairs(table: Counts, classes: Sequence[str]) -> list[Pair]:
    """Return the `MOST_PAIRS` largest mistakes of a (K, K) table."""
    index = {name: place for place, name in enumerate(classes)}
    return [Pair(index[pair.true], index[pair.predicted], pair) for pair in most_confused(table, classes, MOST_PAIRS)]


def _shade(count: int, total: int) -> int:
    return max(1, round(_SHADES * math.sqrt(count / total))) if count else 0
