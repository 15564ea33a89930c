"""Checks of copies of one picture and of look-alikes: within a class, in different classes, and in different splits."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from cnnkit.data.source import SPLITS, TRAIN
from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, share
from cnnkit.errors import counted, verb

WARNING_COPY_SHARE = 0.05  # of superfluous copies among all images; above it they bias the training


def duplicate(evidence: Evidence) -> Finding | None:
    """Find copies within one class and one split, which only get more weight than other images."""
    cases = [rows for rows in evidence.copies if len(_labels(evidence, rows)) == 1 and len(_splits(evidence, rows)) <= 1]
    if not cases:
        return None
    surplus = sum(len(rows) - 1 for rows in cases)
    content = evidence.facts.hashes.first_rows()
    exact = sum(len(set(content[rows].tolist())) == 1 for rows in cases)
    repeated = any(len({int(evidence.same_of[row]) for row in rows}) < len(rows) for rows in cases)
    advice = (
        "Delete all but one image of each picture." if repeated else "They differ in crop, light or orientation, so each may be useful."
    )
    message = (
        f"{_sets(cases)} of one class ({exact:,} exact, {len(cases) - exact:,} near), "
        f"{share(surplus, len(evidence.records))} of all images superfluous. "
        f"They get more weight in training; cnnkit keeps them in one split. {advice}"
    )
    severity = Severity.WARNING if surplus > WARNING_COPY_SHARE * len(evidence.records) else Severity.NOTE
    return Finding("duplicate", severity, tuple(evidence.paths(rows) for rows in cases), message)


def label_conflict(evidence: Evidence) -> Finding | None:
    """Find the same picture in different classes, with at least one wrong label: the same content, or re-encoded or resized."""
    cases = [rows for rows in evidence.same_pictures if len(_labels(evidence, rows)) > 1]
    if not cases:
        return None
    message = (
        f"{_sets(cases)} in different classes: {_class_pairs(evidence, cases)}. No network can be right about both labels; "
        f"keep the image with the right label of each set and delete the others."
    )
    return Finding("label-conflict", Severity.ERROR, tuple(evidence.paths(rows) for rows in cases), message)


def near_conflict(evidence: Evidence) -> Finding | None:
    """Find images of different classes that are alike but for details, such as sister wafers, exposures or frames of a burst."""
    known = {int(evidence.copy_of[rows[0]]) for rows in evidence.same_pictures if len(_labels(evidence, rows)) > 1}
    cases = [rows for rows in evidence.copies if int(evidence.copy_of[rows[0]]) not in known and len(_labels(evidence, rows)) > 1]
    cases += [pair for pair in evidence.alike if len(_labels(evidence, pair)) > 1]
    if not cases:
        return None
    message = (
        f"{counted(len(cases), 'set')} of images that are alike but for details, in different classes: {_class_pairs(evidence, cases)}. "
        f"The classes may differ in these details, or a label is wrong: look at the differences with --sheet."
    )
    return Finding("near-conflict", Severity.WARNING, tuple(evidence.paths(rows) for rows in cases), message)


def leak(evidence: Evidence) -> Finding | None:
    """Find copies, and images of one group, in different splits of the source.

    The finding is an error if one of the splits is train, since the metrics then reward memorised images; else it is a warning. The case
    of a group is its first image in each split.
    """
    cases = [rows for rows in evidence.copies if len(_splits(evidence, rows)) > 1]
    groups = _divided_groups(evidence)
    if not cases and not groups:
        return None
    splits = Counter(" and ".join(_splits(evidence, rows)) for rows in [*cases, *groups])
    listed = enumerated([f"{pair} ({count:,})" for pair, count in splits.most_common()])
    subjects = ([_sets(cases)] if cases else []) + ([f"{counted(len(groups), 'group')} of images"] if groups else [])
    is_held_out = ~evidence.records.splits.isin({None, TRAIN})
    held_out = sum(int(is_held_out[rows].sum()) for rows in cases)
    harm = f"{counted(held_out)} of val and test {verb(held_out, 'is', 'are')} affected, so the metrics are too good. " if cases else ""
    message = (
        f"{' and '.join(subjects)} in more than one split: {listed}. {harm}"
        f"Keep them in one split only, or merge the split folders and let cnnkit split, which keeps them together."
    )
    trained = any(TRAIN in _splits(evidence, rows) for rows in [*cases, *groups])
    files = tuple(evidence.paths(rows) for rows in [*cases, *groups])
    return Finding("leak", Severity.ERROR if trained else Severity.WARNING, files, message)


def _sets(cases: list[Rows]) -> str:
    pictures = sum(len(rows) for rows in cases)
    return f"{counted(pictures)} in {counted(len(cases), 'set')} of copies"


def _class_pairs(evidence: Evidence, cases: list[Rows]) -> str:
    """Return the classes of the cases with the number of cases, the most frequent first."""
    pairs = Counter(" and ".join(repr(name) for name in sorted(_labels(evidence, rows))) for rows in cases)
    return enumerated([f"{pair} ({count:,})" for pair, count in pairs.most_common()])


def _labels(evidence: Evidence, rows: Rows) -> set[str]:
    return {evidence.classes[label] for label in evidence.labels[rows].tolist()}


def _splits(evidence: Evidence, rows: Rows | list[int]) -> list[str]:
    """Return the splits of `rows` in the source, train first."""
    found = set(evidence.records.splits.take(np.asarray(rows)))
    return [split for split in SPLITS if split in found]


def _divided_groups(evidence: Evidence) -> list[list[int]]:
    """Return the first row in each split of every group that is in several splits."""
    groups, splits = evidence.records.groups, evidence.records.splits
    rows = np.flatnonzero(~groups.isin({None}) & ~splits.isin({None}))
    pairs = groups.codes[rows].astype(np.int64) * len(splits.names) + splits.codes[rows]
    _, first = np.unique(pairs, return_index=True)
    by_group: defaultdict[int, list[int]] = defaultdict(list)
    for row in np.sort(rows[first]).tolist():
        by_group[int(groups.codes[row])].append(row)
    return [found for found in by_group.values() if len(found) > 1]
