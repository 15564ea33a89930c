"""Results of the checks: a `Finding` for each kind of problem, and the `Health` of the data as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cnnkit.errors import counted, shortened


class Severity(StrEnum):
    """The severity of a finding.

    ERROR: results would be wrong, or files are lost. WARNING: likely harm. NOTE: information, or a rare problem without effect.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


# In the order of the report: files, pictures, classes, copies, shortcuts, labels.
IDS = (
    "unreadable",
    "wrong-extension",
    "exif-rotated",
    "odd-mode",
    "tiny",
    "constant",
    "blurred",
    "odd-aspect",
    "imbalance",
    "small-class",
    "empty-class",
    "class-name-clash",
    "duplicate",
    "label-conflict",
    "near-conflict",
    "leak",
    "series",
    "companion-files",
    "shortcut",
    "label-suspect",
)
Files = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem, with an `id` of `IDS`.

    `files` holds a tuple of paths per case: one file, or all the copies of one picture. It is empty for problems of classes or of the
    data as a whole. `message` tells the number of cases, their treatment by cnnkit, and a remedy.
    """

    id: str
    severity: Severity
    files: Files
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding in the form of the JSON document."""
        return {"id": self.id, "severity": str(self.severity), "files": [list(case) for case in self.files], "message": self.message}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Finding:
        """Return the finding that `to_dict` turned into `value`."""
        return cls(value["id"], Severity(value["severity"]), tuple(map(tuple, value["files"])), value["message"])


@dataclass(frozen=True, repr=False)
class Health:
    """All findings, the number of `images` in total and per class, including unreadable images, and the `notes` of the source."""

    images: int
    classes: Mapping[str, int]
    findings: Sequence[Finding]
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        found = ", ".join(shortened(dict.fromkeys(finding.id for finding in self.findings))) or "none"
        return f"Health({counted(self.images)}, {len(self.classes)} classes, findings: {found})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of ``cnnkit doctor --json``."""
        return {
            "images": self.images,
            "classes": dict(self.classes),
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
        }
