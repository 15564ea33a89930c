"""The section of a page on the probabilities: temperature, reliability, risk by coverage, decision rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnkit.errors import counted
from cnnkit.metrics.proportion import Estimate
from cnnkit.report.page.chart import Axis, Chart, Line, chart
from cnnkit.report.page.facts import ModelFacts
from cnnkit.report.page.metrics import interval_text, to_estimate
from cnnkit.report.pictures.confidence_scale import is_confident
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.numbers import percent

if TYPE_CHECKING:
    from cnnkit.run_dir import StoredMetrics
    from cnnkit.run_dir.stored_metrics import StoredBin, StoredCalibration

_CHANGES = {"fell": "clearly lower", "rose": "clearly higher", "unclear": "not clearly different, because the intervals overlap"}


def certainty(metrics: StoredMetrics | None, model: ModelFacts) -> list[str]:
    """Return sentences on the temperature and the decision rules of the model."""
    return [*_temperature_sentences(metrics.calibration if metrics else None, model), *_rule_sentences(model.rules)]


def reliability(metrics: StoredMetrics) -> Chart | None:
    """Return the reliability diagram of metrics.json, with and without the temperature; None if it has no bins."""
    bins, effect = metrics.reliability, metrics.calibration
    if not bins:
        return None
    before = effect.before.bins if effect.temperature != 1 else ()
    total = sum(one.count for one in bins)
    gap = sum(one.count * (one.confidence - one.accuracy.value) for one in bins) / total
    confident = is_confident(bins)
    low = min(min(one.confidence, one.accuracy.low) for one in (*bins, *before)) if confident else 0.0
    lines = [Line("perfect", [(low, low), (1.0, 1.0)], style=7)]
    if before:
        lines.append(Line("without the temperature", _points(before), style=2))
    spans = [(one.confidence, one.accuracy.low, one.accuracy.high) for one in bins]
    lines.append(Line("with 95 % intervals", _points(bins), spans=spans))
    return chart(
        lines,
        Axis("confidence: probability of the prediction", percent=True, low=low, high=1.0, stretched=confident),
        Axis("accuracy, both axes stretched near 100 %" if confident else "accuracy", percent=True, low=low, high=1.0, stretched=confident),
        title="reliability",
        description=(
            f"predictions in {counted(len(bins), 'group')} by confidence; "
            f"the mean confidence is {100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'} the accuracy"
        ),
    )


def risk_chart(metrics: StoredMetrics) -> Chart | None:
    """Return the share of wrong predictions by coverage, from the table of metrics.json; None if no row of it has an image."""
    table = sorted((row for row in metrics.risk_coverage if row.answered), key=lambda row: row.coverage)
    rows = [(row.coverage, to_estimate(row.risk)) for row in table]
    if not rows:
        return None
    (half, half_risk), (whole, whole_risk) = min(rows, key=lambda row: abs(row[0] - 0.5)), rows[-1]
    return chart(
        [
            Line(
                "wrong predictions, with 95 % intervals",
                [(coverage, risk.value) for coverage, risk in rows],
                spans=[(coverage, risk.low, risk.high) for coverage, risk in rows],
            )
        ],
        Axis("coverage: share of images, the most confident first", percent=True, low=0.0, high=1.0),
        Axis("risk: share of wrong predictions", percent=True, low=0.0),
        title="risk by coverage",
        description=(
            f"{percent(whole_risk.value)} % wrong of the most confident {percent(whole)} %, "
            f"{percent(half_risk.value)} % wrong of the most confident {percent(half)} %"
        ),
    )


def _temperature_sentences(effect: StoredCalibration | None, model: ModelFacts) -> Iterator[str]:
    fitted = effect.fitted_on if effect else None
    if model.temperature == 1:
        reason = (fitted.reason if fitted else "") or "no temperature was fitted"
        yield f"The probabilities are the network's own, with temperature 1: {escaped(reason)}."
        return
    if effect is None or fitted is None:
        yield f"The logits are divided by the temperature {model.temperature:.3f}."
        return
    yield f"The logits are divided by the temperature {model.temperature:.3f}, fitted on {fitted.n:,} {fitted.split} images."
    if effect.change in _CHANGES:
        before, after = _error(to_estimate(effect.ece_before)), _error(to_estimate(effect.ece_after))
        yield f"The calibration error is {before} without the temperature and {after} with it: {_CHANGES[effect.change]}."


def _rule_sentences(rules: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if rule := rules.get("abstention"):
        yield (
            f"The model abstains below a probability of {percent(rule['threshold'])} %. Of {rule['n']:,} {rule['split']} images it "
            f"accepted {percent(rule['coverage'])} %, of which {rule['errors']:,} were wrong. With {percent(rule['confidence'])} % "
            f"confidence, at most {percent(rule['bound'])} % of later predictions are wrong."
        )
    if rule := rules.get("label_sets"):
        yield (
            f"Label sets hold every class with a probability of at least {percent(rule['threshold'])} %. They hold the true class of at "
            f"least {percent(rule['coverage'])} % of images (threshold from {rule['n']:,} {rule['split']} images)."
        )


def _error(score: Estimate) -> str:
    return f"{percent(score.value)} % ({interval_text('ece', score)})"


def _points(bins: Sequence[StoredBin]) -> list[tuple[float, float]]:
    return [(one.confidence, one.accuracy.value) for one in bins]
