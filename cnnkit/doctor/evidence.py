"""What the checks look at: records and facts of every image, thumbnails, and pairs of near copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import Record
from cnnkit.data.sources.layout import natural_order
from cnnkit.data.split.duplicates import clusters, link_equal
from cnnkit.data.store.facts import Facts
from cnnkit.doctor.finding import Files

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Evidence:
    """N images, unreadable ones too: all of these have a row each, in one order.

    `thumbnails` is uint8 (N, 16, 16, 3); `near` is int64 (P, 2), pairs of rows that are near copies and not exact ones;
    `image_size` is the side in pixels of what the network will see, or None if that is not known yet.
    """

    records: Sequence[Record]
    facts: Sequence[Facts]
    thumbnails: NDArray[np.uint8]
    near: NDArray[np.int64]
    image_size: int | None = None

    @cached_property
    def readable(self) -> Rows:
        """The rows of images that can be read, ascending."""
        return np.flatnonzero([not facts.error for facts in self.facts])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted as people do."""
        return tuple(natural_order(sorted({record.label for record in self.records})))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image, (N,), as an index of `classes`."""
        index = {name: position for position, name in enumerate(self.classes)}
        return np.array([index[record.label] for record in self.records], np.int64)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many images each class has, unreadable ones too."""
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(size) for name, size in zip(self.classes, sizes, strict=True)}

    @cached_property
    def fixed_splits(self) -> frozenset[str]:
        """The splits that the source has decided on; empty where cnnkit splits."""
        return frozenset(record.split for record in self.records if record.split)

    @cached_property
    def copies(self) -> tuple[Rows, ...]:
        """Every set of two or more images that are copies of each other, exact or near, directly or by way of a third."""
        return tuple(rows for rows in _grouped(self._copy_of) if len(rows) > 1)

    @cached_property
    def cluster_ids(self) -> NDArray[np.int64]:
        """A number per image, (N,), shared by copies and by images of one group: no two of them are independent witnesses."""
        groups = link_equal(record.group for record in self.records)
        return clusters(len(self.records), np.concatenate([link_equal(self._copy_of.tolist()), groups]))

    def of(self, read: Callable[[Facts], float]) -> NDArray[np.float64]:
        """Return a fact of every image as float64 (N,)."""
        return np.array([read(facts) for facts in self.facts], np.float64)

    def paths(self, rows: Iterable[int] | Rows) -> tuple[str, ...]:
        """Return the paths of some rows."""
        return tuple(self.records[int(row)].path for row in rows)

    def one_each(self, rows: Iterable[int] | Rows) -> Files:
        """Return every row as a case of its own."""
        return tuple((path,) for path in self.paths(rows))

    @cached_property
    def _copy_of(self) -> NDArray[np.int64]:
        exact = link_equal(facts.sha256 or None for facts in self.facts)
        return clusters(len(self.records), np.concatenate([exact, self.near.reshape(-1, 2)]))


def _grouped(keys: NDArray[np.int64]) -> list[Rows]:
    """Return the rows of each key, keys and rows ascending."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
