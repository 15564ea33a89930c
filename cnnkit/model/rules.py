"""The rules of a trained model: its temperature, abstention, label sets, and the fingerprint of its data.

A model file holds them in its header, an exported file in its metadata. Every report of predictions applies them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cnnkit.files import parse_json
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import Fingerprint
from cnnkit.metrics.temperature import Calibration

MAX_COUNT = 2**53  # a JSON number of other programs holds no larger count


class Rules(BaseModel):
    """The rules of a trained model; a rule that was not set is None.

    `temperature` divides the logits before softmax. `calibration` describes how the training fitted it. `abstention` and
    `label_sets` are set by ``cnnkit eval``, `fingerprint` by the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
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

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        """Refuse thresholds and shares outside of [0, 1], counts below 0, and a fingerprint whose parts do not fit together."""
        shares: list[float] = []
        counts: list[int] = []
        if rule := self.abstention:
            shares += [rule.threshold, rule.risk, rule.bound, rule.confidence, rule.coverage]
            counts += [rule.answered, rule.errors, rule.n]
        if sets := self.label_sets:
            shares += [sets.threshold, sets.coverage]
            counts += [sets.n]
        if fitted := self.calibration:
            counts += [fitted.n]
            if not all(map(math.isfinite, (fitted.temperature, fitted.loss_before, fitted.loss_after))):
                raise ValueError("calibration: temperature and losses must be numbers")
        if known := self.fingerprint:
            counts += [known.n, *(count for table in known.counts for row in table for count in row)]
            _check_fingerprint(known)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("abstention, label_sets: thresholds and shares must lie between 0 and 1")
        if not all(0 <= count < MAX_COUNT for count in counts):
            raise ValueError(f"counts must lie between 0 and {MAX_COUNT}")
        return self

    def check_classes(self, classes: int) -> None:
        """Raise `ValueError` if the fingerprint has another number of `classes`."""
        if self.fingerprint and any(len(table) != classes for table in self.fingerprint.counts):
            raise ValueError(f"fingerprint: its tables must have {classes} classes")


def _check_fingerprint(known: Fingerprint) -> None:
    """Raise `ValueError` unless each feature has ascending edges, a table of counts with a bin more in each row, and a range, if any."""
    if not len(known.features) == len(known.edges) == len(known.counts):
        raise ValueError("fingerprint: features, edges and counts must have the same length")
    if known.ranges and len(known.ranges) != len(known.features):
        raise ValueError("fingerprint: each feature must have a range, or none")
    if not all(math.isfinite(low) and math.isfinite(high) and low <= high for low, high in known.ranges):
        raise ValueError("fingerprint: a range must be two ascending numbers")
    for edges, table in zip(known.edges, known.counts, strict=True):
        if not all(map(math.isfinite, edges)) or any(one > other for one, other in pairwise(edges)):
            raise ValueError("fingerprint: edges must be ascending numbers")
        if any(len(row) != len(edges) + 1 for row in table):
            raise ValueError("fingerprint: a row must have a count for each bin")


def to_metadata(rules: Rules) -> dict[str, str]:
    """Return the rules that are set as JSON texts, for a file whose metadata are text."""
    found = rules.model_dump(mode="json", include=set(Rules.model_fields), exclude_none=True)
    return {name: json.dumps(value) for name, value in found.items()}


def from_metadata(metadata: Mapping[str, str]) -> Rules:
    """Return the rules in the metadata of a file; raises `ValueError` for a rule that cannot be read."""
    return Rules.model_validate({name: parse_json(metadata[name]) for name in Rules.model_fields if name in metadata})
