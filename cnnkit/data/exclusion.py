"""Images of a source that ``--exclude`` leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cnnkit.data.source import Record, Source, StoredImage, empty_classes, one_form, stamps_of
from cnnkit.errors import DataError, counted, listed


@dataclass(frozen=True)
class _PartialSource:
    """A source without some of its images."""

    whole: Source
    records: tuple[Record, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def empty_classes(self) -> Mapping[str, int]:
        return empty_classes(self.whole)

    def read(self, record: Record) -> StoredImage:
        return self.whole.read(record)

    def stamp(self, record: Record) -> str:
        return self.whole.stamp(record)

    def stamp_all(self, records: Sequence[Record]) -> Iterable[str]:
        return stamps_of(self.whole, records)


def leave_out(source: Source, exclude: Sequence[str]) -> Source:
    """Return `source` without the images whose path matches a pattern of `exclude`, such as ``*_mask.png``; ``*`` matches ``/`` too.

    Without patterns it is `source` itself. Raises `DataError` if a pattern matches no image, or the patterns match all.
    """
    if not exclude:
        return source
    kept = list(source.records)
    for pattern in exclude:
        matched = [record for record in source.records if fnmatchcase(one_form(record.path), pattern)]
        if not matched:
            example = source.records[0].path if source.records else "none"
            raise DataError(
                f"--exclude {pattern}: no image of {source.name} has such a path, in which * stands for any text; the first is {example!r}"
            )
        gone = set(matched)
        kept = [record for record in kept if record not in gone]
    if not kept:
        raise DataError(f"--exclude {','.join(exclude)}: leaves no image of {source.name}; name the images that are no photographs alone")
    lost = sorted({record.label for record in source.records} - {record.label for record in kept})
    classes = f", among them all images of {listed(map(repr, lost))}" if lost else ""
    left_out = counted(len(source.records) - len(kept), "image was", "images were")
    note = f"{left_out} left out by --exclude{classes}"
    return _PartialSource(source, tuple(kept), (*source.notes, note))
