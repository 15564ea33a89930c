"""What metrics.json says, as the rows and charts of a page; a part is left out where its keys are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from cnnkit.metrics.counts import Counts
from cnnkit.metrics.intervals import Estimate, wilson
from cnnkit.report.chart import Axis, Chart, Line, chart
from cnnkit.report.tables import FEW_IMAGES, UNDEFINED, percent

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
                few=support < FEW_IMAGES,
                missed=support - hits,
                false_alarms=predicted - hits,
            )
        )
    return rows


def reliability(metrics: Mapping[str, Any]) -> Chart | None:
    """Return the reliability diagram of metrics.json's bins; None if it has none."""
    bins = [one for one in metrics.get("reliability") or () if one["count"]]
    if not bins:
        return None
    points = [(one["confidence"], one["accuracy"]["value"]) for one in bins]
    spans = [(one["confidence"], one["accuracy"]["low"], one["accuracy"]["high"]) for one in bins]
    total = sum(one["count"] for one in bins)
    gap = sum(one["count"] * (one["confidence"] - one["accuracy"]["value"]) for one in bins) / total
    way = "too sure" if gap > 0 else "not sure enough"
    return chart(
        [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], style=7), Line("measured, with 95 % intervals", points, spans=spans)],
        Axis("confidence: probability of the answer", percent=True, low=0.0, high=1.0),
        Axis("right answers", percent=True, low=0.0, high=1.0),
        title="reliability",
        description=f"{len(bins)} groups of answers by confidence; on average {100 * abs(gap):.1f} points {way}",
    )


def risk_chart(metrics: Mapping[str, Any]) -> Chart | None:
    """Return how many answers are wrong if only the surest are given, from the table of metrics.json; None if it has none."""
    rows = [row for row in metrics.get("risk_coverage") or () if row["answered"]]
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: row["coverage"])
    half, whole = min(rows, key=lambda row: abs(row["coverage"] - 0.5)), rows[-1]
    return chart(
        [
            Line(
                "wrong answers, with 95 % intervals",
                [(row["coverage"], row["risk"]["value"]) for row in rows],
                spans=[(row["coverage"], row["risk"]["low"], row["risk"]["high"]) for row in rows],
            )
        ],
        Axis("answered: share of images, the surest first", percent=True, low=0.0, high=1.0),
        Axis("wrong among them", percent=True, low=0.0),
        title="risk by coverage",
        description=(
            f"{percent(whole['risk']['value'])} % wrong of the surest {percent(whole['coverage'])} %, "
            f"{percent(half['risk']['value'])} % of the surest {percent(half['coverage'])} %"
        ),
    )


def _text(key: str, value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:.3f}" if key in PLAIN else percent(value)


def _share(value: float | None) -> str:
    return percent(math.nan if value is None else value)
