"""What a model file says of itself, read without torch and without building anything: for tables of many files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.errors import ModelFileError

_LENGTH = 8  # bytes that say how long the header is
_LONGEST = 100_000_000  # bytes: what safetensors itself reads at most
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm: measured, not learned


@dataclass(frozen=True)
class ModelFacts:
    """The header and the sizes of a safetensors file.

    `header` is cnnkit's, None for bare weights. `parameters` counts the numbers that are learned, `statistics` those that BatchNorm
    has measured, of so many `tensors`; `bytes` is the size of the file.
    """

    header: dict[str, Any] | None
    parameters: int
    statistics: int
    tensors: int
    dtypes: tuple[str, ...]
    bytes: int


def read_facts(path: Path) -> ModelFacts:
    """Return what the header of the safetensors file `path` says; raises `ModelFileError` if there is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH), "little")
            entries = json.loads(file.read(length)) if 0 < length <= _LONGEST else None
        size = path.stat().st_size
        if not isinstance(entries, dict):
            raise ModelFileError(f"{path}: not a safetensors file; expected a best.safetensors written by cnnkit train")
        text = entries.pop("__metadata__", {}).get("cnnkit")
        header: Any = json.loads(text) if text else None
        if not isinstance(header, dict | None):
            raise ModelFileError(f"{path}: its header is no JSON object; expected a best.safetensors written by cnnkit train")
        numbers = {name: math.prod(entry["shape"]) for name, entry in entries.items()}
        dtypes = {str(entry["dtype"]) for name, entry in entries.items() if not name.endswith(_STATISTICS)}
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: not a whole safetensors file ({type(error).__name__}: {error})") from None
    statistics = sum(number for name, number in numbers.items() if name.endswith(_STATISTICS))
    return ModelFacts(header, sum(numbers.values()) - statistics, statistics, len(numbers), tuple(sorted(dtypes)), size)
