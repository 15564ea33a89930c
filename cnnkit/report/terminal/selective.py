"""What comes of not answering everything, as terminal tables and sentences; every number is also in metrics.json."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.errors import listed
from cnnkit.metrics.abstention import Abstention, Operating
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import Drift, FeatureShift
from cnnkit.metrics.ood import StrangerReport
from cnnkit.metrics.selective import SelectiveReport
from cnnkit.report.terminal.numbers import UNDEFINED, number_cells, percent, share_cells, share_text

_SHIFTS_NAMED = 3  # features named in a warning; the file has all


def risk_coverage_table(report: SelectiveReport) -> RenderableType:
    """Return risk at round coverages, the row of the model's own threshold, and how its label sets did."""
    table = Table(title="Answering only the surest images", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.show_edge = False
    for head in ("coverage", "answered", "probability ≥", "wrong", "risk", "95 % interval"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in report.table:
        table.add_row(*_cells(row), "")
    if report.answered:
        table.add_row(*_cells(report.answered), "stored", style="bold")
    stored = "; stored: by the model's threshold" if report.answered else ""
    notes = [Text(f"risk: share of the answered images that is wrong{stored}", style="dim")]
    if report.label_sets and report.sets:
        sets = report.sets
        notes.append(
            Text(
                f"label sets for {percent(report.label_sets.coverage)} %: the true class is in {share_text(sets.coverage)} of them; "
                f"{sets.mean_size:.2f} classes on average, one alone for {percent(sets.single)} % of the images"
            )
        )
    return Group(table, *notes)


def stranger_sentence(report: StrangerReport, split: str) -> str:
    """Say how a model took images of another kind."""
    threshold = "the model's threshold" if report.stored else f"the threshold that answers {percent(report.kept.value)} % of {split}"
    return (
        f"of {report.n:,} images of another kind {share_text(report.accepted)} are answered as if they were known, at {threshold} "
        f"(probability ≥ {report.threshold:.3f}; of {split} it answers {share_text(report.kept)}); AUROC of the top probability "
        f"{' '.join(number_cells(report.auroc))}"
    )


def abstention_sentence(rule: Abstention) -> str:
    """Say what a rule of abstention promises, and on what it rests."""
    limit = f"an image is answered if its top probability is at least {rule.threshold:.4f}" if rule.threshold else "every image is answered"
    return (
        f"{limit}: with {100 * rule.confidence:g} % confidence at most {100 * rule.risk:g} % of the answers are wrong; on {rule.split} "
        f"{rule.errors:,} of {rule.answered:,} were (upper bound {100 * rule.bound:.2f} %), and {percent(rule.coverage)} % of "
        f"{rule.n:,} images were answered"
    )


def label_sets_sentence(rule: LabelSets) -> str:
    """Say what a rule of label sets promises, and on what it rests."""
    return (
        f"the label set of an image has its first answer and every class of probability {rule.threshold:.4f} or more: the true class is "
        f"in it with {100 * rule.coverage:g} % or more (threshold from {rule.n:,} {rule.split} images)"
    )


def drift_sentence(drift: Drift) -> str:
    """Say that images look unlike those the model knows, with the figures."""
    shifted = [shift for shift in drift.shifts if shift.shifted]
    named = listed(map(_shift, shifted), _SHIFTS_NAMED, "; ")
    return (
        f"these {drift.n:,} images look unlike the training images: {named}. Probabilities, and thresholds on them, are known to "
        f"hold only for images like the {drift.reference:,} of {drift.split}"
    )


def _shift(shift: FeatureShift) -> str:
    chance = "p < 0.0001" if shift.p < 1e-4 else f"p = {shift.p:.4f}"  # noqa: PLR2004 (four digits)
    return f"{shift.feature} {shift.median:.2f}, usually {shift.usual:.2f} (distance {shift.distance:.2f} of 1, {chance})"


def _cells(row: Operating) -> tuple[str, ...]:
    risk = row.risk
    shown = share_cells(risk) if row.answered else (UNDEFINED, UNDEFINED)
    return f"{percent(row.coverage)} %", f"{row.answered:,}", f"{row.threshold:.3f}", f"{row.errors:,}", *shown
