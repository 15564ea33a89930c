"""Units: images that are not independent of each other, since they are copies or of one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Codes, Columns, RecordColumns, Rows, Texts
from cnnkit.data.source import Record
from cnnkit.data.split.duplicates import clusters, link_equal
from cnnkit.data.store.index import HashColumns

NO_PAIRS = np.empty((0, 2), np.int64)
MAX_NAME_LENGTH = 16  # of a unit without a group: 64 bits of the hash, so that two of a billion units have one name with p < 0.03


class HashNames(Columns[str]):
    """Names of units without groups: the start of a hash, of which 64 bits are stored; their order is that of the names."""

    def __init__(self, starts: NDArray[np.uint64]) -> None:
        self.starts = starts

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Rows) -> HashNames:
        """Return the names of the `rows` (n,)."""
        return HashNames(self.starts[rows])

    def block(self, start: int, stop: int) -> list[str]:
        """Return the names from `start` to `stop`."""
        return [f"{name:0{MAX_NAME_LENGTH}x}" for name in self.starts[start:stop].tolist()]


class Units(Columns[str]):
    """The unit of N images: `ids` (N,) are rows of the `names`, each of which stands once."""

    def __init__(self, ids: Rows, names: Columns[str]) -> None:
        self.ids, self.names = ids, names

    @classmethod
    def of(cls, units: Iterable[str]) -> Units:
        """Return the columns of the names `units` (N,)."""
        if isinstance(units, Units):
            return units
        codes = Codes.of(units)
        return cls(codes.codes.astype(np.int64), Texts.of(name or "" for name in codes.names))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Rows) -> Units:
        """Return the units of the `rows` (n,)."""
        return Units(self.ids[rows], self.names)

    def block(self, start: int, stop: int) -> list[str]:
        """Return the names from `start` to `stop`."""
        return list(self.names.take(self.ids[start:stop]))

    @property
    def ranks(self) -> NDArray[np.integer | np.unsignedinteger]:
        """Numbers (U,) in the order of the names."""
        if isinstance(self.names, HashNames):
            return self.names.starts
        ranks = np.empty(len(self.names), np.int64)
        names = list(self.names)
        ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return ranks


def name_units(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64] = NO_PAIRS) -> Units:
    """Return the unit of every record (N,), named by its smallest group, else by the start of its smallest key.

    `keys` (N,) are hashes of the contents; records with equal keys, records of one group and the pairs `near` (P, 2) are linked. The
    names do not depend on the order of the records.
    """
    groups = RecordColumns.of(records).groups
    links = [near, _link_contents(keys), *([_link_groups(groups)] if groups.present() != [None] else [])]
    first = clusters(len(records), np.concatenate(links))
    if isinstance(keys, HashColumns) and groups.present() == [None]:
        starts = keys.starts()
        np.minimum.at(starts, first, starts.copy())  # the first row of a unit gets the smallest
        names, ids = np.unique(starts[first], return_inverse=True)
        return Units(ids, HashNames(names))
    smallest: dict[int, tuple[bool, str]] = {}
    for group, key, unit in zip(groups, keys, first.tolist(), strict=True):
        name = (False, group) if group is not None else (True, key[:MAX_NAME_LENGTH])
        smallest[unit] = min(smallest.get(unit, name), name)
    return Units.of(smallest[unit][1] for unit in first.tolist())


def units_per_class(records: Sequence[Record], units: Sequence[str]) -> Counter[str]:
    """Return the number of units of every class; a unit with images of two classes counts in both."""
    return units_per_label(RecordColumns.of(records).labels, Units.of(units))


def units_per_label(labels: Codes, units: Units) -> Counter[str]:
    """Return the number of units of every label; `labels` and `units` (N,) belong to the images."""
    pairs = np.unique(labels.codes.astype(np.int64) * len(units.names) + units.ids)
    counts = np.bincount(pairs // max(1, len(units.names)), minlength=len(labels.names))
    return Counter({label or "": count for label, count in zip(labels.names, counts.tolist(), strict=True) if count})


def _link_contents(keys: Sequence[str]) -> Rows:
    """Return pairs (P, 2) that link the rows of each content, of which `keys` (N,) are the hashes."""
    if not isinstance(keys, HashColumns):
        return link_equal(keys)
    first = keys.first_rows()
    copies = np.flatnonzero(first != np.arange(len(first)))
    return np.stack([first[copies], copies], axis=1)


def _link_groups(groups: Codes) -> Rows:
    """Return pairs (P, 2) that link every row to the first row of its group."""
    named = np.flatnonzero(np.array([name is not None for name in groups.names])[groups.codes])
    codes = groups.codes[named]
    _, first, group = np.unique(codes, return_index=True, return_inverse=True)
    return np.stack([named[first[group]], named], axis=1)
