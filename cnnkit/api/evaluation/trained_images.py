"""The lookup of images among those of a run: by content, and as near copies where the thumbnails of the run are in the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cnnkit.data.source import SPLITS, TRAIN, VAL
from cnnkit.data.split.duplicates import METHOD_VERSION, near_pairs_between
from cnnkit.data.store.cached_results import cached_result
from cnnkit.data.store.facts import Measured, measure
from cnnkit.data.store.scan import Scan
from cnnkit.data.store.store import Store, stores_of
from cnnkit.errors import listed, verb

BY_CONTENT, BY_NEAR_COPIES = "sha256", "near copies"
ROLES = {TRAIN: "", VAL: ", which chose the epoch and fitted the temperature"}


class Origin(NamedTuple):
    """The image of a run that another image repeats: its `split`, and True if the other image is only a `near` copy."""

    split: str
    near: bool = False


class RunImage(NamedTuple):
    """An image in the split.csv of a run; `unit` is empty in the files of older versions."""

    path: str
    label: str
    split: str
    sha256: str
    unit: str


@dataclass(frozen=True)
class RunImages:
    """All images of the run `name`, whose source was at `location`."""

    name: str
    location: str
    images: tuple[RunImage, ...]

    def by_content(self, splits: Collection[str] = SPLITS) -> dict[str, RunImage]:
        """Return the images of `splits` by their content; of equal contents, one in train wins, then one in val."""
        ordered = sorted((image for image in self.images if image.split in splits), key=lambda image: -SPLITS.index(image.split))
        return {image.sha256: image for image in ordered}


@dataclass(frozen=True)
class Lookup:
    """The result of a lookup: the number of `images`, and the `origins` of those that repeat an image of the run `name`.

    `included` is True if the repeated images are measured nevertheless. `by` names the methods of the lookup, `notes` their limits.
    """

    name: str
    images: int
    origins: tuple[Origin, ...]
    by: tuple[str, ...] = (BY_CONTENT,)
    included: bool = False
    notes: tuple[str, ...] = ()

    def count(self, split: str, *, near: bool = False) -> int:
        """Return the number of images that repeat an image of `split`, or are near copies of one."""
        return self.origins.count(Origin(split, near))

    def sentence(self) -> str:
        """Return the numbers in words, such as ``3 of 20 images were used to train 001-custom-cnn: 3 are in its train split``."""
        counted = [(self.count(split), "", f"in its {split} split{role}") for split, role in ROLES.items()]
        counted += [(near, "a near copy " if near == 1 else "near copies ", f"of its {split} images") for split, near in self._near()]
        parts = [f"{number:,} {verb(number, 'is', 'are')} {kind}{text}" for number, kind, text in counted if number]
        return f"{len(self.origins):,} of {self.images:,} images were used to train {self.name}: {'; '.join(parts)}"

    def _near(self) -> list[tuple[str, int]]:
        return [(split, self.count(split, near=True)) for split in ROLES]

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``lookup`` of metrics.json."""
        exact, near = ({split: self.count(split, near=is_near) for split in SPLITS} for is_near in (False, True))
        return {"run": self.name, "images": self.images, "exact": exact, "near": near, "included": self.included, "by": list(self.by)}


def look_up(
    run: RunImages, found: Scan, rows: Sequence[int], splits: Collection[str] = (TRAIN, VAL)
) -> tuple[dict[int, Origin], tuple[str, ...], tuple[str, ...]]:
    """Return the origin of every row of `rows` in the scan `found` that repeats an image of `splits`, the methods, and notes.

    A near copy counts only in a class whose images differ: where most near copies of the run itself are in different units, as on a
    conveyor, the images are merely alike.
    """
    known = run.by_content(splits)
    content = dict(zip(rows, found.facts.hashes.take(np.array(rows, np.int64)), strict=True))  # empty for an unreadable image
    origins = {row: Origin(known[content[row]].split) for row in rows if content[row] in known}
    own = run.by_content()
    rest = [row for row in rows if content[row] and content[row] not in own]
    if not rest or not known:
        return origins, (BY_CONTENT, BY_NEAR_COPIES), ()
    pictures = _pictures(known, (found, *stores_of(run.location)))
    if not pictures.facts:
        return origins, (BY_CONTENT,), ("near copies were not looked up: the decoded images of the run are no longer in the cache",)
    first = {content[row]: row for row in rest}
    near, alike = _near_copies(found, list(first.values()), pictures, known)
    origins |= {row: Origin(known[near[content[row]]].split, near=True) for row in rest if content[row] in near}
    notes = []
    if len(pictures.facts) < len(known):
        notes.append(
            f"near copies were looked up among {len(pictures.facts):,} of {len(known):,} images; the others are no longer in the cache"
        )
    if alike:
        notes.append(f"near copies were not looked up in {listed(alike)}, whose images are all alike")
    return origins, (BY_CONTENT, BY_NEAR_COPIES), tuple(notes)


def _pictures(wanted: Collection[str], scans: Iterable[Scan | Store]) -> Measured:
    """Return the facts, thumbnails and looks of those of the `wanted` contents that the scans hold."""
    missing = set(wanted)
    blocks = [measure([])]
    for scan in scans:
        rows = {content: row for row, content in enumerate(scan.facts.hashes) if content in missing}
        blocks.append(_chosen(scan, list(rows.values())))
        missing -= rows.keys()
        if not missing:
            break
    facts = [item for block in blocks for item in block.facts]
    return Measured(facts, np.concatenate([block.thumbnails for block in blocks]), np.concatenate([block.looks for block in blocks]))


def _chosen(scan: Scan | Store, rows: Sequence[int]) -> Measured:
    chosen = list(rows)
    return Measured([scan.facts[row] for row in chosen], scan.thumbnails[chosen], scan.looks[chosen])


def _near_copies(found: Scan, rows: Sequence[int], pictures: Measured, known: Mapping[str, RunImage]) -> tuple[dict[str, str], list[str]]:
    """Return the content of the run that each row of `found` is a near copy of, by the row's content, and the classes that are alike."""
    given, contents = [found.facts[row].sha256 for row in rows], [facts.sha256 for facts in pictures.facts]

    def compute() -> dict[str, Any]:
        across, within = near_pairs_between(_chosen(found, rows), pictures)
        total: Counter[str] = Counter()
        apart: Counter[str] = Counter()
        for first, second in within:
            one, other = known[contents[int(first)]], known[contents[int(second)]]
            if one.unit and other.unit:
                total[one.label] += 1
                apart[one.label] += one.unit != other.unit
        alike = sorted(label for label in total if 2 * apart[label] > total[label])
        pairs = [(given[int(row)], contents[int(column)]) for row, column in across]
        pairs = [(content, origin) for content, origin in pairs if known[origin].label not in alike]
        best = sorted(pairs, key=lambda pair: -SPLITS.index(known[pair[1]].split))  # a copy of an image in train wins
        return {"near": dict(best), "alike": alike}

    digest = hashlib.sha256("\n".join((*given, "", *contents, *(known[each].split + known[each].unit for each in contents))).encode())
    result = cached_result(found.folder, "trained", (METHOD_VERSION, digest.hexdigest()), compute)
    return result["near"], result["alike"]
