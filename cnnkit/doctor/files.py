"""Checks of the files: unreadable or misnamed files, rotated images, and unusual ways of storing pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnkit.data.sources.layout import suffix_of
from cnnkit.data.store.facts import Facts
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, share
from cnnkit.errors import counted

# The formats of each suffix. Cameras write MPO, a JPEG with a second picture, as .jpg. HEIF is the container of AVIF.
_PROMISED: dict[str, frozenset[str]] = {
    suffix: frozenset(formats.split())
    for formats, suffixes in (
        ("JPEG MPO", ".jpg .jpeg .jpe .jfif .mpo"),
        ("PNG", ".png .apng"),
        ("GIF", ".gif"),
        ("BMP DIB", ".bmp .dib"),
        ("WEBP", ".webp"),
        ("TIFF", ".tif .tiff"),
        ("AVIF", ".avif .heif .heic"),
        ("PPM", ".ppm .pgm .pbm .pnm"),
        ("JPEG2000", ".jp2 .j2k"),
    )
    for suffix in suffixes.split()
}


def unreadable(evidence: Evidence) -> Finding | None:
    """Find files that cannot be decoded, and count the reasons."""
    rows = np.flatnonzero(~evidence.facts.readable)
    if not len(rows):
        return None
    reasons = Counter(evidence.facts.take(rows).codes("error"))
    said = enumerated([f"{reason} ({count:,})" for reason, count in reasons.most_common()])
    message = (
        f"{counted(len(rows), 'file')} ({share(len(rows), len(evidence.facts))}) cannot be read: {said}. "
        f"Training leaves them out; repair or delete them, or let training refuse them with --on-bad fail."
    )
    return Finding("unreadable", Severity.ERROR, evidence.one_each(rows), message)


def wrong_extension(evidence: Evidence) -> Finding | None:
    """Find files whose format differs from their suffix; a note, since the content decides."""
    formats = evidence.facts.codes("format")
    rows = [row for row, (path, kind) in enumerate(zip(evidence.records.paths, formats, strict=True)) if _misnamed(path, kind)]
    if not rows:
        return None
    kinds = Counter(f"{formats[row]} named {suffix_of(path)}" for row, path in zip(rows, evidence.paths(rows), strict=True))
    said = enumerated([f"{kind} ({count:,})" for kind, count in kinds.most_common()])
    message = (
        f"{counted(len(rows), 'file')} with the suffix of another format: {said}. "
        f"cnnkit reads them by content; rename them, since other programs may go by the name."
    )
    return Finding("wrong-extension", Severity.NOTE, evidence.one_each(rows), message)


def exif_rotated(evidence: Evidence) -> Finding | None:
    """Find images that are stored rotated or mirrored with an EXIF tag; a note, since cnnkit applies the tag."""
    rows = np.flatnonzero(evidence.facts.column("orientation") != 1)
    if not len(rows):
        return None
    message = (
        f"{counted(len(rows))} ({share(len(rows), len(evidence.facts))}) stored rotated or mirrored, with an EXIF tag. "
        f"Training and prediction turn them upright; programs that ignore the tag do not."
    )
    return Finding("exif-rotated", Severity.NOTE, evidence.one_each(rows), message)


@dataclass(frozen=True)
class _Mode:
    """A way of storing pixels, its treatment in `cnnkit.data.image`, and a test for it."""

    name: str
    read: str
    holds: Callable[[Facts], bool]


_MODES = (
    _Mode("16-bit gray", "scaled to 8 bits", lambda facts: facts.mode.startswith("I")),
    _Mode("CMYK", "converted to RGB without its colour profile", lambda facts: facts.mode == "CMYK"),
    _Mode(
        "with transparency",
        "dropped: the colours beneath it show",
        lambda facts: facts.mode in {"RGBA", "RGBa", "LA", "La", "PA"},
    ),
    _Mode("with several frames or pages", "the first is used", lambda facts: facts.animated and facts.format != "MPO"),
    _Mode("in another colour space", "converted to RGB", lambda facts: facts.mode in {"LAB", "HSV", "YCbCr"}),
)


def odd_mode(evidence: Evidence) -> Finding | None:
    """Find images that are not plain 8-bit gray or RGB; a note that tells how each kind is read."""
    kinds: Counter[_Mode] = Counter()
    stored = np.stack([evidence.facts.column(name) for name in ("mode", "format", "animated")])
    _, first, way, counts = np.unique(stored, axis=1, return_index=True, return_inverse=True, return_counts=True)
    is_odd = np.zeros(len(first), np.bool_)
    for number in np.argsort(first).tolist():  # the ways of storing in the order of their first image
        facts = evidence.facts[int(first[number])]
        for mode in _MODES:
            if mode.holds(facts):
                kinds[mode] += int(counts[number])
                is_odd[number] = True
    rows = np.flatnonzero(is_odd[way])
    if not len(rows):
        return None
    said = enumerated([f"{mode.name} ({count:,}: {mode.read})" for mode, count in kinds.most_common()], most=len(_MODES))
    message = (
        f"{counted(len(rows))} ({share(len(rows), len(evidence.facts))}) other than plain 8-bit RGB or gray: {said}. "
        f"Training and prediction read them by these rules; convert the files first if another rule is better."
    )
    return Finding("odd-mode", Severity.NOTE, evidence.one_each(rows), message)


def _misnamed(path: str, kind: str | None) -> bool:
    """Return True if the suffix of `path` promises another format than `kind`."""
    promised = _PROMISED.get(suffix_of(path))
    return bool(kind) and promised is not None and kind not in promised
