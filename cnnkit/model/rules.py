"""The rules of a trained model: its temperature, abstention, label sets, and the fingerprint of its data.

A model file holds them in its header, an exported file in its metadata. Every report of predictions applies them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import Fingerprint
from cnnkit.metrics.temperature import Calibration


class Rules(BaseModel):
    """The rules of a trained model; a rule that was not set is None.

    `temperature` divides the logits before softmax. `calibration` describes how the training fitted it. `abstention` and
    `label_sets` are set by ``cnnkit eval``, `fingerprint` by the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, gt=0)
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    label_sets: LabelSets | None = None
    fingerprint: Fingerprint | None = None

    @field_validator("calibration", mode="before")
    @classmethod
    def _restore_undefined_errors(cls, value: object) -> object:
        """Return a stored calibration with NaN for the undefined calibration errors, which JSON lacks."""
        if not isinstance(value, Mapping):
            return value
        stored = dict(cast("Mapping[str, Any]", value))
        for name in ("ece_before", "ece_after"):
            if isinstance(error := stored.get(name), Mapping):
                ends = cast("Mapping[str, Any]", error)
                stored[name] = {end: math.nan if ends.get(end) is None else ends[end] for end in ("value", "low", "high")}
        return stored


def to_metadata(rules: Rules) -> dict[str, str]:
    """Return the rules that are set as JSON texts, for a file whose metadata are text."""
    found = rules.model_dump(mode="json", include=set(Rules.model_fields), exclude_none=True)
    return {name: json.dumps(value) for name, value in found.items()}


def from_metadata(metadata: Mapping[str, str]) -> Rules:
    """Return the rules in the metadata of a file; raises `ValueError` for a rule that cannot be read."""
    return Rules.model_validate({name: json.loads(metadata[name]) for name in Rules.model_fields if name in metadata})
