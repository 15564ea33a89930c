"""The worker of a search: the process that trains a trial."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from cnnkit.run_dir.owner import Owner


@dataclass(frozen=True)
class Worker:
    """A process that trains trials; its `token` differs from that of every other worker, also of the same process later."""

    owner: Owner
    token: str

    @classmethod
    def this_process(cls) -> Self:
        """Return a new worker of the present process."""
        return cls(Owner.this_process(), uuid.uuid4().hex)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"token": self.token, **self.owner.model_dump()}

    @classmethod
    def from_dict(cls, value: object) -> Self | None:
        """Return the worker that `to_dict` gave; None for any other value."""
        if not isinstance(value, Mapping):
            return None
        with suppress(ValidationError):
            return cls(Owner.model_validate(dict(value)), str(value.get("token", "")))
        return None
