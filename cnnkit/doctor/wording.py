"""Wording of the findings: shares and enumerations."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.errors import shortened

_MIN_SHOWN_SHARE = 0.001  # a smaller share is "below 0.1 %", not "0.0 %"
_MAX_DECIMAL_SHARE = 0.1  # a smaller share gets a decimal


def share(part: float, whole: float) -> str:
    """Return ``3.2 %``, or ``below 0.1 %`` for a smaller share."""
    ratio = part / whole if whole else 0.0
    if 0 < ratio < _MIN_SHOWN_SHARE:
        return "below 0.1 %"
    return f"{ratio:.1%}".replace("%", " %") if ratio < _MAX_DECIMAL_SHARE else percent(ratio)


def percent(ratio: float) -> str:
    """Return ``42 %``."""
    return f"{100 * ratio:.0f} %"


def enumerated(words: Sequence[str], most: int = 4) -> str:
    """Return ``a, b and c``, or, for more than `most` words, ``a, b, c and 7 more``."""
    words = words if len(words) <= most else shortened(words, most - 1)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
