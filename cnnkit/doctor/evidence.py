"""Evidence for the checks: records and facts of every image, thumbnails, near copies and look-alikes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import Record
from cnnkit.data.sources.layout import natural_order
from cnnkit.data.split.duplicates import Copies, clusters, link_equal
from cnnkit.data.store.facts import Facts
from cnnkit.doctor.finding import Files

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Facts of N images, including unreadable images, with one row per image.

    `thumbnails` is uint8 (N, 16, 16, 3). `near` are near copies and look-alikes, without exact copies. `image_size` is the
    size in pixels of the network's input, or None if it is not known yet. `empty_classes` are class folders without an image, with
    their number of other files. `splits` holds the split of every image in a training, None for unreadable images; it is empty if
    the images cannot be split.
    """

    records: Sequence[Record]
    facts: Sequence[Facts]
    thumbnails: NDArray[np.uint8]
    near: Copies
    image_size: int | None = None
    empty_classes: Mapping[str, int] = field(default_factory=dict[str, int])
    splits: Sequence[str | None] = ()

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hex, of everything that the findings depend on; the other facts and the thumbnails follow from the contents."""
        images = [(*record, facts.sha256, facts.error) for record, facts in zip(self.records, self.facts, strict=True)]
        near = (self.near.pairs, self.near.same, self.near.alike, self.near.crowded)
        rest = (self.near.crowded_total, self.image_size, sorted(self.empty_classes.items()), list(self.splits))
        digest = hashlib.sha256(repr((images, [array.shape for array in near], rest)).encode("utf-8", "surrogateescape"))
        for array in near:
            digest.update(array.tobytes())
        return digest.hexdigest()

    @cached_property
    def readable(self) -> Rows:
        """The rows of readable images, ascending."""
        return np.flatnonzero([not facts.error for facts in self.facts])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in natural order."""
        return tuple(natural_order(sorted({record.label for record in self.records})))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image, (N,), as an index of `classes`."""
        index = {name: position for position, name in enumerate(self.classes)}
        return np.array([index[record.label] for record in self.records], np.int64)

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of images of each class, including unreadable images."""
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(size) for name, size in zip(self.classes, sizes, strict=True)}

    @cached_property
    def fixed_splits(self) -> frozenset[str]:
        """The splits of the source; empty if cnnkit splits."""
        return frozenset(record.split for record in self.records if record.split)

    @cached_property
    def copies(self) -> tuple[Rows, ...]:
        """Every set of at least two images that are exact or near copies of each other, directly or through other copies."""
        return tuple(rows for rows in _grouped(self.copy_of) if len(rows) > 1)

    @cached_property
    def same_pictures(self) -> tuple[Rows, ...]:
        """Every set of at least two images of the same picture: the same content, or re-encoded or resized."""
        return tuple(rows for rows in _grouped(self.same_of) if len(rows) > 1)

    @cached_property
    def alike(self) -> tuple[Rows, ...]:
        """Every pair of images that are alike but for details, and no copies of each other."""
        return tuple(pair for pair in self.near.alike if self.copy_of[pair[0]] != self.copy_of[pair[1]])

    @cached_property
    def cluster_ids(self) -> NDArray[np.int64]:
        """The cluster of every image, (N,): copies and images of one group share a cluster, since they are not independent."""
        groups = link_equal(record.group for record in self.records)
        return clusters(len(self.records), np.concatenate([link_equal(self.copy_of.tolist()), groups]))

    def only(self, rows: Rows) -> Evidence:
        """Return the evidence of the images `rows`, in ascending order, alone."""
        return replace(
            self,
            records=[self.records[row] for row in rows],
            facts=[self.facts[row] for row in rows],
            thumbnails=self.thumbnails[rows],
            near=self.near.among(rows, len(self.records)),
            splits=[self.splits[row] for row in rows] if self.splits else (),
        )

    def of(self, read: Callable[[Facts], float]) -> NDArray[np.float64]:
        """Return the fact that `read` takes from the facts of every image, float64 (N,)."""
        return np.array([read(facts) for facts in self.facts], np.float64)

    def paths(self, rows: Iterable[int] | Rows) -> tuple[str, ...]:
        """Return the paths of `rows`."""
        return tuple(self.records[int(row)].path for row in rows)

    def one_each(self, rows: Iterable[int] | Rows) -> Files:
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
        return link_equal(facts.sha256 or None for facts in self.facts)


def _grouped(keys: NDArray[np.int64]) -> list[Rows]:
    """Return the rows of each key, keys and rows ascending."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
