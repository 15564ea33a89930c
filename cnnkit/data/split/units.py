"""Units: images that are not independent of each other, since they are copies or of one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import Record
from cnnkit.data.split.duplicates import clusters, link_equal

NO_PAIRS = np.empty((0, 2), np.int64)
MAX_NAME_LENGTH = 16  # of a unit without a group: 64 bits of the hash, so that two of a billion units have one name with p < 0.03


def name_units(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64] = NO_PAIRS) -> list[str]:
    """Return the name of the unit of every record (N,): its smallest group, else the start of its smallest key.

    `keys` (N,) are hashes of the contents; records with equal keys, records of one group and the pairs `near` (P, 2) are linked. The
    names do not depend on the order of the records.
    """
    links = [near, link_equal(keys)]
    if any(record.group is not None for record in records):
        links.append(link_equal([record.group for record in records]))
    first = clusters(len(records), np.concatenate(links)).tolist()
    smallest: dict[int, tuple[bool, str]] = {}
    for record, key, unit in zip(records, keys, first, strict=True):
        name = (False, record.group) if record.group is not None else (True, key[:MAX_NAME_LENGTH])
        smallest[unit] = min(smallest.get(unit, name), name)
    return [smallest[unit][1] for unit in first]


def units_per_class(records: Sequence[Record], units: Sequence[str]) -> Counter[str]:
    """Return the number of units of every class; a unit with images of two classes counts in both."""
    return Counter(label for label, _ in {(record.label, unit) for record, unit in zip(records, units, strict=True)})
