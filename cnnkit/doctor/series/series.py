"""The check for series: the rules that hold, their expression for ``--group-by``, and the series in several splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.candidates import describe
from cnnkit.data.split.duplicates import link_equal
from cnnkit.data.split.grouping import path_pattern
from cnnkit.doctor.evidence import Evidence, repeated_rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.series.alike import MIN_SAMPLES, NO_WINS, Vectors, Wins, compare
from cnnkit.doctor.series.names import Rule, group_by, rules_of
from cnnkit.doctor.wording import percent
from cnnkit.errors import counted, verb

MIN_CLASS_SERIES = 3  # one each for train, val and test; fewer cannot be split
MIN_COVERAGE = 0.2  # of the images of a rule that must stand in a series of at least two
WINS_TOLERANCE = 0.03  # of rules that hold about equally, the one with the longest series keeps the most together
MAX_JUDGED_ROWS = 20_000  # the first images, whose names and similarity decide for all; more would take seconds
BATCH_ROWS = 4096  # thumbnails that are described at a time: 13 MB of floats
MAX_BURST_SECONDS = 3.0  # between two pictures of a burst


@dataclass(frozen=True, eq=False)
class Series:
    """The series (N,) of N images, an expression for ``--group-by`` or an empty text, and the evidence."""

    of_image: NDArray[np.int64]
    pattern: str
    wins: Wins


@dataclass(frozen=True, eq=False)
class _Held:
    """A rule whose series are alike, with the evidence."""

    rule: Rule
    wins: Wins


def series(evidence: Evidence) -> Finding | None:
    """Find images that belong together, such as frames of a video or pictures of a burst, and stand in several splits."""
    if not evidence.records.groups.isin({None}).all():
        return None
    rows = evidence.readable
    paths = evidence.records.paths.take(rows)
    taken = evidence.of("taken")[rows]
    folders = _split_folders(evidence)
    found = find_series(paths, evidence.labels[rows], evidence.thumbnails[rows[:MAX_JUDGED_ROWS]], taken, folders)
    if found is None:
        return None
    members = [rows[part] for part in repeated_rows(found.of_image)]
    splits = evidence.splits
    divided = [part for part in members if len(set(splits.codes[part].tolist())) > 1] if splits else members
    if not divided:
        return None
    largest = max(divided, key=len)
    example = " and ".join(repr(path) for path in evidence.paths([largest[0], largest[-1]]))
    count = f"{counted(len(divided), 'series', 'series')} {verb(len(divided), 'has', 'have')}"
    stand = f"{count} images in several splits, so metrics are too good. " if splits else ""
    remedy = f"--group-by '{found.pattern}'" if found.pattern else "name it in the column group of a CSV"
    message = (
        f"{counted(sum(map(len, members)))} in {counted(len(members), 'series', 'series')} that belong together, such as {example}: "
        f"{percent(found.wins.value)} of them have a better match in their series than elsewhere in their class (50 % by chance). "
        f"{stand}{'Merge the split folders and keep' if folders else 'Keep'} each series in one split: {remedy}"
    )
    return Finding("series", Severity.WARNING, tuple(evidence.paths(part) for part in divided), message)


def find_series(
    paths: Sequence[str],
    labels: NDArray[np.int64],
    thumbnails: NDArray[np.uint8],
    taken: NDArray[np.float64],
    split_folders: Sequence[str] = (),
) -> Series | None:
    """Return the series of N images by their names, else by the times (N,) of their pictures in seconds (0: unknown).

    `thumbnails` are those of the first `MAX_JUDGED_ROWS` images at least. If there are `split_folders`, every path begins with one of them.
    """
    if not len(paths):
        return None
    judged = min(len(paths), MAX_JUDGED_ROWS)
    vectors = np.concatenate([describe(thumbnails[top : min(top + BATCH_ROWS, judged)]) for top in range(0, judged, BATCH_ROWS)])
    held = _distinct([best for rules in rules_of(list(paths[:judged]), split_folders) if (best := _best(rules, labels, vectors))], judged)
    if held:
        pattern = group_by([one.rule for one in held], split_folders)
        expression = path_pattern(pattern)
        names = (found[1] if (found := expression.search(path)) else path for path in paths)
        return Series(link_equal(names)[:, 0], pattern, max(held, key=lambda one: len(one.rule.rows)).wins)
    bursts = _bursts(taken, labels)
    wins = _evidence(bursts[:judged], np.arange(judged), labels, vectors)
    return Series(bursts, "", wins) if wins.certain else None


def _split_folders(evidence: Evidence) -> tuple[str, ...]:
    """Return the folders around the class folders if every path begins with one, as in ``train/cats/1.jpg``."""
    folders: set[str] = set()
    for path, label in zip(evidence.records.paths, evidence.records.labels, strict=True):
        folder, *inside = path.split("/", 2)
        if len(inside) < 2 or not inside[0] == label != folder:  # noqa: PLR2004 (class, rest)
            return ()
        folders.add(folder)
    return tuple(sorted(folders))


def _best(rules: Sequence[Rule], labels: NDArray[np.int64], vectors: Vectors) -> _Held | None:
    """Return the rule with the longest series among those that hold about as well as the best, or None."""
    held = [_Held(rule, wins) for rule in rules if (wins := _evidence(rule.series, rule.rows, labels, vectors, rule)).certain]
    if not held:
        return None
    best = max(one.wins.value for one in held)
    return min((one for one in held if one.wins.value >= best - WINS_TOLERANCE), key=lambda one: len(np.unique(one.rule.series)))


def _distinct(held: Sequence[_Held], count: int) -> list[_Held]:
    """Return the rules without those whose series an earlier rule keeps together already; `count` is the number of images."""
    kept: list[_Held] = []
    known = np.full(count, -1, np.int64)
    for one in held:
        before = known[one.rule.rows]
        pairs = np.unique(np.column_stack([before, one.rule.series]), axis=0)
        if (before < 0).any() or len(pairs) > len(np.unique(one.rule.series)):
            kept.append(one)
            known[one.rule.rows] = np.where(before < 0, count * len(kept) + one.rule.series, before)
    return kept


def _evidence(
    series: NDArray[np.int64], rows: NDArray[np.int64], labels: NDArray[np.int64], vectors: Vectors, rule: Rule | None = None
) -> Wins:
    """Return the wins of `series` (n,) of `rows` (n,), within classes or across them, whichever are fewer.

    A rule that leaves out the first fields of a name cannot hold the folder. Its series may then join images of several classes by
    chance, which costs little, so only the wins within classes count.
    """
    sizes = np.bincount(series)
    if not len(rows) or (sizes[series] > 1).mean() < MIN_COVERAGE or _fewest_series(series, labels[rows]) < MIN_CLASS_SERIES:
        return NO_WINS
    within, across = (compare(vectors[rows], labels[rows], series, across=across) for across in (False, True))
    known = [wins for wins in (within, across) if wins.samples >= MIN_SAMPLES]
    if within in known and rule is not None and rule.omits_fields:
        known = [within]
    return min(known, key=lambda wins: wins.value) if known else NO_WINS


def _fewest_series(series: NDArray[np.int64], labels: NDArray[np.int64]) -> int:
    """Return the number of series of the class that has the fewest."""
    pairs = np.unique(np.column_stack([labels, series]), axis=0)
    return int(np.unique(pairs[:, 0], return_counts=True)[1].min())


def _bursts(taken: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the burst (N,) of each image: pictures of one class that follow each other within `MAX_BURST_SECONDS`."""
    order = np.lexsort((taken, labels))
    new = (np.diff(taken[order], prepend=-np.inf) > MAX_BURST_SECONDS) | (np.diff(labels[order], prepend=-1) != 0) | (taken[order] == 0)
    bursts = np.empty(len(taken), np.int64)
    bursts[order] = np.cumsum(new) - 1
    return bursts
