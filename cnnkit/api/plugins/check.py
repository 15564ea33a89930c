"""The check of one plugin: a table of promises, each kept or broken with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from cnnkit.api.plugins.load_process import load_apart
from cnnkit.errors import CnnkitError, PluginError
from cnnkit.registry import ARCHITECTURES, EXPORTERS, SOURCES, TRACKERS, Entry, choose, fence, find, reason, standing
from cnnkit.testing import ArchitectureCheckError

MAX_PROBLEM_LENGTH = 600  # characters of a reason; errors of torch.export have pages


@dataclass(frozen=True)
class CheckResult:
    """One row of the table: `ok` is None if the check was not made, because one that it needs failed.

    `problem` and `remedy` describe a failure; `note` holds what a passed check measured.
    """

    check: str
    ok: bool | None
    problem: str = ""
    remedy: str = ""
    note: str = ""


@dataclass
class PluginReport:
    """The results of all checks of one plugin."""

    name: str
    group: str
    package: str = ""
    version: str = ""
    results: list[CheckResult] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """The names of the failed checks."""
        return [result.check for result in self.results if result.ok is False]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``plugins check --json``."""
        return {**asdict(self), "passed": not self.failed}

    def passed(self, check: str) -> bool:
        """Return True if `check` was made and passed."""
        return any(result.check == check and result.ok for result in self.results)

    def make(self, check: str, body: Callable[[], str | None], entry: Entry, *, needs: Iterable[str] = (), remedy: str = "") -> None:
        """Add the row of a `check`: run its `body`, which calls the plugin inside the fence and may return a note.

        The row fails for every error of the body. Without the checks that it `needs`, the body does not run.
        """
        if missing := [need for need in needs if not self.passed(need)]:
            self.results.append(CheckResult(check, None, f"not made, as it needs {' and '.join(map(repr, missing))}"))
            return
        try:
            with fence(entry, "failed"):
                note = body()
        except ArchitectureCheckError as error:
            self.results.append(CheckResult(check, ok=False, problem=_shortened(error.problem), remedy=error.remedy))
        except CnnkitError as error:
            cause = error.__cause__ if isinstance(error, PluginError) else None
            text = reason(cause) if cause is not None and not isinstance(cause, CnnkitError) else str(error)
            self.results.append(CheckResult(check, ok=False, problem=_shortened(text), remedy=remedy))
        else:
            self.results.append(CheckResult(check, ok=True, note=note or ""))


GroupChecks = Callable[[PluginReport, Entry, str], None]


def check_plugin(name: str, group: str = ARCHITECTURES) -> PluginReport:
    """Check the plugin `name` of `group` through the code that a command would use, and return a report with a row per check.

    Raises `PluginError` if no package provides the name.
    """
    family = name.partition("/")[0]
    rivals = find(group).get(family, [])
    if len(rivals) > 1 and not any(rival.is_builtin for rival in rivals):
        report = PluginReport(name, group)
        _, why = standing(rivals[0], rivals)
        remedy = f"to check one of them: cnnkit plugins check {rivals[0].full_name}"
        report.results.append(CheckResult("name", ok=False, problem=f"{rivals[0].origin} has this name, but {why}", remedy=remedy))
        return report
    entry = choose(group, family)
    report = PluginReport(name, group, entry.package, entry.version)
    report.results.append(CheckResult("name", ok=True, note=entry.value))
    [loaded] = load_apart([entry], run=True)
    cut = (loaded.problem or "").removeprefix(f"{entry.kind} {family!r} of {entry.origin} ").removeprefix("does not load: ")
    report.results.append(CheckResult("loads", ok=not cut, problem=_shortened(cut), remedy=_load_remedy(entry) if cut else ""))
    if not cut:
        problem = f"writes {loaded.printed!r} to stdout, which is for the results of commands" if loaded.printed else ""
        remedy = "remove the print, or use logging" if problem else ""
        report.results.append(CheckResult("stdout", ok=not problem, problem=problem, remedy=remedy))
        _checks_of(group)(report, entry, name)
    return report


def _load_remedy(entry: Entry) -> str:
    module, _, attribute = entry.value.partition(":")
    return f"{module} must import and define {attribute}, as the entry point {entry.value} says; try: python -c 'import {module}'"


def _checks_of(group: str) -> GroupChecks:
    from cnnkit.api.plugins import architecture_checks, group_checks

    chosen: dict[str, GroupChecks] = {
        ARCHITECTURES: architecture_checks.check,
        SOURCES: group_checks.check_source,
        EXPORTERS: group_checks.check_exporter,
        TRACKERS: group_checks.check_tracker,
    }
    return chosen.get(group, group_checks.check_value)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_PROBLEM_LENGTH else f"{text[: MAX_PROBLEM_LENGTH - 1]}…"
