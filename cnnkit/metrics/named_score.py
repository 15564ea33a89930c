"""The score of a metric of another package, with its interval and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnkit.metrics.proportion import Estimate


@dataclass(frozen=True)
class NamedScore:
    """The `estimate` of a metric that the user named by `text`; `package`, `version` and `options` are its origin."""

    text: str
    summary: str
    package: str
    version: str
    options: Mapping[str, bool | int | float | str]
    estimate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the object below ``metrics`` in metrics.json."""
        origin = {"summary": self.summary, "package": self.package, "version": self.version, "options": dict(self.options)}
        return {**self.estimate.to_dict(), **origin}
