"""The files of an evaluation: metrics.json, the tables and the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnnkit.api.evaluation.evaluation import Evaluation
from cnnkit.files import class_columns, write_csv, write_text
from cnnkit.metrics.confusion import normalized
from cnnkit.run_dir import write_metrics

COLUMNS = ("path", "true", "predicted", "probability", "loss")  # of predictions.csv


def write_files(evaluation: Evaluation, folder: Path, *, all_probabilities: bool) -> None:
    """Write metrics.json, predictions.csv, confusion.csv, report.txt, the pictures and, with OOD images, ood.csv into `folder`."""
    from cnnkit.report.pictures.confusion import confusion_title, plot_confusion  # matplotlib takes a second to import
    from cnnkit.report.pictures.reliability import plot_reliability
    from cnnkit.report.pictures.risk import plot_risk_coverage
    from cnnkit.report.terminal.calibration import effect_line
    from cnnkit.report.terminal.selective import ood_sentence, risk_coverage_table
    from cnnkit.report.terminal.text import report_text

    report = evaluation.report
    write_metrics(folder, evaluation.to_metrics())
    columns = [*COLUMNS, *(class_columns(report.classes, COLUMNS) if all_probabilities else ())]
    write_csv(folder / "predictions.csv", columns, prediction_rows(evaluation, all_probabilities=all_probabilities))
    heads = class_columns(report.classes, ["true"])
    counts = [
        {"true": name, **dict(zip(heads, map(int, row), strict=True))} for name, row in zip(report.classes, report.confusion, strict=True)
    ]
    write_csv(folder / "confusion.csv", ["true", *heads], counts)
    if evaluation.normalize != "none":
        shares = normalized(report.confusion, evaluation.normalize).tolist()
        rows = [{"true": name, **dict(zip(heads, row, strict=True))} for name, row in zip(report.classes, shares, strict=True)]
        write_csv(folder / f"confusion-{evaluation.normalize}.csv", ["true", *heads], rows)
    extra_lines = [effect_line(evaluation.effect), risk_coverage_table(evaluation.selective)]
    extra_lines += [ood_sentence(evaluation.ood.report, report.split)] if evaluation.ood else []
    write_text(folder / "report.txt", report_text(report, evaluation.heading, extra_lines, evaluation.normalize, evaluation.scores))
    title = confusion_title(evaluation.model_name, report, evaluation.heading)
    plot_confusion(report.confusion, report.classes, folder / "confusion.png", evaluation.normalize, title=title)
    plot_reliability(evaluation.effect, folder / "reliability.png")
    plot_risk_coverage(evaluation.selective, report.split, folder / "risk_coverage.png")
    (folder / "ood.csv").unlink(missing_ok=True)  # a file of an earlier evaluation does not belong to this one
    if evaluation.ood:
        evaluation.ood.write(folder / "ood.csv")


def prediction_rows(evaluation: Evaluation, *, all_probabilities: bool) -> Iterator[dict[str, object]]:
    """Yield the rows of predictions.csv."""
    classes, probabilities = evaluation.report.classes, evaluation.probabilities
    columns = class_columns(classes, COLUMNS)
    losses = -np.log(np.maximum(probabilities[np.arange(len(evaluation.labels)), evaluation.labels], np.finfo(np.float32).tiny))
    for path, label, row, loss in zip(evaluation.paths, evaluation.labels, probabilities, losses, strict=True):
        best = int(row.argmax())
        shown = dict(zip(columns, map(float, row), strict=True)) if all_probabilities else {}
        yield {
            "path": path,
            "true": classes[label],
            "predicted": classes[best],
            "probability": float(row[best]),
            "loss": float(loss),
            **shown,
        }
