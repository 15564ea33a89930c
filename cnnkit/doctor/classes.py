"""What is wrong with the classes: sizes that differ, sizes too small to measure, names that clash."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from cnnkit.config.settings import DataConfig
from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, number, percent
from cnnkit.metrics.intervals import wilson

IMBALANCE_NOTE_RATIO = 3.0  # times the smallest class: from here the common classes set the accuracy
# Buda, Maki and Mazurowski 2018, "A systematic study of the class imbalance problem in convolutional neural networks": harm
# grows with the ratio, and drawing classes equally often was the best remedy in almost every case. They begin at ratio 10.
IMBALANCE_WARNING_RATIO = 10.0
# With 15 and 5 test images an accuracy of 90 % is known to within 16 and 27 percentage points (Wilson, 95 %).
NOTE_TEST_IMAGES, WARNING_TEST_IMAGES = 15, 5
_TYPICAL_ACCURACY = 0.9  # accuracy at which the interval of a small class is stated

# Letters that look like Latin ones, lower case: the Cyrillic and Greek ones that a keyboard of another language gives.
_LOOK_ALIKE_LETTERS = str.maketrans("асеорхуіјѕһԁԛԝкмтвнοανρτικυχε", "aceopxyijshdqwkmtbhoavptikuxe")


def imbalance(evidence: Evidence) -> Finding | None:
    """Find classes of very different sizes among the readable images to train on; recommends a ``--balance``."""
    rows = [row for row in evidence.readable if evidence.records[int(row)].split in {None, TRAIN}]
    sizes = np.bincount(evidence.labels[rows], minlength=len(evidence.classes))
    present = np.flatnonzero(sizes)
    if len(present) < 2:  # noqa: PLR2004 (one class has nothing to differ from)
        return None
    most, least = int(present[sizes[present].argmax()]), int(present[sizes[present].argmin()])
    ratio = sizes[most] / sizes[least]
    if ratio < IMBALANCE_NOTE_RATIO:
        return None
    grave = ratio >= IMBALANCE_WARNING_RATIO
    largest, smallest = evidence.classes[most], evidence.classes[least]
    remedy = "--balance sampler draws the classes equally often" if grave else "--balance weights makes rare classes count more"
    message = (
        f"{largest!r} has {ratio:,.1f} times as many images as {smallest!r} ({sizes[most]:,} and {sizes[least]:,}); "
        f"always answering {largest!r} would be right for {percent(sizes[most] / sizes.sum())}. "
        f"{remedy}; judge by macro-F1, not by accuracy."
    )
    return Finding("imbalance", Severity.WARNING if grave else Severity.NOTE, (), message)


def small_class(evidence: Evidence) -> Finding | None:
    """Find classes that leave too few images to measure them, or none at all for one of the splits."""
    lacking = _cannot_be_split(evidence)
    if lacking:
        return Finding("small-class", Severity.ERROR, (), lacking)
    tested = _tested(evidence)
    few = {name: count for name, count in tested.items() if count < NOTE_TEST_IMAGES}
    if not few:
        return None
    worst = min(few, key=lambda name: few[name])
    interval = wilson(_TYPICAL_ACCURACY * few[worst], few[worst])
    message = (
        f"{number(len(few), 'class', 'classes')} to be measured on fewer than {NOTE_TEST_IMAGES} images; on the fewest, {worst!r}, on "
        f"{few[worst]}, which tells its accuracy to within ±{100 * (interval.high - interval.low) / 2:.0f} percentage points. "
        f"Collect more, or leave it out with --classes."
    )
    return Finding("small-class", Severity.WARNING if few[worst] < WARNING_TEST_IMAGES else Severity.NOTE, (), message)


def class_name_clash(evidence: Evidence) -> Finding | None:
    """Find class names that may mean the same; a case is one image of each of them, to compare."""
    alike = _clashes(evidence.classes, _skeleton)
    plurals = [names for names in _clashes(evidence.classes, lambda name: _singular(_skeleton(name))) if names not in alike]
    if not alike and not plurals:
        return None
    first: dict[str, str] = {}
    for record in evidence.records:
        first.setdefault(record.label, record.path)
    clashes = [*alike, *plurals]
    named = enumerated([" and ".join(_spelled(names)) for names in clashes])
    kind = "differ only in case, separators or look-alike letters" if alike else "look like singular and plural"
    message = f"Class names that {kind}: {named}. Kept apart; if they mean the same, give their images one name."
    cases = tuple(tuple(first[name] for name in names) for names in clashes)
    return Finding("class-name-clash", Severity.WARNING if alike else Severity.NOTE, cases, message)


def _cannot_be_split(evidence: Evidence) -> str:
    """Say which classes training would refuse, or never see; empty if there are none."""
    sizes = {split: np.zeros(len(evidence.classes), np.int64) for split in (None, *SPLITS)}
    for row in evidence.readable:
        sizes[evidence.records[int(row)].split][evidence.labels[row]] += 1
    total = np.sum(list(sizes.values()), axis=0)
    if TRAIN in evidence.fixed_splits:
        unseen = [name for name, size, seen in zip(evidence.classes, total, sizes[TRAIN] + sizes[None], strict=True) if size and not seen]
        if unseen:
            return (
                f"No readable image to train on, only some to measure by: {enumerated([repr(name) for name in unseen])}. "
                f"Add training images, or leave the class out with --classes."
            )
        return ""
    shares = [portion for portion in DataConfig().split if portion]
    small = [f"{name!r} ({size})" for name, size in zip(evidence.classes, total, strict=True) if size < len(shares)]
    if not small:
        return ""
    return (
        f"Too few readable images for train, val and test, so that training refuses: {enumerated(small)}. "
        f"Add images, or leave the class out with --classes."
    )


def _tested(evidence: Evidence) -> dict[str, int]:
    """How many images of each class the score will rest on: the test split, else val, else what the default split takes."""
    rows = [int(row) for row in evidence.readable]
    split = next((split for split in (TEST, VAL) if split in evidence.fixed_splits), None)
    portion = 1.0 if split else DataConfig().split[-1]
    kept = [row for row in rows if split is None or evidence.records[row].split == split]
    sizes = np.bincount(evidence.labels[kept], minlength=len(evidence.classes))
    return {name: max(int(split is None), round(portion * int(size))) for name, size in zip(evidence.classes, sizes, strict=True)}


def _clashes(names: Iterable[str], key: Callable[[str], str]) -> list[tuple[str, ...]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _skeleton(name: str) -> str:
    """Return what is left of a name when case, accents' encoding, separators and look-alike letters are evened out."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_LOOK_ALIKE_LETTERS)
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", plain).strip() or name  # between letters only: -1 is not 1


def _singular(name: str) -> str:
    """Take an English plural ending off; good enough to ask a question."""
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if name.endswith(ending) and not name.endswith("ss") and len(name) > len(ending) + 1:
            return name.removesuffix(ending) + singular
    return name


def _spelled(names: Iterable[str]) -> list[str]:
    """Quote names; those with letters beyond ASCII also letter by letter, or they would look equal."""
    return [repr(name) if name.isascii() else f"{name!r} ({ascii(name)[1:-1]})" for name in names]
