"""Evidence for the checks: records and facts of every image, thumbnails, near copies and look-alikes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Codes, RecordColumns
from cnnkit.data.sources.layout import natural_order
from cnnkit.data.split.duplicates import Copies, clusters, link_equal
from cnnkit.data.store.index import FactColumns
from cnnkit.data.store.store import Mapped, rows_of
from cnnkit.doctor.finding import Files

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Facts of N images, including unreadable images, with one row per image.

    `thumbnails` are uint8 (N, 16, 16, 3). `near` are near copies and look-alikes, without exact copies. `image_size` is the
    size in pixels of the network's input, or None if it is not known yet. `empty_classes` are class folders without an image, with
    their number of other files. `splits` holds the split of every image in a training, None for unreadable images; it is empty if
    the images cannot be split.
    """

    records: RecordColumns
    facts: FactColumns
    thumbnails: Mapped
    near: Copies
    image_size: int | None = None
    empty_classes: Mapping[str, int] = field(default_factory=dict[str, int])
    splits: Codes = field(default_factory=lambda: Codes.of(()))

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hex, of everything that the findings depend on; the other facts and the thumbnails follow from the contents."""
        near = (self.near.pairs, self.near.same, self.near.alike, self.near.crowded)
        rest = (self.near.crowded_total, self.image_size, sorted(self.empty_classes.items()))
        digest = hashlib.sha256(repr(([array.shape for array in near], rest)).encode("utf-8", "surrogateescape"))
        for record, content in zip(self.records, self.facts.hashes, strict=True):
            digest.update(repr((*record, content)).encode("utf-8", "surrogateescape"))
        for row in np.flatnonzero(~self.facts.readable).tolist():
            digest.update(repr((row, self.facts[row].error)).encode("utf-8", "surrogateescape"))
        for split in self.splits:
            digest.update(repr(split).encode())
        for array in near:
            digest.update(array.tobytes())
        return digest.hexdigest()

    @cached_property
    def readable(self) -> Rows:
        """The rows of readable images, ascending."""
        return np.flatnonzero(self.facts.readable)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in natural order."""
        return tuple(natural_order(sorted(label or "" for label in self.records.labels.present())))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image, (N,), as an index of `classes`."""
        index = {name: position for position, name in enumerate(self.classes)}
        labels = self.records.labels
        return np.array([index.get(name or "", -1) for name in labels.names], np.int64)[labels.codes]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of images of each class, including unreadable images."""
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(size) for name, size in zip(self.classes, sizes, strict=True)}

    @cached_property
    def fixed_splits(self) -> frozenset[str]:
        """The splits of the source; empty if cnnkit splits."""
        return frozenset(split for split in self.records.splits.present() if split)

    @cached_property
    def copies(self) -> tuple[Rows, ...]:
        """Every set of at least two images that are exact or near copies of each other, directly or through other copies."""
        return tuple(repeated_rows(self.copy_of))

    @cached_property
    def same_pictures(self) -> tuple[Rows, ...]:
        """Every set of at least two images of the same picture: the same content, or re-encoded or resized."""
        return tuple(repeated_rows(self.same_of))

    @cached_property
    def alike(self) -> tuple[Rows, ...]:
        """Every pair of images that are alike but for details, and no copies of each other."""
        return tuple(pair for pair in self.near.alike if self.copy_of[pair[0]] != self.copy_of[pair[1]])

    @cached_property
    def cluster_ids(self) -> NDArray[np.int64]:
        """The cluster of every image, (N,): copies and images of one group share a cluster, since they are not independent."""
        copies = np.stack([self.copy_of, np.arange(len(self.records))], axis=1)
        return clusters(len(self.records), np.concatenate([copies, link_equal(self.records.groups)]))

    def only(self, rows: Rows) -> Evidence:
        """Return the evidence of the images `rows`, in ascending order, alone."""
        return replace(
            self,
            records=self.records.take(rows),
            facts=self.facts.take(rows),
            thumbnails=rows_of(self.thumbnails, rows),
            near=self.near.among(rows, len(self.records)),
            splits=self.splits.take(rows) if self.splits else self.splits,
        )

    def of(self, name: str) -> NDArray[np.float64]:
        """Return the number `name` of the facts of every image, float64 (N,)."""
        return self.facts.column(name).astype(np.float64)

    def paths(self, rows: Sequence[int] | Rows) -> tuple[str, ...]:
        """Return the paths of `rows`."""
        return tuple(self.records.paths.take(np.asarray(rows, np.int64)))

    def one_each(self, rows: Sequence[int] | Rows) -> Files:
        """Return one case for each of `rows`."""
        return tuple((path,) for path in self.paths(rows))

    @cached_property
    def copy_of(self) -> NDArray[np.int64]:
        """The set of copies of every image, (N,), numbered by its first row."""
        return clusters(len(self.records), np.concatenate([self._exact, self.near.pairs]))

    @cached_property
    def same_of(self) -> NDArray[np.int64]:
        """The set of images of the same picture of every image, (N,), numbered by its first row."""
        return clusters(len(self.records), np.concatenate([self._exact, self.near.pairs[self.near.same]]))

    @cached_property
    def _exact(self) -> NDArray[np.int64]:
        return np.stack([self.facts.hashes.first_rows(), np.arange(len(self.facts))], axis=1)


def repeated_rows(keys: NDArray[np.int64]) -> list[Rows]:
    """Return the rows of each key that at least two rows have, keys and rows ascending."""
    rows = np.flatnonzero(np.bincount(keys)[keys] > 1) if len(keys) else np.empty(0, np.int64)
    if not len(rows):
        return []
    order = rows[np.argsort(keys[rows], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
