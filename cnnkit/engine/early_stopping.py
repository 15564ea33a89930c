"""Which epoch is the best, and when waiting for a better one is over."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

LOWER_IS_BETTER = frozenset({"val_loss"})


@dataclass
class EarlyStopping:
    """Remembers the best value of `monitor` and for how many epochs it has stood.

    Better means strictly better by more than `min_delta`; ties, NaN and infinity are never best. `patience` 0 never stops.
    """

    monitor: str
    patience: int
    min_delta: float = 0.0
    best_epoch: int = 0
    best_value: float = math.nan
    waited: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Take in one epoch's `value`; return whether it is the best so far."""
        better = math.isfinite(value) and (math.isnan(self.best_value) or self._gain(value) > self.min_delta)
        if better:
            self.best_epoch, self.best_value, self.waited = epoch, value, 0
        else:
            self.waited += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.waited

    def to_dict(self) -> dict[str, object]:
        """Return the state as plain values; ``EarlyStopping(**state)`` restores it."""
        return asdict(self)

    def _gain(self, value: float) -> float:
        return self.best_value - value if self.monitor in LOWER_IS_BETTER else value - self.best_value
