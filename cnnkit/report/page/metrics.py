"""The scores of metrics.json as the rows of a page, without undefined scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnkit.metrics.counts import Counts
from cnnkit.metrics.proportion import Estimate
from cnnkit.report.terminal.numbers import UNDEFINED, images_text, percent

if TYPE_CHECKING:
    from cnnkit.run_dir import StoredMetrics
    from cnnkit.run_dir.stored_metrics import StoredEstimate, StoredShare

# the names of the scores by their keys in metrics.json, in the order of the page
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
_STANDARD_K = 5  # top-5 accuracy has a key of its own
PLAIN = ("loss", "brier", "metric")  # the scores that are not shares, shown without percent


@dataclass(frozen=True)
class MetricRow:
    """One row of the table: name, value and 95 % interval as text; `key` is the key in metrics.json, or ``metric`` or ``baseline``."""

    key: str
    name: str
    value: str
    interval: str


def metric_rows(metrics: StoredMetrics) -> list[MetricRow]:
    """Return a row for every score of metrics.json with its interval, for every metric of a package, and for every baseline."""
    rows: list[MetricRow] = []
    for key, score in _scores(metrics).items():
        name = NAMES[key].format(k=metrics.top_k_accuracy.k if metrics.top_k_accuracy else "")
        if not math.isnan(score.value):
            rows.append(MetricRow(key, name, score_text(key, score), interval_text(key, score)))
    for name, score in metrics.metrics.items():
        if score.value is not None:
            rows.append(MetricRow("metric", name, score_text("metric", to_estimate(score)), interval_text("metric", to_estimate(score))))
    baselines = [(one.summary, to_estimate(one.accuracy)) for one in metrics.baselines]
    rows += [MetricRow("baseline", name, score_text("accuracy", score), interval_text("accuracy", score)) for name, score in baselines]
    return rows


def _scores(metrics: StoredMetrics) -> dict[str, Estimate]:
    """Return the scores of `metrics` by their keys, in the order of `NAMES`."""
    top_k = metrics.top_k_accuracy if metrics.top_k_accuracy and metrics.top_k_accuracy.k != _STANDARD_K else None
    stored = {
        "accuracy": metrics.accuracy,
        "top5_accuracy": metrics.top5_accuracy,
        "top_k_accuracy": top_k,
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
    """Return a score of metrics.json as an estimate; an undefined value is NaN."""
    return estimate(score.value, score.low, score.high)


def estimate(value: float | None, low: float | None, high: float | None) -> Estimate:
    """Return an estimate from the numbers of a JSON document; null becomes NaN."""
    return Estimate(*(math.nan if number is None else number for number in (value, low, high)))


def score_text(key: str, score: Estimate) -> str:
    """Return a score as text in percent, or as a plain number for the keys of `PLAIN`."""
    return _text(key, score.value) + ("" if key in PLAIN or math.isnan(score.value) else " %")


def interval_text(key: str, score: Estimate) -> str:
    """Return the interval as ``85.8 to 87.2``; empty if it is undefined."""
    return "" if math.isnan(score.low) or math.isnan(score.high) else f"{_text(key, score.low)} to {_text(key, score.high)}"


def headline(metrics: StoredMetrics) -> str:
    """Return the accuracy in one line: ``86.5 % of 10,000 test images right (95 % interval 85.8 to 87.2 %)``."""
    accuracy = to_estimate(metrics.accuracy)
    images = images_text(metrics.n, metrics.units, metrics.split)
    return f"{score_text('accuracy', accuracy)} of {images} right (95 % interval {interval_text('accuracy', accuracy)} %)"


def baselines_line(metrics: StoredMetrics) -> str:
    """Return the accuracy of every baseline in one line: ``always predicting ant: 54.2 %; colours alone: 61.0 %``; may be empty."""
    return "; ".join(f"{one.summary}: {score_text('accuracy', to_estimate(one.accuracy))}" for one in metrics.baselines)


@dataclass(frozen=True)
class ClassRow:
    """One class: its scores as text in percent, its recall with interval as shares in [0, 1] for the `bar`, and its mistakes."""

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
        """The values by which the columns are sorted; undefined scores come first."""
        scores = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {key: -1.0 if text == UNDEFINED else float(text) for key, text in scores.items()} | {
            "support": self.support,
            "missed": self.missed,
            "false_alarms": self.false_alarms,
        }

    @property
    def interval(self) -> str:
        """The interval of the recall as text in percent."""
        return f"{percent(self.bar.low)} to {percent(self.bar.high)}"


def class_rows(metrics: StoredMetrics, table: Counts) -> list[ClassRow]:
    """Return a row for each class of `metrics`, with the interval of the recall; `table` (K, K) is the confusion matrix."""
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
                bar=estimate(scores.recall, scores.recall_low, scores.recall_high),
                few=scores.few,
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
