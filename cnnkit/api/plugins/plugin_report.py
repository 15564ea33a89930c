"""The results of the checks of one plugin, made inside the fence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from cnnkit.errors import CnnkitError, PluginError, cut
from cnnkit.registry import Entry, fence, reason
from cnnkit.testing import ArchitectureCheckError

MAX_PROBLEM_LENGTH = 300  # characters of a reason; errors of torch.export have pages


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
            self.results.append(CheckResult(check, ok=False, problem=shortened(error.problem), remedy=error.remedy))
        except CnnkitError as error:
            self.results.append(CheckResult(check, ok=False, problem=shortened(_first_reason(error)), remedy=remedy))
        else:
            self.results.append(CheckResult(check, ok=True, note=note or ""))


def _first_reason(error: CnnkitError) -> str:
    """Return the message of `error`, or the reason of the first error behind it: torch.export wraps an error in pages of advice."""
    cause: BaseException | None = error.__cause__ if isinstance(error, PluginError) else None
    while cause is not None and cause.__cause__ is not None and not isinstance(cause.__cause__, CnnkitError):
        cause = cause.__cause__
    return str(error) if cause is None or isinstance(cause, CnnkitError) else reason(cause)


def shortened(text: str) -> str:
    """Return `text` on one line, cut to `MAX_PROBLEM_LENGTH`."""
    return cut(" ".join(text.split()), MAX_PROBLEM_LENGTH)
