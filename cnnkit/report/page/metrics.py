"""What metrics.json says, as the rows and charts of a page; a part is left out where its keys are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from cnnkit.metrics.class_scores import MIN_CLASS_IMAGES
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.intervals import Estimate, wilson
from cnnkit.report.terminal.numbers import UNDEFINED, percent

# metrics.json keys in the order of the page, with their names; an estimate under another key follows under its own name
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


def metric_rows(metrics: Mapping[str, Any]) -> list[MetricRow]:
    """Return a row for every score of metrics.json with its interval, then what it has to beat."""
    keys = [*(key for key in NAMES if key in metrics), *(key for key in metrics if key not in NAMES)]
    rows = []
    for key in keys:
        score = metrics[key]
        if isinstance(score, int | float) and f"{key}_low" in metrics:
            score = {"value": score, "low": metrics[f"{key}_low"], "high": metrics[f"{key}_high"]}
        if not is_estimate(score) or score["value"] is None or score.get("k") == _TOP:
            continue
        name = NAMES.get(key, key.replace("_", " ")).format(**score)
        rows.append(MetricRow(key, name, score_text(key, score), interval_text(key, score)))
    beaten = [(one["summary"], one["accuracy"]) for one in metrics.get("baselines", ())]
    rows += [MetricRow("baseline", name, score_text("accuracy", score), interval_text("accuracy", score)) for name, score in beaten]
    return rows


def is_estimate(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value of metrics.json is a score with an interval."""
    return isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys()


def score_text(key: str, score: Mapping[str, Any]) -> str:
    """Return a score as the page shows it: percent, or a plain number for `PLAIN`."""
    return _text(key, score["value"]) + ("" if key in PLAIN or score["value"] is None else " %")


def interval_text(key: str, score: Mapping[str, Any]) -> str:
    """Return the interval as ``85.8 to 87.2``; empty if it is not known."""
    low, high = score["low"], score["high"]
    return "" if low is None or high is None else f"{_text(key, low)} to {_text(key, high)}"


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the accuracy in one line: ``86.5 % of 10,000 test images (95 % interval 85.8 to 87.2)``."""
    accuracy = metrics["accuracy"]
    images = f"{metrics['n']:,} {metrics['split']} image{'s' * (metrics['n'] != 1)}"
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


def class_rows(metrics: Mapping[str, Any], table: Counts) -> list[ClassRow]:
    """Return a row for each class of `metrics`, whose confusions `table` (K, K) counts; Wilson's interval for the recall."""
    rows = []
    for index, scores in enumerate(metrics["per_class"]):
        hits, support, predicted = int(table[index, index]), int(table[index].sum()), int(table[:, index].sum())
        rows.append(
            ClassRow(
                index=index,
                name=scores["class"],
                support=support,
                precision=_share(scores["precision"]),
                recall=_share(scores["recall"]),
                f1=_share(scores["f1"]),
                bar=wilson(hits, support),
                few=support < MIN_CLASS_IMAGES,
                missed=support - hits,
                false_alarms=predicted - hits,
            )
        )
    return rows


def _text(key: str, value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:.3f}" if key in PLAIN else percent(value)


def _share(value: float | None) -> str:
    return percent(math.nan if value is None else value)
