"""How much an archive may make of a few bytes: what keeps a crafted one from filling memory or disk."""

from __future__ import annotations

MEGA = 1_000_000
# Of one file in an archive. The decoder takes 100 megapixels, which are 400 MB of uncompressed RGBA; a larger file is no image
# it would take, and each thread that reads may hold one.
MAX_BYTES = 512 * MEGA
# Photographs shrink by a few percent and drawings saved without compression about tenfold to fiftyfold; deflate's own limit is
# 1,032. Small files may be blank and are no danger, so the limit counts from 10 MB on.
MAX_RATIO, MIN_RATIO_BYTES = 200, 10 * MEGA


def refusal_reason(packed: int, size: int) -> str:
    """Return why `packed` bytes must not become `size` bytes, or an empty text."""
    if max(packed, size) > MAX_BYTES:
        return f"{max(packed, size) / MEGA:,.0f} MB, more than the limit of {MAX_BYTES // MEGA} MB"
    if size > MIN_RATIO_BYTES and size > MAX_RATIO * packed:
        return f"{packed / MEGA:,.2f} MB that claim to be {size / MEGA:,.0f} MB: more than {MAX_RATIO}-fold, which is no image but a bomb"
    return ""
