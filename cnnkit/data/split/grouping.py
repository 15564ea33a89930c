"""Groups by file name: images of one patient or one video belong on one side of a split."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnkit.data.source import Record
from cnnkit.errors import DataError


def assign_groups(records: Sequence[Record], group_by: str) -> list[Record]:
    r"""Give every record the group that the regular expression `group_by` finds in its path; ``--group-by 'patient-(\d+)'``.

    The group is the first capturing group, or the whole match without one. Records of a source that brings groups (a column
    of a table) are returned as they are. Raises `DataError` if the expression is wrong, misses a path, or makes one group of all.
    """
    if not group_by or not records or any(record.group is not None for record in records):
        return list(records)
    flag = f"--group-by {group_by}"
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        at = "" if error.pos is None else f" at position {error.pos}"
        raise DataError(f"{flag}: no regular expression: {error.msg}{at}, and no column of the data is called so") from None
    groups = [_group(pattern, record.path) for record in records]
    missed = [record.path for record, group in zip(records, groups, strict=True) if group is None]
    if missed:
        how_many = "no path matches" if len(missed) == len(records) else f"{len(missed):,} of {len(records):,} paths do not match"
        raise DataError(f"{flag}: {how_many}, such as {missed[0]!r}; it must find a group in every path, or be the name of a column")
    if len(set(groups)) == 1:
        raise DataError(
            f"{flag}: all {len(records):,} images are in one group, {groups[0]!r}, and cannot be split; "
            f"put what tells groups apart into parentheses, as in 'patient-(\\d+)'; a path is such as {records[0].path!r}"
        )
    return [record._replace(group=group) for record, group in zip(records, groups, strict=True)]


def _group(pattern: re.Pattern[str], path: str) -> str | None:
    """Return what the pattern finds in a path; None if that is nothing."""
    match = pattern.search(path)
    return None if match is None else match[1 if pattern.groups else 0] or None
