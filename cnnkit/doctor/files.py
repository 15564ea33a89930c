"""What the files themselves say: unreadable, misnamed, turned, or stored in a way that is read by a rule one should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cnnkit.data.sources.layout import suffix_of
from cnnkit.data.store.facts import Facts
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, number, share

# What each ending promises. A name without one of these promises nothing. Cameras write MPO, a JPEG with a second picture,
# as .jpg; HEIF is the container of AVIF.
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
    """Find files that cannot be decoded; the reasons are counted, the most frequent first."""
    rows = [row for row, facts in enumerate(evidence.facts) if facts.error]
    if not rows:
        return None
    reasons = Counter(evidence.facts[row].error for row in rows)
    said = enumerated([f"{reason} ({count:,})" for reason, count in reasons.most_common()])
    message = (
        f"{number(len(rows), 'file')} ({share(len(rows), len(evidence.facts))}) cannot be read: {said}. "
        f"Left out of training; repair or delete, or let training refuse with --on-bad fail."
    )
    return Finding("unreadable", Severity.ERROR, evidence.one_each(rows), message)


def wrong_extension(evidence: Evidence) -> Finding | None:
    """Find files whose content is of another format than their ending says; a note, since the content decides."""
    rows = [row for row, facts in enumerate(evidence.facts) if _misnamed(evidence.records[row].path, facts)]
    if not rows:
        return None
    kinds = Counter(f"{evidence.facts[row].format} named {suffix_of(evidence.records[row].path)}" for row in rows)
    said = enumerated([f"{kind} ({count:,})" for kind, count in kinds.most_common()])
    message = (
        f"{number(len(rows), 'file')} with the ending of another format: {said}. "
        f"Read by content here; other programs may go by the name, so better rename."
    )
    return Finding("wrong-extension", Severity.NOTE, evidence.one_each(rows), message)


def exif_rotated(evidence: Evidence) -> Finding | None:
    """Find images stored turned or mirrored, with an EXIF tag that says so; a note, since the tag is followed."""
    rows = [row for row, facts in enumerate(evidence.facts) if facts.orientation != 1]
    if not rows:
        return None
    message = (
        f"{number(len(rows))} ({share(len(rows), len(evidence.facts))}) stored turned or mirrored, with an EXIF tag. "
        f"Turned upright in training and prediction alike; a program that ignores the tag would not."
    )
    return Finding("exif-rotated", Severity.NOTE, evidence.one_each(rows), message)


@dataclass(frozen=True)
class _Mode:
    """A way of storing pixels, and how `cnnkit.data.image` reads it."""

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
    """Find images that are more or other than 8-bit gray or colour; a note that says how each kind is read."""
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
        f"{number(len(rows))} ({share(len(rows), len(evidence.facts))}) other than plain 8-bit RGB or gray: {said}. "
        f"Read so in training and prediction alike; if another rule suits better, convert the files first."
    )
    return Finding("odd-mode", Severity.NOTE, evidence.one_each(rows), message)


def _misnamed(path: str, facts: Facts) -> bool:
    promised = _PROMISED.get(suffix_of(path))
    return bool(facts.format) and promised is not None and facts.format not in promised
