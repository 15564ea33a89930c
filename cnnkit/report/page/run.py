"""The page on one run: data, training, metrics and model in one self-contained HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.metrics.counts import Counts, confusion_counts
from cnnkit.report.page.certainty import certainty, reliability, risk_chart
from cnnkit.report.page.curves import course, curves
from cnnkit.report.page.facts import (
    ModelFacts,
    about,
    command_line,
    limits,
    model_facts,
    repeat_facts,
    settings_rows,
    started_by_command,
    timing_facts,
)
from cnnkit.report.page.gallery import MAX_MATRIX_CLASSES, Choice, ImagePrediction, matrix, pairs
from cnnkit.report.page.html import MAX_PICTURED_CASES, MAX_PICTURED_FILES, case_tests, render
from cnnkit.report.page.metrics import baselines_line, class_rows, headline, metric_rows
from cnnkit.report.pictures.thumbnail import data_uri, webp
from cnnkit.report.terminal.health import by_severity, highest_severity, verdict

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Health
    from cnnkit.run_dir import HistoryRow, RunRecord, StoredMetrics

MAX_BYTES = 5_000_000  # the size of a page that fits into a mail
MIN_PICTURE_BYTES = 500_000  # the share of pictures in it, even beside long tables
_TEXT_BYTES, _CLASS_BYTES, _PICTURE_TEXT_BYTES = 100_000, 1_300, 350  # text of a page, of each class, around each picture
MAX_PIXEL_SIZE = 64  # px; a picture up to this size is enlarged, with its pixels as squares
MAX_LISTED_CASES = 20  # cases of a finding on the page; `cnnkit doctor` lists all
FIRST_PICTURES = 6  # beside the matrix: two rows of three at 1,280 x 800 px
MAX_ROOMY_CLASSES, MAX_PLAIN_CLASSES = 6, 12  # up to which the cells of the matrix are large, and of the usual size
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class RunPage:
    """The contents of a page: plain values from the files of a run directory, and small pictures by the path of their image.

    `images` counts the images by class and split. `metrics` is metrics.json, None without an evaluation; `predictions` are the rows
    of predictions.csv. `heat` holds heat maps of the evidence. `confusion_png` replaces the matrix if there are many classes.
    """

    name: str
    record: RunRecord
    history: Sequence[HistoryRow]
    images: Mapping[str, Mapping[str, int]]
    model: ModelFacts
    metrics: StoredMetrics | None = None
    predictions: Sequence[ImagePrediction] = ()
    choice: Choice = field(default_factory=Choice)
    pictures: Mapping[str, Image] = field(default_factory=dict[str, Image])
    heat: Mapping[str, Image] = field(default_factory=dict[str, Image])
    health: Health | None = None
    confusion_png: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model."""
        return self.record.classes


def run_html(page: RunPage) -> str:
    """Return the page on a run."""
    epochs = course(page.history)
    findings = by_severity(page.health.findings) if page.health else []
    part = _predictions_part(page)
    return render(
        "run.html",
        tests=case_tests(part["thumbs"]),
        title=page.name,
        headline=headline(page.metrics) if page.metrics else "",
        about=about(page.record),
        baselines=baselines_line(page.metrics) if page.metrics else "",
        notes=page.notes,
        classes=page.classes,
        split=page.metrics.split if page.metrics else "",
        charts=curves(epochs),
        epochs=epochs,
        metrics=metric_rows(page.metrics) if page.metrics else [],
        limits=limits(
            page.record,
            page.metrics,
            part["class_rows"],
            [f"{finding.id}: {finding.message}" for finding in findings if finding.severity != "note"],
        ),
        images=page.images,
        most_images=max((sum(counts.values()) for counts in page.images.values()), default=0) or 1,
        health=page.health,
        verdict=verdict(page.health) if page.health else "",
        worst=highest_severity(page.health) if page.health else "none",
        findings=findings,
        shown=MAX_PICTURED_CASES,
        most_of_a_case=MAX_PICTURED_FILES,
        listed=MAX_LISTED_CASES,
        command=command_line(page.record),
        by_command=started_by_command(page.record),
        repeat=repeat_facts(page.record, epochs),
        timing=timing_facts(epochs),
        model=model_facts(page.record, page.model),
        certainty=certainty(page.metrics, page.model),
        settings=settings_rows(page.record),
        **part,
    )


