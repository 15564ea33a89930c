from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
from rich.console import Console, RenderableType

from cnnkit.metrics.classification import ClassificationReport, classification_report
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.units import Units
from cnnkit.report.terminal.numbers import percent
from cnnkit.report.terminal.tables import headline, metrics_table, most_confused_table, per_class_table


def plain(renderable: RenderableType, width: int = 80) -> str:
    """Return the text that a pipe gets: no colour, fixed width, no spaces at line ends."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def report_of(table: Counts, classes: list[str]) -> ClassificationReport:
    """Return a report with these counts and probability 0.9 for every prediction."""
    rows, columns = np.nonzero(table)
    labels = np.repeat(rows, table[rows, columns])
    predicted = np.repeat(columns, table[rows, columns])
    probs = np.full((len(labels), len(classes)), 0.1 / (len(classes) - 1))
    probs[np.arange(len(labels)), predicted] = 0.9
    return classification_report(labels, probs, classes, split="test", majority_class=classes[0])


def test_metrics_table() -> None:
    report = replace(  # the ends of a bootstrap interval may change with NumPy's generator
        report_of(np.array([[90, 10], [4, 96]]), ["ant", "bee"]),
        balanced_accuracy=Estimate(0.93, 0.894, 0.961),
        macro_f1=Estimate(0.92993, 0.891, 0.9612),
        weighted_f1_interval=(0.891, 0.9612),
        roc_auc=Estimate(0.93, 0.9, 0.96),
        average_precision=Estimate(0.88, 0.84, 0.925),
        loss=Estimate(0.2591, 0.1934, 1.2345),
        brier=Estimate(0.132, 0.08, 0.19),
        ece=Estimate(0.03, 0.0, 0.061),
    )
    text = plain(metrics_table(report))
    assert (
        text
        == """\
test: 200 images, 2 classes
metric                   value    95 % interval
───────────────────────────────────────────────
accuracy                93.0 %     [88.6, 95.8]
balanced accuracy       93.0 %     [89.4, 96.1]
macro F1                93.0 %     [89.1, 96.1]
weighted F1             93.0 %     [89.1, 96.1]
ROC AUC                 93.0 %     [90.0, 96.0]
average precision       88.0 %     [84.0, 92.5]
loss (nats)              0.259   [0.193, 1.234]
Brier score              0.132   [0.080, 0.190]
calibration error        3.0 %       [0.0, 6.1]
always predicting ant   50.0 %     [43.1, 56.9]"""
    )


def test_a_model_no_better_than_a_constant_prediction_has_a_warning() -> None:
    text = " ".join(plain(metrics_table(report_of(np.array([[60, 0], [38, 2]]), ["ant", "bee"]))).split())
    assert (
        "Warning: the model is not clearly better than always predicting ant: only the model is right on 2 images, only the baseline on 0 "
        "(exact p = 0.5)"
    ) in text


def test_one_class_alone_has_dashes_for_areas() -> None:
    text = plain(metrics_table(report_of(np.array([[3, 1], [0, 0]]), ["ant", "bee"])))
    assert [line.split()[-2:] for line in text.splitlines() if line.startswith(("ROC", "average"))] == [["-", "-"]] * 2


def test_the_row_of_top_k_names_the_requested_k() -> None:
    report = replace(report_of(np.eye(6, dtype=np.int64), list("abcdef")), top_k=3, top_k_accuracy=Estimate(0.5, 0.25, 0.75))
    assert "top-3 accuracy" in plain(metrics_table(report))


def test_top_5_needs_more_than_five_classes() -> None:
    assert "top-5" not in plain(metrics_table(report_of(np.eye(5, dtype=np.int64), list("abcde"))))
    assert "top-5 accuracy" in plain(metrics_table(report_of(np.eye(6, dtype=np.int64), list("abcdef"))))


def test_one_image_has_no_interval_of_the_loss() -> None:
    text = plain(metrics_table(report_of(np.array([[1, 0], [0, 0]]), ["ant", "bee"])))
    assert "test: 1 image, 2 classes" in text
    assert "loss (nats)" in text
    assert "nan" not in text.replace("nats", "")


def test_per_class_table_marks_small_classes_and_undefined_scores() -> None:
    table = np.array([[40, 0, 0], [5, 0, 0], [0, 0, 0]])
    assert (
        plain(per_class_table(report_of(table, ["[red]ant[/red]", "bee", "猫\n"])))
        == r"""class             precision %         recall %           F1 %   images
