"""Checks of the files: unreadable or misnamed files, rotated images, and unusual ways of storing pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

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
    rows = [row for row, facts in enumerate(evidence.facts) if facts.error]
    if not rows:
        return None
    reasons = Counter(evidence.facts[row].error for row in rows)
    said = enumerated([f"{reason} ({count:,})" for reason, count in reasons.most_common()])
    message = (
        f"{counted(len(rows), 'file')} ({share(len(rows), len(evidence.facts))}) cannot be read: {said}. "
        f"Training leaves them out; repair or delete them, or let training refuse them with --on-bad fail."
    )
    return Finding("unreadable", Severity.ERROR, evidence.one_each(rows), message)


def wrong_extension(evidence: Evidence) -> Finding | None:
    """Find files whose format differs from their suffix; a note, since the content decides."""
    rows = [row for row, facts in enumerate(evidence.facts) if _misnamed(evidence.records[row].path, facts)]
    if not rows:
        return None
    kinds = Counter(f"{evidence.facts[row].format} named {suffix_of(evidence.records[row].path)}" for row in rows)
    said = enumerated([f"{kind} ({count:,})" for kind, count in kinds.most_common()])
    message = (
        f"{counted(len(rows), 'file')} with the suffix of another format: {said}. "
        f"cnnkit reads them by content; rename them, since other programs may go by the name."
    )
    return Finding("wrong-extension", Severity.NOTE, evidence.one_each(rows), message)


def exif_rotated(evidence: Evidence) -> Finding | None:
    """Find images that are stored rotated or mirrored with an EXIF tag; a note, since cnnkit applies the tag."""
    rows = [row for row, facts in enumerate(evidence.facts) if facts.orientation != 1]
    if not rows:
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
    rows: list[int] = []
    for row, facts in enumerate(evidence.facts):
        found = [mode for mode in _MODES if mode.holds(facts)]
        kinds.update(found)
        if found:
            rows.append(row)
    if not rows:
        return None
    said = enumerated([f"{mode.name} ({count:,}: {mode.read})" for mode, count in kinds.most_common()], most=len(_MODES))
    message = (
        f"{counted(len(rows))} ({share(len(rows), len(evidence.facts))}) other than plain 8-bit RGB or gray: {said}. "
        f"Training and prediction read them by these rules; convert the files first if another rule is better."
    )
    return Finding("odd-mode", Severity.NOTE, evidence.one_each(rows), message)


def _misnamed(path: str, facts: Facts) -> bool:
    promised = _PROMISED.get(suffix_of(path))
    return bool(facts.format) and promised is not None and facts.format not in promised
