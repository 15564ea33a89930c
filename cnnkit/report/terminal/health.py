"""The health of a data set in the terminal: a verdict, the classes, and one row per finding, the most severe first.

Words carry every meaning; colour only repeats it. The JSON document and the HTML page have every list in full.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cnnkit.errors import counted, listed, shortened
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.names import fit

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from cnnkit.doctor.finding import Finding, Health

SEVERITIES = ("error", "warning", "note")  # the most severe first
MAX_BARS = 20  # one per class; more bars would push the findings off a screen of 40 lines
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MAX_NAME_WIDTH = 24  # cells
_BAR_WIDTH = 30  # cells
_MAX_FILES_OF_A_CASE = 3
_NAMED_CLASSES = 3  # the smallest, and the largest, if there are no bars


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Return `findings` sorted by severity, the most severe first, otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def verdict(health: Health) -> str:
    """Return the health in one line: ``397 images, 2 classes: 1 error, 2 warnings, 3 notes``."""
    counts = [(sum(finding.severity == severity for finding in health.findings), severity) for severity in SEVERITIES]
    found = ", ".join(counted(count, severity) for count, severity in counts if count)
    return f"{counted(health.images, 'image')}, {counted(len(health.classes), 'class', 'classes')}: {found or 'no findings'}"


def highest_severity(health: Health) -> str:
    """Return the highest severity among the findings, ``"none"`` without a finding."""
    return next((severity for severity in SEVERITIES if any(finding.severity == severity for finding in health.findings)), "none")


def health_summary(health: Health, *, examples: int = 2) -> HealthSummary:
    """Return a renderable of `health` that fits 80 columns and names up to `examples` cases of each finding."""
    return HealthSummary(health, examples)


@dataclass(frozen=True)
class HealthSummary:
    """A renderable that draws bars and arrows in ASCII if the console that prints it cannot encode them."""

    health: Health
    examples: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield verdict, classes, findings and notes."""
        yield Text(verdict(self.health), style={**_STYLES, "none": "green"}[highest_severity(self.health)])
        yield ""
        yield class_bars(self.health.classes, ascii_only=options.ascii_only)
        if self.health.findings:
            yield ""
            yield _findings(by_severity(self.health.findings), self.examples, ascii_only=options.ascii_only)
        if self.health.notes:
            yield ""
            yield from (Text(escaped(note), style="dim", overflow="fold") for note in self.health.notes)


def class_bars(classes: Mapping[str, int], *, ascii_only: bool = False) -> Table | Text:
    """Return a bar for each class, in the given order; for more than `MAX_BARS` classes a sentence on their sizes."""
    if len(classes) > MAX_BARS:
        return Text(class_sizes(classes), overflow="fold")
    names = [escaped(name) for name in classes]
    width = min(_MAX_NAME_WIDTH, max((cell_len(name) for name in names), default=0))
    largest = max(classes.values(), default=1) or 1
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for name, count in zip(names, classes.values(), strict=True):
        table.add_row(Text(_short(name, width, ascii_only=ascii_only)), f"{count:,}", _bar(count / largest, ascii_only=ascii_only))
    return table


def class_sizes(classes: Mapping[str, int]) -> str:
    """Return a sentence with the median class size and the smallest and largest classes."""
    ranked = sorted(classes.items(), key=lambda item: item[1])
    ends = ranked[:_NAMED_CLASSES], ranked[: -_NAMED_CLASSES - 1 : -1]
    fewest, most = (", ".join(f"{escaped(name)} {count:,}" for name, count in end) for end in ends)
    median = statistics.median(classes.values())
    return f"images per class: median {median:,.0f}; fewest: {fewest}; most: {most}"


def case_text(files: Sequence[str], *, ascii_only: bool = False) -> str:
    """Return one case of a finding as text: its file, or the files that belong together."""
    return (" <-> " if ascii_only else " ↔ ").join(shortened(map(escaped, files), _MAX_FILES_OF_A_CASE))


def _findings(findings: Sequence[Finding], examples: int, *, ascii_only: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), collapse_padding=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        found, advice = _sentences(escaped(finding.message))
        message = Text(found, overflow="fold").append(advice, style="dim")
        if finding.files:
            message.append("\n" + _examples(finding, examples, ascii_only=ascii_only), style="dim")
        count = f"{len(finding.files):,}" if finding.files else ""
        table.add_row(Text(finding.severity, style=_STYLES[finding.severity]), Text(finding.id, style="bold"), count, message)
    return table


def _sentences(message: str) -> tuple[str, str]:
    """Return the first sentence, which names the finding, and the rest, which gives advice."""
    end = re.search(r"\.(?= [A-Z])", message)
    return (message[: end.end()], message[end.end() :]) if end else (message, "")


def _examples(finding: Finding, limit: int, *, ascii_only: bool) -> str:
    """Return the first cases: single files in a row, groups of files on one line each."""
    grouped = any(len(case) > 1 for case in finding.files)
    return listed((case_text(case, ascii_only=ascii_only) for case in finding.files), limit, "\n" if grouped else ", ")


def _bar(share: float, *, ascii_only: bool) -> Text:
    """Return a bar of `share` in [0, 1] of the full width, to an eighth of a cell; at least one eighth, so that one image shows."""
    eighths = max(1, round(share * _BAR_WIDTH * 8))
    text = "#" * max(1, eighths // 8) if ascii_only else "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return Text(text, style="cyan")


def _short(name: str, width: int, *, ascii_only: bool) -> str:
    short = fit(name, width)
    return short.replace("…", "~") if ascii_only else short
