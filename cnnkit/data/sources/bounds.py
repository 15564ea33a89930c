"""Limits on the unpacked size of an archive, against crafted archives that would fill memory or disk."""

from __future__ import annotations

MEGA = 1_000_000
# Limit of one file in an archive. The decoder takes 100 megapixels, 400 MB of uncompressed RGBA, and would refuse a larger file. Each
# reading thread may hold one file.
MAX_BYTES = 512 * MEGA
# Photographs shrink by a few percent, uncompressed drawings by a factor of 10 to 50; deflate's limit is 1,032. Small files may be
# blank and are harmless, so the ratio counts only above 10 MB.
MAX_RATIO, MIN_RATIO_BYTES = 200, 10 * MEGA


def refusal_reason(packed: int, size: int) -> str:
    """Return the reason to refuse unpacking `packed` bytes to `size` bytes, or an empty text."""
    if max(packed, size) > MAX_BYTES:
        return f"{max(packed, size) / MEGA:,.0f} MB, more than the limit of {MAX_BYTES // MEGA} MB"
    if size > MIN_RATIO_BYTES and size > MAX_RATIO * packed:
        return f"{packed / MEGA:,.2f} MB unpack to {size / MEGA:,.0f} MB, more than {MAX_RATIO}-fold: a decompression bomb, not an image"
    return ""
