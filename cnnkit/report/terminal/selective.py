"""Selective prediction as terminal tables and sentences; metrics.json has every number too."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.errors import listed
from cnnkit.metrics.abstention import Abstention, OperatingPoint
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import Drift, FeatureShift, Outlier
from cnnkit.metrics.ood import OodReport
from cnnkit.metrics.selective import SelectiveReport
from cnnkit.report.terminal.numbers import UNDEFINED, number_cells, percent, share_cells, share_text

_MAX_NAMED_SHIFTS = 3  # in a warning; the file has all features


def risk_coverage_table(report: SelectiveReport) -> RenderableType:
    """Return the risk at round coverages, the row of the model's own threshold, and the result of its label sets."""
    title = "Predictions for the surest images alone"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("coverage", "accepted", "probability ≥", "wrong", "risk", "95 % interval"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in report.table:
        table.add_row(*_cells(row), "")
    if report.abstention_outcome:
        table.add_row(*_cells(report.abstention_outcome), "stored", style="bold")
    stored = "; stored: the model's own threshold" if report.abstention_outcome else ""
    notes = [Text(f"risk: share of wrong predictions among the accepted images{stored}", style="dim")]
    if report.label_sets and report.label_set_outcome:
        sets = report.label_set_outcome
        notes.append(
            Text(
                f"label sets of coverage {percent(report.label_sets.coverage)} %: {share_text(sets.coverage)} of them hold the true class; "
                f"they have {sets.mean_size:.2f} classes on average, and {percent(sets.single)} % of them have one class"
            )
        )
    return Group(table, *notes)


def ood_sentence(report: OodReport, split: str) -> str:
    """Return a sentence on the model's predictions for out-of-distribution images."""
    threshold = "the model's threshold" if report.stored else f"the threshold that accepts {percent(report.kept.value)} % of {split}"
    return (
        f"the model accepts {share_text(report.accepted)} of {report.n:,} out-of-distribution images at {threshold} "
        f"(probability ≥ {report.threshold:.3f}, which accepts {share_text(report.kept)} of {split}); AUROC of the top probability "
        f"{' '.join(number_cells(report.auroc))}"
    )


def abstention_sentence(rule: Abstention) -> str:
    """Return a sentence on the guarantee of an abstention rule and the images behind it."""
    below = f"the model abstains if its top probability is below {rule.threshold:.4f}"
    limit = below if rule.threshold else "the model accepts every image"
    return (
        f"{limit}; with {100 * rule.confidence:g} % confidence at most {100 * rule.risk:g} % of its predictions are wrong. It accepted "
        f"{percent(rule.coverage)} % of {rule.n:,} {rule.split} images, and {rule.errors:,} of these {rule.answered:,} predictions were "
        f"wrong (upper bound {100 * rule.bound:.2f} %)"
    )


def label_sets_sentence(rule: LabelSets) -> str:
    """Return a sentence on the guarantee of a label set rule and the images behind it."""
    return (
        f"the label set of an image holds the predicted class and every class of probability at least {rule.threshold:.4f}; it holds the "
        f"true class with a probability of at least {100 * rule.coverage:g} % (threshold from {rule.n:,} {rule.split} images)"
    )


def drift_sentence(drift: Drift) -> str:
    """Return a warning that names the shifted features, with their figures."""
    shifted = [shift for shift in drift.shifts if shift.is_shifted]
    named = listed(map(_shift, shifted), _MAX_NAMED_SHIFTS, "; ")
    return (
        f"these {drift.n:,} images look unlike the training images: {named}. Probabilities and thresholds are only reliable for images "
        f"like the {drift.reference:,} of {drift.split}"
    )


def outlier_sentence(outliers: Sequence[Outlier], paths: Sequence[str]) -> str:
    """Return a warning on at least one of `outliers` among the images `paths`, with the figure of the first."""
    first = outliers[0]
    several = f"{len(outliers)} of {len(paths)} images {'is' if len(outliers) == 1 else 'are'}"
    who, such = ("this image is", "") if len(paths) == 1 else (several, f", such as {paths[first.image]}")
    return (
        f"{who} unlike the validation images{such}: {first.feature} {first.value:.2f}, theirs {first.low:.2f} to {first.high:.2f}. "
        "Its probability may be wrong"
    )


def _shift(shift: FeatureShift) -> str:
    p = "p < 0.0001" if shift.p < 1e-4 else f"p = {shift.p:.4f}"  # noqa: PLR2004 (four digits)
    return f"{shift.feature} {shift.median:.2f}, usually {shift.usual:.2f} (distance {shift.distance:.2f} of 1, {p})"


def _cells(row: OperatingPoint) -> tuple[str, ...]:
    risk = row.risk
    shown = share_cells(risk) if row.accepted else (UNDEFINED, UNDEFINED)
    return f"{percent(row.coverage)} %", f"{row.accepted:,}", f"{row.threshold:.3f}", f"{row.errors:,}", *shown
