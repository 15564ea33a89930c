"""What a trained model's file says of its own limits: how sure it is, when not to answer, which labels are possible, what it has seen.

The model file keeps these in its header, an exported file in its metadata; whoever shows the model's answers obeys them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import Fingerprint
from cnnkit.metrics.temperature import Calibration


class Rules(BaseModel):
    """`abstention` and `label_sets` are set by ``cnnkit eval``, `fingerprint` by the training; None where nobody has.

    `temperature` divides the logits before softmax, and `calibration` says what it was fitted on by the training (None: it was not).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, gt=0)
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    label_sets: LabelSets | None = None
    fingerprint: Fingerprint | None = None


def to_metadata(rules: Rules) -> dict[str, str]:
    """Return each rule that is there as JSON, for a file whose metadata are text."""
    found = rules.model_dump(mode="json", include=set(Rules.model_fields), exclude_none=True)
    return {name: json.dumps(value) for name, value in found.items()}


def from_metadata(metadata: Mapping[str, str]) -> Rules:
    """Return the rules among the metadata of a file; raises `ValueError` for one that cannot be read."""
    return Rules.model_validate({name: json.loads(metadata[name]) for name in Rules.model_fields if name in metadata})
