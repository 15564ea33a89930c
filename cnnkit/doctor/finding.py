"""What a check says: one `Finding` per kind of trouble, and the `Health` that they make up together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad it is.

    ERROR: results would be wrong, or files are lost. WARNING: it likely harms. NOTE: good to know, or too rare to matter.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


# In the order in which they are reported: files, pictures, classes, copies, what a network might learn instead, labels.
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
    "class-name-clash",
    "duplicate",
    "label-conflict",
    "leak",
    "shortcut",
    "label-suspect",
)
Files = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of trouble, `id` of `IDS`.

    `files` holds a tuple of paths per case: one file, or all the copies of one picture. It is empty where the trouble is
    with classes or with the data as a whole. `message` says how many, what cnnkit does with them and what the user can do.
    """

    id: str
    severity: Severity
    files: Files
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        return {"id": self.id, "severity": str(self.severity), "files": [list(case) for case in self.files], "message": self.message}


@dataclass(frozen=True)
class Health:
    """All that was found: `images` counts every file, readable or not, `classes` those of each class; `notes` are the source's."""

    images: int
    classes: Mapping[str, int]
    findings: Sequence[Finding]
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``cnnkit doctor --json`` prints."""
        return {
            "images": self.images,
            "classes": dict(self.classes),
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
        }
