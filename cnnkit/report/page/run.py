"""The page on one run: everything that is known of it in one file of HTML that asks nobody for anything."""

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
    command_line,
    limits,
    model_facts,
    repeat_facts,
    settings_rows,
    started_by_command,
    timing_facts,
)
from cnnkit.report.page.gallery import MOST_BUTTONS, Answer, Choice, matrix, pairs
from cnnkit.report.page.html import MOST_OF_A_CASE, SHOWN, case_tests, render, sealed
from cnnkit.report.page.metrics import class_rows, headline, metric_rows
from cnnkit.report.pictures.thumbnail import data_uri, webp
from cnnkit.report.terminal.health import by_severity, highest_severity, verdict

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Health
    from cnnkit.run_dir import HistoryRow, RunRecord, StoredMetrics

MOST_BYTES = 5_000_000  # of a page: what a mail takes
LEAST_ROOM = 500_000  # of it for pictures, however long the tables are
_TEXT, _CLASS_TEXT, _PICTURE_TEXT = 100_000, 1_300, 350  # bytes of a page, of each class, around each picture
ENLARGED = 64  # px: up to here a picture is shown larger than it is, its pixels as squares
MOST_LISTED = 20  # cases of a finding named on the page; all of them: cnnkit doctor
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class RunPage:
    """What a page is made of: plain values from the files of a run directory, and small pictures by the path of their image.

    `images` counts images by class and split. `metrics` is metrics.json, None without an evaluation, `answers` the rows of
    predictions.csv. `heat` are pictures of where the network looked. `confusion_png` stands in for a matrix of many classes.
    """

    name: str
    record: RunRecord
    history: Sequence[HistoryRow]
    images: Mapping[str, Mapping[str, int]]
    model: ModelFacts
    metrics: StoredMetrics | None = None
    answers: Sequence[Answer] = ()
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
    answers = _answers_part(page)
    return sealed(
        render(
            "run.html",
            tests=case_tests(answers["thumbs"]),
            title=page.name,
            headline=headline(page.metrics) if page.metrics else "",
            notes=page.notes,
            classes=page.classes,
            split=page.metrics.split if page.metrics else "",
            charts=curves(epochs),
            epochs=epochs,
            metrics=metric_rows(page.metrics) if page.metrics else [],
            limits=limits(
                page.record,
                page.metrics,
                answers["class_rows"],
                [f"{finding.id}: {finding.message}" for finding in findings if finding.severity != "note"],
            ),
            images=page.images,
            most_images=max((sum(counts.values()) for counts in page.images.values()), default=0) or 1,
            health=page.health,
            verdict=verdict(page.health) if page.health else "",
            worst=highest_severity(page.health) if page.health else "none",
            findings=findings,
            shown=SHOWN,
            most_of_a_case=MOST_OF_A_CASE,
            listed=MOST_LISTED,
            command=command_line(page.record),
            by_command=started_by_command(page.record),
            repeat=repeat_facts(page.record, epochs),
            timing=timing_facts(epochs),
            model=model_facts(page.record, page.model),
            certainty=certainty(page.metrics, page.model),
            settings=settings_rows(page.record),
            **answers,
        )
    )


def _answers_part(page: RunPage) -> dict[str, Any]:
    """Return what the page shows of the answers; empty values without an evaluation."""
    heat = {path: data_uri(webp(image), "webp") for path, image in page.heat.items()}
    matrix_picture = data_uri(page.confusion_png) if page.confusion_png and len(page.classes) > MOST_BUTTONS else None
    taken = _TEXT + _CLASS_TEXT * len(page.classes) + sum(map(len, heat.values())) + len(matrix_picture or "")
    thumbs = _addresses(page, max(LEAST_ROOM, MOST_BYTES - taken))
    samples = [(page.classes[label], [path for path in paths if path in thumbs]) for label, paths in page.choice.samples.items()]
    part: dict[str, Any] = {
        "thumbs": thumbs,
        "heat": heat,
        "pixels": {path for path, image in page.pictures.items() if max(image.shape[:2]) <= ENLARGED},
        "samples": [(name, paths) for name, paths in samples if paths],
        "worst_answers": [answer for answer in page.choice.worst if answer.path in thumbs],
        "unsure_answers": [answer for answer in page.choice.unsure if answer.path in thumbs],
        "gallery": [answer for answer in page.choice.gallery if answer.path in thumbs],
        **dict.fromkeys(("matrix", "pairs", "class_rows", "first"), ()),
        **dict.fromkeys(("confusion", "reliability", "risk", "mistakes"), None),
    }
    if page.metrics is None:
        return part
    table = _table(page)
    found = pairs(table, page.classes)
    return {
        **part,
        "matrix": matrix(table, page.classes) if len(page.classes) <= MOST_BUTTONS else (),
        "pairs": found,
        "first": found[:1],  # the pair whose images stand there first
        "confusion": matrix_picture,
        "class_rows": class_rows(page.metrics, table),
        "mistakes": sum(not answer.right for answer in page.answers),
        "reliability": reliability(page.metrics),
        "risk": risk_chart(page.metrics),
    }


def _table(page: RunPage) -> Counts:
    true = np.array([answer.true for answer in page.answers], np.int64)
    said = np.array([answer.predicted for answer in page.answers], np.int64)
    return confusion_counts(true, said, len(page.classes))


def _addresses(page: RunPage, room: int) -> dict[str, str]:
    """Return the pictures as addresses that hold them, as far as they fit into `room` bytes: the gallery comes last."""
    choice = page.choice
    closely = [answer.path for answer in (*choice.worst, *choice.unsure)]
    gallery = [answer.path for answer in choice.gallery]
    shown = [*closely, *(path for paths in choice.samples.values() for path in paths)]
    times = Counter([*shown, *gallery])
    beside = [path for path in page.pictures if path not in times]  # of the doctor's findings
    found: dict[str, str] = {}
    for path in dict.fromkeys([*shown, *beside, *gallery]):
        if path not in page.pictures:
            continue
        address = data_uri(webp(page.pictures[path]), "webp")
        room -= (len(address) + _PICTURE_TEXT) * max(1, times[path])
        if room < 0:
            break
        found[path] = address
    return found