def _predictions_part(page: RunPage) -> dict[str, Any]:
    """Return the values of the page's sections on the predictions; without an evaluation they are empty."""
    heat = {path: data_uri(webp(image), "webp") for path, image in page.heat.items()}
    matrix_picture = data_uri(page.confusion_png) if page.confusion_png and len(page.classes) > MAX_MATRIX_CLASSES else None
    other_bytes = _TEXT_BYTES + _CLASS_BYTES * len(page.classes) + sum(map(len, heat.values())) + len(matrix_picture or "")
    thumbs = _data_uris(page, max(MIN_PICTURE_BYTES, MAX_BYTES - other_bytes))
    samples = [(page.classes[label], [path for path in paths if path in thumbs]) for label, paths in page.choice.samples.items()]
    part: dict[str, Any] = {
        "thumbs": thumbs,
        "heat": heat,
        "density": _density(len(page.classes)),
        "pixels": {path for path, image in page.pictures.items() if max(image.shape[:2]) <= MAX_PIXEL_SIZE},
        "samples": [(name, paths) for name, paths in samples if paths],
        **_explained(page.choice, thumbs),
        "gallery": [prediction for prediction in page.choice.gallery if prediction.path in thumbs],
        **dict.fromkeys(("matrix", "pairs", "class_rows"), ()),
        **dict.fromkeys(("confusion", "reliability", "risk", "mistakes"), None),
    }
    if page.metrics is None:
        return part
    table = _table(page)
    return {
        **part,
        "matrix": matrix(table, page.classes) if len(page.classes) <= MAX_MATRIX_CLASSES else (),
        "pairs": pairs(table, page.classes),
        "confusion": matrix_picture,
        "class_rows": class_rows(page.metrics, table),
        "mistakes": sum(not prediction.right for prediction in page.predictions),
        "reliability": reliability(page.metrics),
        "risk": risk_chart(page.metrics),
    }


def _explained(choice: Choice, thumbs: Mapping[str, str]) -> dict[str, Any]:
    """Return the explained predictions that have a picture: `FIRST_PICTURES` beside the matrix, and the others.

    The worst mistakes come first. Least confident predictions fill their rest, each once.
    """
    worst = [prediction for prediction in choice.worst if prediction.path in thumbs]
    unsure = [prediction for prediction in choice.unsure if prediction.path in thumbs]
    mistaken = {prediction.path for prediction in worst[:FIRST_PICTURES]}
    room = FIRST_PICTURES - len(mistaken)
    first = [prediction for prediction in unsure if prediction.path not in mistaken][:room]
    return {
        "first_mistakes": worst[:FIRST_PICTURES],
        "other_mistakes": worst[FIRST_PICTURES:],
        "first_unsure": first,
        "other_unsure": [prediction for prediction in unsure if prediction not in first],
    }


def _density(classes: int) -> str:
    """Return the CSS class of a matrix for the size of its cells."""
    if classes <= MAX_ROOMY_CLASSES:
        return "roomy"
    return "plain-cells" if classes <= MAX_PLAIN_CLASSES else "dense"


def _table(page: RunPage) -> Counts:
    true = np.array([prediction.true for prediction in page.predictions], np.int64)
    predicted = np.array([prediction.predicted for prediction in page.predictions], np.int64)
    return confusion_counts(true, predicted, len(page.classes))


def _data_uris(page: RunPage, room: int) -> dict[str, str]:
    """Return the pictures as data URIs by path, as many as fit into `room` bytes; the pictures of the gallery come last."""
    choice = page.choice
    explained = [prediction.path for prediction in (*choice.worst, *choice.unsure)]
    gallery = [prediction.path for prediction in choice.gallery]
    shown = [*explained, *(path for paths in choice.samples.values() for path in paths)]
    uses = Counter([*shown, *gallery])
    findings = [path for path in page.pictures if path not in uses]  # pictures of the doctor's findings
    found: dict[str, str] = {}
    for path in dict.fromkeys([*shown, *findings, *gallery]):
        if path not in page.pictures:
            continue
        uri = data_uri(webp(page.pictures[path]), "webp")
        room -= (len(uri) + _PICTURE_TEXT_BYTES) * max(1, uses[path])
        if room < 0:
            break
        found[path] = uri
    return found
