"""Results computed from a store and cached as small JSON files in its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnkit.files import read_json, whole_file

MAX_RESULTS = 16  # of one kind in a folder, for the last states of the images; the oldest result is removed


def cached_result(
    folder: Path | None, kind: str, key: Hashable, compute: Callable[[], dict[str, Any]], should_keep: Callable[[], bool] = lambda: True
) -> dict[str, Any]:
    """Return the result of `compute`, from the store's `folder` if an earlier call with the same `kind` and `key` left it there.

    The result passes through JSON. `key` must hold all that the result depends on, and its ``repr`` must be unique. Nothing is
    cached without a `folder`, or if `should_keep`, called after `compute`, returns False.
    """
    if folder is None:
        return compute()
    file = folder / f"{kind}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError):
        found = read_json(file)
        if isinstance(found, dict):
            return found
    result = compute()
    if not should_keep():
        return result
    with suppress(OSError):  # a full disk only costs another computation
        with whole_file(file) as part:
            part.write_text(json.dumps(result), "utf-8")
        remove_oldest(folder, f"{kind}-*")
    return result


def remove_oldest(folder: Path, pattern: str) -> None:
    """Remove the files of `folder` that match `pattern`, but for the `MAX_RESULTS` that were written last."""
    files = sorted(folder.glob(pattern), key=lambda file: -file.stat().st_mtime)
    for old in files[MAX_RESULTS:]:
        old.unlink(missing_ok=True)
