"""How far a page's probabilities can be trusted: what the temperature did, reliability, risk by coverage, the model's own rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnkit.report.page.chart import Axis, Chart, Line, chart
from cnnkit.report.page.facts import ModelFacts
from cnnkit.report.page.metrics import interval_text
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.numbers import percent

_CHANGES = {"fell": "clearly lower", "rose": "clearly higher", "unclear": "not clearly different, the intervals overlap"}


def certainty(metrics: Mapping[str, Any], model: ModelFacts) -> list[str]:
    """Return what is known of the probabilities, a sentence each."""
    return [*_calibrated(metrics.get("calibration"), model), *_ruled(model.rules)]


def reliability(metrics: Mapping[str, Any]) -> Chart | None:
    """Return the reliability diagram of metrics.json's bins, with and without the temperature; None if it has none."""
    effect = metrics.get("calibration") or {}
    bins = _filled(metrics.get("reliability") or effect.get("after", {}).get("bins"))
    if not bins:
        return None
    before = _filled(effect.get("before", {}).get("bins")) if effect.get("temperature", 1) != 1 else []
    total = sum(one["count"] for one in bins)
    gap = sum(one["count"] * (one["confidence"] - one["accuracy"]["value"]) for one in bins) / total
    lines = [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], style=7)]
    if before:
        lines.append(Line("without the temperature", _points(before), style=2))
    spans = [(one["confidence"], one["accuracy"]["low"], one["accuracy"]["high"]) for one in bins]
    lines.append(Line("as answered, with 95 % intervals", _points(bins), spans=spans))
    return chart(
        lines,
        Axis("confidence: probability of the answer", percent=True, low=0.0, high=1.0),
        Axis("right answers", percent=True, low=0.0, high=1.0),
        title="reliability",
        description=(
            f"answers in {len(bins)} group{'s' * (len(bins) != 1)} by confidence; "
            f"on average {100 * abs(gap):.1f} points {'too sure' if gap > 0 else 'not sure enough'}"
        ),
    )


def risk_chart(metrics: Mapping[str, Any]) -> Chart | None:
    """Return how many answers are wrong if only the surest are given, from the table of metrics.json; None if it has none."""
    rows = sorted((row for row in metrics.get("risk_coverage") or () if row["answered"]), key=lambda row: row["coverage"])
    if not rows:
        return None
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


def _calibrated(effect: Mapping[str, Any] | None, model: ModelFacts) -> Iterator[str]:
    if model.temperature == 1:
        fitted = (effect or {}).get("fitted_on") or {}
        why = fitted.get("reason") or "none was fitted"
        yield f"The probabilities are the network's own, with temperature 1: {escaped(why)}."
        return
    if not effect or not effect.get("fitted_on"):
        yield f"The logits are divided by the temperature {model.temperature:.3f}."
        return
    fitted = effect["fitted_on"]
    yield f"The logits are divided by the temperature {model.temperature:.3f}, fitted on {fitted['n']:,} {fitted['split']} images."
    if effect["change"] in _CHANGES:
        before, after = _error(effect["ece_before"]), _error(effect["ece_after"])
        yield f"Calibration error here: {before} without it, {after} with it: {_CHANGES[effect['change']]}."


def _ruled(rules: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if rule := rules.get("abstention"):
        yield (
            f"No answer is given below a probability of {percent(rule['threshold'])} %: of the {rule['n']:,} {rule['split']} images "
            f"{percent(rule['coverage'])} % are then answered, {rule['errors']:,} of them wrongly, and with "
            f"{percent(rule['confidence'])} % confidence at most {percent(rule['bound'])} % of later answers are wrong."
        )
    if rule := rules.get("label_sets"):
        yield (
            f"Label sets hold every class with a probability of at least {percent(rule['threshold'])} %, and with it the true one for "
            f"{percent(rule['coverage'])} % of images or more (from {rule['n']:,} {rule['split']} images)."
        )


def _error(score: Mapping[str, Any]) -> str:
    return f"{percent(score['value'])} % ({interval_text('ece', score)})"


def _filled(bins: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    return [one for one in bins or () if one["count"]]


def _points(bins: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(one["confidence"], one["accuracy"]["value"]) for one in bins]
