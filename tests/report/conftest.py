"""Fixtures of reports: a made-up run with any number of classes, drawn figures, and a parser of pages."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnkit.doctor.finding import Finding, Health, Severity
from cnnkit.metrics.classification import classification_report
from cnnkit.report.page.facts import ModelFacts
from cnnkit.report.page.gallery import ImagePrediction, choose
from cnnkit.report.page.run import RunPage
from cnnkit.run_dir import HistoryRow, RunRecord, StoredMetrics


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list of figures that any module draws during the test."""
    figures: list[Figure] = []
    begin = Figure.__init__

    def begin_kept(figure: Figure, *args: Any, **given: Any) -> None:
        begin(figure, *args, **given)
        figures.append(figure)

    monkeypatch.setattr(Figure, "__init__", begin_kept)
    return figures


class Page(HTMLParser):
    """The tags, texts and addresses of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "link", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))


@pytest.fixture
def parsed() -> Callable[[str], Page]:
    """Return a function that parses a page and fails if its tags are not closed in order."""
    return Page


@pytest.fixture
def run_page(
    make_record: Callable[..., RunRecord], make_metrics: Callable[..., StoredMetrics], make_row: Callable[..., HistoryRow]
) -> Callable[..., RunPage]:
    """Return a function that makes a run of `classes` with `images` test images; equal arguments give equal runs."""
    return lambda classes=("cat", "dog", "eel"), images=300: make_run_page(make_record, make_metrics, make_row, classes, images)


def make_run_page(
    make_record: Callable[..., RunRecord],
    make_metrics: Callable[..., StoredMetrics],
    make_row: Callable[..., HistoryRow],
    classes: Sequence[str],
    images: int,
    side: int = 16,
    seed: int = 0,
) -> RunPage:
    random = np.random.default_rng(seed)
    count = len(classes)
    labels = np.sort(random.integers(count, size=images))
    logits = random.normal(0, 1, (images, count))
    logits[np.arange(images), labels] += 2.5
    logits[np.arange(images), (labels + 1) % count] += 1.2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted = probs.argmax(1)
    predictions = [
        ImagePrediction(
            f"test/{classes[label]}/{row:05d}.jpg",
            int(label),
            int(prediction),
            float(probs[row, prediction]),
            float(-np.log(probs[row, label])),
        )
        for row, (label, prediction) in enumerate(zip(labels, predicted, strict=True))
    ]
    training = {label: [f"train/{name}/{row}.jpg" for row in range(8)] for label, name in enumerate(classes)}
    choice = choose(predictions, training)
    owner = {prediction.path: prediction.true for prediction in predictions} | {
        path: label for label, paths in training.items() for path in paths
    }
    pictures = {path: _picture(owner[path] / count, side, random) for path in choice.paths()}
    heat = {prediction.path: _picture(0.1, side, random) for prediction in (*choice.worst, *choice.unsure)}
    copies = Finding("duplicate", Severity.WARNING, ((training[0][0], training[0][1]),), "1 pair of copies. Remove one, or --group-by")
    return RunPage(
        name="007-fast-cnn",
        record=make_record(**record_values(classes, images)),
        history=[make_row(**values) for values in epochs(12, random)],
        images={
            name: {"train": 40 + 7 * (label % 5), "val": 9, "test": int((labels == label).sum())} for label, name in enumerate(classes)
        },
        model=ModelFacts("best.safetensors", 1_234_567, "ab" * 32, 301_234, 1.0),
        metrics=make_metrics(**classification_report(labels, probs, classes, split="test").to_dict(), opened=1, unreadable=[]),
        predictions=predictions,
        choice=choice,
        pictures=pictures,
        heat=heat,
        health=Health(images * 2, dict.fromkeys(classes, 2), (copies,), ()),
    )


def record_values(classes: Sequence[str], images: int) -> dict[str, Any]:
    """Return the values of the record of such a run that the page shows."""
    return {
        "command": ["/somewhere/bin/cnnkit", "train", "--data", "my images"],
        "classes": list(classes),
        "arch": {"name": "fast-cnn", "options": {"width": 32}},
        "preprocessing": {
            "image_size": 32,
            "channels": 3,
            "resize_mode": "crop",
            "interpolation": "bilinear",
            "crop": 1.0,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.2, 0.2],
        },
        "runtime": {"device": "cpu", "precision": "fp32", "channels_last": True, "replicas": 2, "threads": 1, "compiled": False},
        "versions": {"python": "3.12.1", "torch": "2.9"},
        "data": {"name": "my images", "location": "my images", "sha256": "cd" * 32, "images": {"train": 900, "val": 90, "test": images}},
        "notes": ["3 test images have a copy in train", "images are 32 px"],
    }


def epochs(count: int, random: np.random.Generator) -> Iterator[dict[str, float]]:
    for epoch in range(1, count + 1):
        gone = epoch / count
        numbers = {
            "train_loss": 2 - 1.6 * gone,
            "train_accuracy": 0.3 + 0.6 * gone,
            "val_loss": 2 - 1.3 * gone + 0.3 * gone**3 + random.normal(0, 0.03),
            "val_accuracy": 0.3 + 0.5 * gone + random.normal(0, 0.01),
        }
        yield {**numbers, "epoch": epoch, "step": 10 * epoch, "is_best": epoch <= count - 2}


def _picture(hue: float, side: int, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    colour = np.array(colorsys.hsv_to_rgb(hue % 1, 0.7, 0.9)) * 255
    coarse = random.normal(0, 60, (4, 4, 1)).repeat(-(-side // 4), 0).repeat(-(-side // 4), 1)[:side, :side]
    return (colour + coarse).clip(0, 255).astype(np.uint8)
