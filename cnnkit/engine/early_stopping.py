"""Early stopping: the best epoch so far, and the patience for a better one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

LOWER_IS_BETTER = frozenset({"val_loss"})


@dataclass
class EarlyStopping:
    """The best value of the metric `monitor` so far, and the number of epochs since then.

    A value is better only if it beats the best by more than `min_delta`; ties, NaN and infinity are never best.
    `patience` is the number of epochs without a better value that end a training; 0 never ends it. `best_epoch` is 0 before
    the first finite value, and also if epoch 0, the start, is the best: `has_best` tells them apart.
    """

    monitor: str
    patience: int
    min_delta: float = 0.0
    best_epoch: int = 0
    best_value: float = math.nan
    waited: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Record the `value` of an epoch; return whether it is the best so far."""
        better = math.isfinite(value) and (not self.has_best or self._gain(value) > self.min_delta)
        if better:
            self.best_epoch, self.best_value, self.waited = epoch, value, 0
        else:
            self.waited += 1
        return better

    @property
    def has_best(self) -> bool:
        """Whether any epoch had a finite value."""
        return not math.isnan(self.best_value)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.waited

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain values; ``EarlyStopping(**fields)`` restores the object."""
        return asdict(self)

    def _gain(self, value: float) -> float:
        return self.best_value - value if self.monitor in LOWER_IS_BETTER else value - self.best_value
