"""Checks of the classes: unequal sizes, sizes too small to measure, and names that clash."""

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
from cnnkit.doctor.wording import enumerated, percent
from cnnkit.errors import counted, verb
from cnnkit.metrics.proportion import wilson

IMBALANCE_NOTE_RATIO = 3.0  # of the largest to the smallest class; above it the large classes dominate the accuracy
# Buda, Maki and Mazurowski 2018, "A systematic study of the class imbalance problem in convolutional neural networks", start at ratio
# 10. The harm grows with the ratio, and drawing classes equally often was the best remedy in almost every case.
IMBALANCE_WARNING_RATIO = 10.0
# With 15 and 5 test images an accuracy of 90 % is known to within 16 and 27 percentage points (Wilson, 95 %).
NOTE_TEST_IMAGES, WARNING_TEST_IMAGES = 15, 5
_TYPICAL_ACCURACY = 0.9  # the accuracy whose interval is stated for a small class

# Lower-case Cyrillic and Greek letters that look like Latin letters.
_LOOK_ALIKE_LETTERS = str.maketrans("асеорхуіјѕһԁԛԝкмтвнοανρτικυχε", "aceopxyijshdqwkmtbhoavptikuxe")


def imbalance(evidence: Evidence) -> Finding | None:
    """Find classes of very different sizes among the readable training images, and recommend a ``--balance``."""
    rows = np.flatnonzero(evidence.facts.readable & evidence.records.splits.isin({None, TRAIN}))
    sizes = np.bincount(evidence.labels[rows], minlength=len(evidence.classes))
    present = np.flatnonzero(sizes)
    if len(present) < 2:  # noqa: PLR2004 (a ratio needs two classes)
        return None
    most, least = int(present[sizes[present].argmax()]), int(present[sizes[present].argmin()])
    ratio = sizes[most] / sizes[least]
    if ratio < IMBALANCE_NOTE_RATIO:
        return None
    grave = ratio >= IMBALANCE_WARNING_RATIO
    largest, smallest = evidence.classes[most], evidence.classes[least]
    remedy = "--balance sampler draws the classes equally often" if grave else "--balance weights gives rare classes more weight"
    message = (
        f"{largest!r} has {ratio:,.1f} times as many images as {smallest!r} ({sizes[most]:,} and {sizes[least]:,}); "
        f"the constant prediction {largest!r} would be right for {percent(sizes[most] / sizes.sum())}. "
        f"{remedy}; judge by macro-F1, not by accuracy."
    )
    return Finding("imbalance", Severity.WARNING if grave else Severity.NOTE, (), message)


def small_class(evidence: Evidence) -> Finding | None:
    """Find classes with too few images for a measurement, or for every split."""
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
        f"{counted(len(few), 'class', 'classes')} with fewer than {NOTE_TEST_IMAGES} images for the evaluation. {worst!r} has the fewest, "
        f"{few[worst]}: its accuracy is known to within ±{100 * (interval.high - interval.low) / 2:.0f} percentage points. "
        f"Collect more, or leave it out with --classes."
    )
    return Finding("small-class", Severity.WARNING if few[worst] < WARNING_TEST_IMAGES else Severity.NOTE, (), message)


def empty_class(evidence: Evidence) -> Finding | None:
    """Find class folders without an image, which no training sees; folders with other files alone are a note."""
    if not evidence.empty_classes:
        return None
    empty = [name for name, files in evidence.empty_classes.items() if not files]
    named = enumerated(
        [
            repr(name) + (f" (only {counted(files, 'file')} of other kinds)" if files else "")
            for name, files in evidence.empty_classes.items()
        ]
    )
    count = len(evidence.empty_classes)
    message = (
        f"{counted(count, 'class folder')} without an image: {named}. "
        f"The training knows no such {verb(count, 'class', 'classes')}; add images, or delete the {verb(count, 'folder', 'folders')}."
    )
    return Finding("empty-class", Severity.WARNING if empty else Severity.NOTE, (), message)


def class_name_clash(evidence: Evidence) -> Finding | None:
    """Find class names that may mean the same; a case is one image of each class."""
    alike = _clashes(evidence.classes, _skeleton)
    plurals = [names for names in _clashes(evidence.classes, lambda name: _singular(_skeleton(name))) if names not in alike]
    if not alike and not plurals:
        return None
    first = dict(zip(evidence.classes, evidence.paths(np.unique(evidence.labels, return_index=True)[1]), strict=True))
    clashes = [*alike, *plurals]
    named = enumerated([" and ".join(_spelled(names)) for names in clashes])
    kind = "differ only in case, separators or look-alike letters" if alike else "look like singular and plural"
    message = f"Class names that {kind}: {named}. They stay separate classes; if they mean the same, move their images into one."
    cases = tuple(tuple(first[name] for name in names) for names in clashes)
    return Finding("class-name-clash", Severity.WARNING if alike else Severity.NOTE, cases, message)


def _cannot_be_split(evidence: Evidence) -> str:
    """Return a message on classes that training would refuse or never see, or an empty text."""
    readable, splits = evidence.facts.readable, evidence.records.splits
    counts = {split: evidence.labels[readable & splits.isin({split})] for split in (None, *SPLITS)}
    sizes = {split: np.bincount(labels, minlength=len(evidence.classes)) for split, labels in counts.items()}
    total = np.sum(list(sizes.values()), axis=0)
    if TRAIN in evidence.fixed_splits:
        unseen = [name for name, size, seen in zip(evidence.classes, total, sizes[TRAIN] + sizes[None], strict=True) if size and not seen]
        if unseen:
            return (
                f"Classes with readable images in val or test but none in train: {enumerated([repr(name) for name in unseen])}. "
                f"Add training images, or leave the class out with --classes."
            )
        return ""
    shares = [portion for portion in DataConfig().split if portion]
    small = [f"{name!r} ({size})" for name, size in zip(evidence.classes, total, strict=True) if size < len(shares)]
    if not small:
        return ""
    return (
        f"Classes with too few readable images for train, val and test: {enumerated(small)}. Training refuses them. "
        f"Add images, or leave the class out with --classes."
    )


def _tested(evidence: Evidence) -> dict[str, int]:
    """Return the number of images of each class in the evaluation: in test, else in val, else in the test share of the default split."""
    split = next((split for split in (TEST, VAL) if split in evidence.fixed_splits), None)
    portion = 1.0 if split else DataConfig().split[-1]
    kept = evidence.facts.readable & (split is None or evidence.records.splits.isin({split}))
    sizes = np.bincount(evidence.labels[kept], minlength=len(evidence.classes))
    return {name: max(int(split is None), round(portion * int(size))) for name, size in zip(evidence.classes, sizes, strict=True)}


def _clashes(names: Iterable[str], key: Callable[[str], str]) -> list[tuple[str, ...]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _skeleton(name: str) -> str:
    """Return a name without differences in case, encoding of accents, separators and look-alike letters."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_LOOK_ALIKE_LETTERS)
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", plain).strip() or name  # only between letters: -1 is not 1


def _singular(name: str) -> str:
    """Return the singular of an English plural, good enough for a note."""
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if name.endswith(ending) and not name.endswith("ss") and len(name) > len(ending) + 1:
            return name.removesuffix(ending) + singular
    return name


def _spelled(names: Iterable[str]) -> list[str]:
    """Return quoted names; names that are not ASCII also get their escapes, since they may look equal."""
    return [repr(name) if name.isascii() else f"{name!r} ({ascii(name)[1:-1]})" for name in names]
