"""Results computed from a store and cached as small JSON files in its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnkit.files import whole_file


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
        found = json.loads(file.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    result = compute()
    if not should_keep():
        return result
    with suppress(OSError), whole_file(file) as part:  # a full disk only costs another computation
        part.write_text(json.dumps(result), "utf-8")
    return result
