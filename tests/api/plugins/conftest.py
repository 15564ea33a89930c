"""Plugins loaded without another process, for tests of the checks that follow."""

from __future__ import annotations

import pytest

from cnnkit.api.plugins import check
from cnnkit.api.plugins.load_process import Loaded
from cnnkit.registry import Entry, load_problem


@pytest.fixture
def loaded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load plugins in this process, which is faster."""

    def load_here(entries: list[Entry], *, run: bool) -> list[Loaded]:
        return [Loaded(load_problem(entry.group, entry.full_name)) for entry in entries]

    monkeypatch.setattr(check, "load_apart", load_here)