────────────────────────────────────────────────────────────────────────────
[red]ant[/red]   88.9 [76–96]   100.0 [91–100]   94.1 [86–98]       40
bee                         -       0.0 [0–44]     0.0 [0–61]        5   few
猫\n                        -                -              -        0   few
[low–high]: 95 % interval in percent.
few: under 30 images, with copies and groups counted once; such scores may be
off by 10 points.
-: undefined, because the class has no image or no prediction."""
    )


def test_a_table_of_many_classes_shows_the_lowest_f1() -> None:
    table = np.eye(60, dtype=np.int64) * 40
    table[7, 8] = 30
    text = plain(per_class_table(report_of(table, [f"class {i}" for i in range(60)])))
    lines = text.splitlines()
    assert lines[2].startswith("class 7 ")
    assert lines[3].startswith("class 8 ")
    assert len(lines) == 2 + 20 + 2
    assert lines[-2] == "The 20 classes of lowest F1; all 60 are in metrics.json."


def test_most_confused_table() -> None:
    assert (
        plain(most_confused_table(np.array([[5, 3], [1, 9]]), ["[b]ant", "bee"]))
        == """\
true     predicted   images   of the true class
───────────────────────────────────────────────
[b]ant   bee              3              37.5 %
bee      [b]ant           1              10.0 %"""
    )


def test_a_table_without_mistakes_becomes_a_sentence() -> None:
    assert plain(most_confused_table(np.eye(2, dtype=np.int64), ["ant", "bee"])) == "The model predicts every image correctly."


def test_percent() -> None:
    assert [percent(0.9324), percent(1.0), percent(math.nan)] == ["93.2", "100.0", "-"]


def test_long_names_fit_80_columns() -> None:
    report = report_of(np.array([[40, 2], [1, 30]]), ["a very long class name " * 6, "猫と犬の写真" * 12])
    for renderable in (metrics_table(report), per_class_table(report), most_confused_table(report.confusion, report.classes)):
        assert "…" not in plain(renderable), "a name must be folded, not cut"


def test_the_headline_counts_the_right_images() -> None:
    labels = np.arange(100) % 2
    scores = np.full((100, 2), 0.1)
    scores[np.arange(100), labels] = 0.9
    scores[:3] = scores[:3, ::-1]
    assert headline(classification_report(labels, scores, ["ants", "bees"], split="test")) == "97 of 100 test images right, 92 to 99 %"
    assert headline(classification_report(labels[:1], scores[:1], ["ants", "bees"], split="all")) == "0 of 1 image right, 0 to 95 %"


def test_the_headline_of_a_narrow_interval_has_tenths() -> None:
    labels = np.arange(2000) % 2
    scores = np.full((2000, 2), 0.1)
    scores[np.arange(2000), labels] = 0.9
    scores[:8] = scores[:8, ::-1]
    assert (
        headline(classification_report(labels, scores, ["ants", "bees"], split="val")) == "1,992 of 2,000 val images right, 99.2 to 99.8 %"
    )


def test_images_of_fewer_units_are_counted_as_such() -> None:
    labels = np.repeat([0, 1], 50)
    probs = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    report = classification_report(labels, probs, ["ant", "bee"], split="test", units=Units.of([str(row // 5) for row in range(100)]))
    text = plain(metrics_table(report))
    assert text.startswith("test: 100 images of 20 units, 2 classes")
    assert "calibration error   too few images" in text
    assert text.splitlines()[-2].startswith("The intervals count units: images that are copies of each other, or of one")
