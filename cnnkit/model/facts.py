"""Facts about a model file, read from its header without torch, so that a table of many files is fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.errors import ModelFileError
from cnnkit.files import open_regular, parse_json

_LENGTH_BYTES = 8  # hold the length of the header
_MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself
_DTYPES = frozenset(
    [
        "BOOL",
        "U8",
        "I8",
        "I16",
        "U16",
        "F16",
        "BF16",
        "I32",
        "U32",
        "F32",
        "F64",
        "I64",
        "U64",
        "C64",
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "F8_E4M3",
        "F8_E5M2",
        "F8_E8M0",
    ]
)
_MAX_DIMENSIONS = 64  # of a tensor in torch
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm: measured, not learned


@dataclass(frozen=True)
class ModelFileFacts:
    """The header and the sizes of a safetensors file.

    `header` is cnnkit's header, None for bare weights. `parameters` is the number of learned values, `statistics` the number
    of values that BatchNorm has measured. `tensors` is the number of tensors, `bytes` the size of the file.
    """

    header: dict[str, Any] | None
    parameters: int
    statistics: int
    tensors: int
    dtypes: tuple[str, ...]
    bytes: int


def read_facts(path: Path) -> ModelFileFacts:
    """Return the facts in the header of the safetensors file `path`; raises `ModelFileError` if it cannot be read."""
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            entries = parse_json(file.read(length).decode("utf-8"), finite=True) if 0 < length <= _MAX_HEADER_BYTES else None
        size = path.stat().st_size
        if not isinstance(entries, dict):
            raise ModelFileError(f"{path}: not a safetensors file; expected a best.safetensors written by cnnkit train")
        text = entries.pop("__metadata__", {}).get("cnnkit")
        header: Any = parse_json(text, finite=True) if text else None
        if not isinstance(header, dict | None):
            raise ModelFileError(f"{path}: its header is no JSON object; expected a best.safetensors written by cnnkit train")
        _check_places(entries, size)
        numbers = {name: _count(entry["shape"], 2 * size) for name, entry in entries.items()}
        dtypes = {str(entry["dtype"]) for name, entry in entries.items() if not name.endswith(_STATISTICS)}
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: not a complete safetensors file ({type(error).__name__}: {error})") from None
    statistics = sum(number for name, number in numbers.items() if name.endswith(_STATISTICS))
    return ModelFileFacts(header, sum(numbers.values()) - statistics, statistics, len(numbers), tuple(sorted(dtypes)), size)


def _check_places(entries: dict[str, Any], size: int) -> None:
    """Raise `ValueError` for a tensor of an unknown type or beyond the `size` of the file."""
    for name, entry in entries.items():
        start, end = entry["data_offsets"]
        if entry["dtype"] not in _DTYPES or not 0 <= start <= end <= size:
            raise ValueError(f"the tensor {name!r:.60} has an unknown type, or lies beyond the file")


def _count(shape: object, limit: int) -> int:
    """Return the number of values of a tensor; raises `ValueError` for a shape of no tensor, or of more than `limit` values."""
    if not isinstance(shape, list) or not all(isinstance(edge, int) and 0 <= edge <= limit for edge in shape):
        raise ValueError(f"a shape is {shape!r:.60}")
    count = math.prod(shape) if len(shape) <= _MAX_DIMENSIONS else limit + 1
    if count > limit:
        raise ValueError(f"a tensor of shape {shape!r:.60} is larger than the file")
    return count
