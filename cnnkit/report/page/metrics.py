"""The scores of metrics.json as the rows of a page; those that are undefined are left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnkit.metrics.class_scores import MIN_CLASS_IMAGES
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.proportion import Estimate, wilson
from cnnkit.report.terminal.numbers import UNDEFINED, percent

if TYPE_CHECKING:
    from cnnkit.run_dir import StoredMetrics
    from cnnkit.run_dir.stored_metrics import StoredEstimate, StoredShare

# keys of metrics.json in the order of the page, with their names
NAMES = {
    "accuracy": "accuracy",
    "top5_accuracy": "top-5 accuracy",
    "top_k_accuracy": "top-{k} accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "loss": "loss (nats)",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
}
_TOP = 5  # top-5 accuracy has a key of its own
PLAIN = ("loss", "brier")  # no shares: shown as they are


@dataclass(frozen=True)
class MetricRow:
    """One line of the table: name, value and 95 % interval as text; `key` is that of metrics.json, or ``baseline``."""

    key: str
    name: str
    value: str
    interval: str


def metric_rows(metrics: StoredMetrics) -> list[MetricRow]:
    """Return a row for every score of metrics.json with its interval, then what it has to beat."""
    rows: list[MetricRow] = []
    for key, score in _scores(metrics).items():
        name = NAMES[key].format(k=metrics.top_k_accuracy.k if metrics.top_k_accuracy else "")
        if not math.isnan(score.value):
            rows.append(MetricRow(key, name, score_text(key, score), interval_text(key, score)))
    beaten = [(one.summary, to_estimate(one.accuracy)) for one in metrics.baselines]
    rows += [MetricRow("baseline", name, score_text("accuracy", score), interval_text("accuracy", score)) for name, score in beaten]
    return rows


def _scores(metrics: StoredMetrics) -> dict[str, Estimate]:
    """Return the scores that there are, by the keys of `NAMES` and in their order."""
    asked = metrics.top_k_accuracy if metrics.top_k_accuracy and metrics.top_k_accuracy.k != _TOP else None
    stored = {
        "accuracy": metrics.accuracy,
        "top5_accuracy": metrics.top5_accuracy,
        "top_k_accuracy": asked,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "roc_auc": metrics.roc_auc,
        "average_precision": metrics.average_precision,
        "loss": metrics.loss,
        "brier": metrics.brier,
        "ece": metrics.ece,
    }
    found = {key: to_estimate(score) for key, score in stored.items() if score}
    found["weighted_f1"] = estimate(metrics.weighted_f1, metrics.weighted_f1_low, metrics.weighted_f1_high)
    return {key: found[key] for key in NAMES if key in found}


def to_estimate(score: StoredEstimate | StoredShare) -> Estimate:
    """Return a score of metrics.json as an estimate, NaN where it is undefined."""
    return estimate(score.value, score.low, score.high)


def estimate(value: float | None, low: float | None, high: float | None) -> Estimate:
    """Return an estimate from the numbers of a JSON document, NaN where one is null."""
    return Estimate(*(math.nan if number is None else number for number in (value, low, high)))


def score_text(key: str, score: Estimate) -> str:
    """Return a score as the page shows it: percent, or a plain number for `PLAIN`."""
    return _text(key, score.value) + ("" if key in PLAIN or math.isnan(score.value) else " %")


def interval_text(key: str, score: Estimate) -> str:
    """Return the interval as ``85.8 to 87.2``; empty if it is not known."""
    return "" if math.isnan(score.low) or math.isnan(score.high) else f"{_text(key, score.low)} to {_text(key, score.high)}"


def headline(metrics: StoredMetrics) -> str:
    """Return the accuracy in one line: ``86.5 % of 10,000 test images (95 % interval 85.8 to 87.2)``."""
    accuracy = to_estimate(metrics.accuracy)
    images = f"{metrics.n:,} {metrics.split} image{'s' * (metrics.n != 1)}"
    return f"{score_text('accuracy', accuracy)} of {images} right (95 % interval {interval_text('accuracy', accuracy)} %)"


@dataclass(frozen=True)
class ClassRow:
    """One class: scores as text, the recall with its interval as shares in [0, 1] for the bar, and its mistakes."""

    index: int
    name: str
    support: int
    precision: str
    recall: str
    f1: str
    bar: Estimate
    few: bool
    missed: int
    false_alarms: int

    @property
    def order(self) -> dict[str, float]:
        """What the columns are sorted by; undefined scores come first."""
        scores = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {key: -1.0 if text == UNDEFINED else float(text) for key, text in scores.items()} | {
            "support": self.support,
            "missed": self.missed,
            "false_alarms": self.false_alarms,
        }

    @property
    def interval(self) -> str:
        """The interval of the recall in words."""
        return f"{percent(self.bar.low)} to {percent(self.bar.high)}"


def class_rows(metrics: StoredMetrics, table: Counts) -> list[ClassRow]:
    """Return a row for each class of `metrics`, whose confusions `table` (K, K) counts; Wilson's interval for the recall."""
    rows = []
    for index, scores in enumerate(metrics.per_class):
        hits, support, predicted = int(table[index, index]), int(table[index].sum()), int(table[:, index].sum())
        rows.append(
            ClassRow(
                index=index,
                name=scores.name,
                support=support,
                precision=_share(scores.precision),
                recall=_share(scores.recall),
                f1=_share(scores.f1),
                bar=wilson(hits, support),
                few=support < MIN_CLASS_IMAGES,
                missed=support - hits,
                false_alarms=predicted - hits,
            )
        )
    return rows


def _text(key: str, value: float) -> str:
    if math.isnan(value):
        return UNDEFINED
    return f"{value:.3f}" if key in PLAIN else percent(value)


def _share(value: float | None) -> str:
    return percent(math.nan if value is None else value)
