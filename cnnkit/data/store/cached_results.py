"""What was worked out of a store once and would come out the same again: a small JSON file in its folder, which goes with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnkit.files import whole_file


def remembered(
    folder: Path | None, kind: str, asked: Hashable, work: Callable[[], dict[str, Any]], keep: Callable[[], bool] = lambda: True
) -> dict[str, Any]:
    """Return what `work` gives, or gave before for the same `asked`, as JSON keeps it.

    `folder` is that of the store, None if there is none; then nothing is remembered, and neither where `keep`, asked after the work,
    says no. `asked` must hold all that the answer depends on, and have a ``repr`` that tells one from another.
    """
    if folder is None:
        return work()
    file = folder / f"{kind}-{hashlib.sha256(repr(asked).encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    answer = work()
    if not keep():
        return answer
    with suppress(OSError), whole_file(file) as part:  # a full disk costs only that it is worked out again
        part.write_text(json.dumps(answer), "utf-8")
    return answer
