"""Numbers as text: shares in percent, and estimates with their 95 % intervals."""

from __future__ import annotations

import math

from cnnkit.errors import counted
from cnnkit.metrics.comparison_verdict import signed
from cnnkit.metrics.intervals import Estimate

UNDEFINED = "-"


def images_text(n: int, units: int | None = None, split: str = "") -> str:
    """Return a number of images and, where they are fewer, of their units: ``201 test images of 53 units``."""
    of_units = "" if units is None or units == n else f" of {counted(units, 'unit')}"
    return f"{counted(n, f'{split} image'.lstrip())}{of_units}"


def percent(share: float) -> str:
    """Return a share in [0, 1] as percent with one decimal and without the percent sign; ``-`` if it is undefined."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:.1f}"


def share_cells(estimate: Estimate) -> tuple[str, str]:
    """Return a share and its interval for two columns: ``97.1 %``, ``[96.0, 98.0]``."""
    if math.isnan(estimate.value):
        return UNDEFINED, UNDEFINED
    return f"{percent(estimate.value)} %", f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def share_text(estimate: Estimate, unit: str = " %") -> str:
    """Return a share with its interval: ``97.1 % [96.0, 98.0]``."""
    if math.isnan(estimate.value):
        return UNDEFINED
    return f"{percent(estimate.value)}{unit} {share_cells(estimate)[1]}"


def number_cells(estimate: Estimate) -> tuple[str, str]:
    """Return a number with three decimals and its interval for two columns."""
    if math.isnan(estimate.value):
        return UNDEFINED, UNDEFINED
    interval = f"[{estimate.low:.3f}, {estimate.high:.3f}]" if math.isfinite(estimate.low) else UNDEFINED
    return f"{estimate.value:.3f}", interval


def gain_cells(difference: Estimate, *, scale: float = 1.0, digits: int = 3, unit: str = "") -> tuple[str, str]:
    """Return a signed difference, multiplied by `scale` and with `unit`, and its interval for two columns."""
    value = f"{signed(scale * difference.value, digits)}{unit}"
    if math.isnan(difference.low):
        return value, UNDEFINED
    return value, f"[{signed(scale * difference.low, digits)}, {signed(scale * difference.high, digits)}]"
