"""Images of a source that ``--exclude`` leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from cnnkit.data.columns import RecordColumns
from cnnkit.data.source import Record, Source, StoredImage, empty_classes, one_form, stamps_of
from cnnkit.errors import DataError, counted, listed


@dataclass(frozen=True)
class _PartialSource:
    """A source without some of its images."""

    whole: Source
    records: RecordColumns
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
    records = RecordColumns.of(source.records)
    is_kept = np.ones(len(records), np.bool_)
    for pattern in exclude:
        matched = np.fromiter((fnmatchcase(one_form(path), pattern) for path in records.paths), np.bool_, len(records))
        if not matched.any():
            example = records[0].path if records else "none"
            raise DataError(
                f"--exclude {pattern}: no image of {source.name} has such a path, in which * stands for any text; the first is {example!r}"
            )
        is_kept &= ~matched
    kept = records.take(np.flatnonzero(is_kept))
    if not kept:
        raise DataError(f"--exclude {','.join(exclude)}: leaves no image of {source.name}; name the images that are no photographs alone")
    lost = sorted(set(records.labels.present()) - set(kept.labels.present()), key=str)
    classes = f", among them all images of {listed(map(repr, lost))}" if lost else ""
    left_out = counted(len(records) - len(kept), "image was", "images were")
    note = f"{left_out} left out by --exclude{classes}"
    return _PartialSource(source, kept, (*source.notes, note))
