"""Facts about a model file, read from its header without torch, so that a table of many files is fast; its digests.

A model file holds two SHA-256 in its metadata: `TENSORS_DIGEST` of all bytes after the header, and `HEADER_DIGEST` of the header and
the length before it, with zeros in its own position.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.errors import DamagedFileError, ModelFileError
from cnnkit.files import open_regular, parse_json

HEADER_KEY, HEADER_DIGEST, TENSORS_DIGEST = "cnnkit", "header_sha256", "tensors_sha256"  # in the metadata
_NO_DIGEST = "0" * 64
_LENGTH_BYTES = 8  # hold the length of the header
_BLOCK_BYTES = 2**20  # read at once
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


def seal(content: bytes) -> tuple[bytes, memoryview]:
    """Return the header and the tensors of a safetensors file with metadata; the metadata gets the digests of both."""
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    tensors, entries = memoryview(content)[end:], json.loads(content[_LENGTH_BYTES:end])
    digests = {HEADER_DIGEST: _NO_DIGEST, TENSORS_DIGEST: hashlib.sha256(tensors).hexdigest()}
    metadata = {**entries.pop("__metadata__"), **digests}
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # tensors begin at a multiple of eight bytes
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return _with_digest(header, _NO_DIGEST, hashlib.sha256(header).hexdigest()), tensors


def _with_digest(header: bytes, old: str, new: str) -> bytes:
    """Replace the digest in the bytes of a header; a quotation mark inside of a value has a backslash, so only the key itself fits."""
    return header.replace(f'"{HEADER_DIGEST}":"{old}"'.encode(), f'"{HEADER_DIGEST}":"{new}"'.encode(), 1)


def check_digests(path: Path) -> None:
    """Raise `DamagedFileError` if the model file `path` differs from its digests; other files and those of older versions have none."""
    try:
        _read_entries(path, with_tensors=True)
    except (ValueError, TypeError, AttributeError):  # no safetensors file, which the reader of the tensors reports
        return


def _read_entries(path: Path, *, with_tensors: bool) -> dict[str, Any] | None:
    """Return the JSON header of the safetensors file `path`, None if it has no plausible length; check the digests."""
    with open_regular(path) as file:
        first = file.read(_LENGTH_BYTES)
        length = int.from_bytes(first, "little")
        if not 0 < length <= _MAX_HEADER_BYTES:
            return None
        header = file.read(length)
        entries = parse_json(header.decode("utf-8"), finite=True)
        digests = dict(entries.get("__metadata__", {}))
        has_header = digests.pop(HEADER_KEY, None) is not None
        if not digests or not (has_header or {HEADER_DIGEST, TENSORS_DIGEST} & digests.keys()):
            return entries
        if not has_header or digests.keys() != {HEADER_DIGEST, TENSORS_DIGEST}:
            raise _damaged(path)
        zeroed = _with_digest(first + header, digests[HEADER_DIGEST], _NO_DIGEST)
        if hashlib.sha256(zeroed).hexdigest() != digests[HEADER_DIGEST]:
            raise _damaged(path)
        if with_tensors:
            seen = hashlib.sha256()
            while block := file.read(_BLOCK_BYTES):
                seen.update(block)
            if seen.hexdigest() != digests[TENSORS_DIGEST]:
                raise _damaged(path)
    return entries


def _damaged(path: Path) -> DamagedFileError:
    return DamagedFileError(
        f"{path}: damaged, because its content differs from its own SHA-256; restore the file from a copy, or train again"
    )


def read_facts(path: Path, *, check_tensors: bool = False) -> ModelFileFacts:
    """Return the facts in the header of the safetensors file `path`, whose digest is checked; with `check_tensors`, read and check all.

    Raises `ModelFileError` if the file cannot be read or is damaged.
    """
    try:
        entries = _read_entries(path, with_tensors=check_tensors)
        size = path.stat().st_size
        if not isinstance(entries, dict):
            raise ModelFileError(f"{path}: not a safetensors file; expected a best.safetensors written by cnnkit train")
        text = entries.pop("__metadata__", {}).get(HEADER_KEY)
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
