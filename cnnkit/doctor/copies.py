"""Copies of one picture: within a class, under two classes, and on both sides of a split."""

from __future__ import annotations

from collections import Counter, defaultdict

from cnnkit.data.source import SPLITS, TRAIN
from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, number, share, verb

WARNING_COPY_SHARE = 0.05  # share of the images that are superfluous copies, from which they shift what is learned


def duplicate(evidence: Evidence) -> Finding | None:
    """Find copies that do no worse than weigh double: of one class, and on one side of a split."""
    cases = [rows for rows in evidence.copies if len(_labels(evidence, rows)) == 1 and len(_splits(evidence, rows)) <= 1]
    if not cases:
        return None
    surplus = sum(len(rows) - 1 for rows in cases)
    exact = sum(len({evidence.facts[int(row)].sha256 for row in rows}) == 1 for rows in cases)
    message = (
        f"{_sets(cases)} of one class ({exact:,} exact, {len(cases) - exact:,} near), "
        f"{share(surplus, len(evidence.records))} of all images superfluous. "
        f"They weigh double in training; a split by cnnkit puts them on one side. Delete all but one of each set."
    )
    severity = Severity.WARNING if surplus > WARNING_COPY_SHARE * len(evidence.records) else Severity.NOTE
    return Finding("duplicate", severity, tuple(evidence.paths(rows) for rows in cases), message)


def label_conflict(evidence: Evidence) -> Finding | None:
    """Find copies of one picture that are filed under different classes: at least one of the labels is wrong."""
    cases = [rows for rows in evidence.copies if len(_labels(evidence, rows)) > 1]
    if not cases:
        return None
    pairs = Counter(" and ".join(repr(name) for name in sorted(_labels(evidence, rows))) for rows in cases)
    said = enumerated([f"{pair} ({count:,})" for pair, count in pairs.most_common()])
    message = (
        f"{_sets(cases)} filed under different classes: {said}. No network can be right about both; "
        f"keep the one with the right label of each set and delete the others."
    )
    return Finding("label-conflict", Severity.ERROR, tuple(evidence.paths(rows) for rows in cases), message)


def leak(evidence: Evidence) -> Finding | None:
    """Find copies, and images of one group, on both sides of a split that the source has decided on.

    An error if train is one of the sides, since the score then counts what was learned by heart; else a warning. Of a
    group that is no set of copies, the case is its first image in each split.
    """
    cases = [rows for rows in evidence.copies if len(_splits(evidence, rows)) > 1]
    groups = _torn_groups(evidence)
    if not cases and not groups:
        return None
    sides = Counter(" and ".join(_splits(evidence, rows)) for rows in [*cases, *groups])
    said = enumerated([f"{pair} ({count:,})" for pair, count in sides.most_common()])
    what = ([_sets(cases)] if cases else []) + ([f"{number(len(groups), 'group')} of images"] if groups else [])
    held_out = sum(evidence.records[int(row)].split not in {None, TRAIN} for rows in cases for row in rows)
    harm = f"{number(held_out)} to measure by {verb(held_out, 'is', 'are')} concerned, and the score is too good. " if cases else ""
    message = (
        f"{' and '.join(what)} on more than one side of the split: {said}. {harm}"
        f"Delete one side, or merge the split folders and let cnnkit split, which keeps them together."
    )
    trained = any(TRAIN in _splits(evidence, rows) for rows in [*cases, *groups])
    files = tuple(evidence.paths(rows) for rows in [*cases, *groups])
    return Finding("leak", Severity.ERROR if trained else Severity.WARNING, files, message)


def _sets(cases: list[Rows]) -> str:
    pictures = sum(len(rows) for rows in cases)
    return f"{number(pictures)} in {number(len(cases), 'set')} of copies"


def _labels(evidence: Evidence, rows: Rows) -> set[str]:
    return {evidence.records[int(row)].label for row in rows}


def _splits(evidence: Evidence, rows: Rows | list[int]) -> list[str]:
    """The splits that the source put these rows in, train first."""
    found = {evidence.records[int(row)].split for row in rows}
    return [split for split in SPLITS if split in found]


def _torn_groups(evidence: Evidence) -> list[list[int]]:
    """The first row in each split of every group that is in more than one."""
    first: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row, record in enumerate(evidence.records):
        if record.group is not None and record.split is not None:
            first[record.group].setdefault(record.split, row)
    return [sorted(sides.values()) for sides in first.values() if len(sides) > 1]
