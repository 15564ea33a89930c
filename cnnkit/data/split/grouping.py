"""Groups by file name: images of one patient or one video belong in one split."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnkit.data.source import Record
from cnnkit.errors import DataError


def path_pattern(expression: str) -> re.Pattern[str]:
    """Compile an `expression` for paths, whose ``.`` matches line breaks too: a file name may hold them."""
    return re.compile(expression, re.DOTALL)


def assign_groups(records: Sequence[Record], group_by: str) -> list[Record]:
    r"""Return the records with the group that the regular expression `group_by` finds in each path: ``--group-by 'patient-(\d+)'``.

    The group is the first capturing group, or the whole match without one. Records of a source with groups (a column of a table) are
    returned unchanged. Raises `DataError` if the expression is invalid, misses a path, or puts all images into one group.
    """
    if not group_by or not records or any(record.group is not None for record in records):
        return list(records)
    flag = f"--group-by {group_by}"
    try:
        pattern = path_pattern(group_by)
    except re.error as error:
        at = "" if error.pos is None else f" at position {error.pos}"
        raise DataError(f"{flag}: not a regular expression: {error.msg}{at}; the data has no column of that name either") from None
    groups = [_group(pattern, record.path) for record in records]
    missed = [record.path for record, group in zip(records, groups, strict=True) if group is None]
    if missed:
        reason = "no path matches" if len(missed) == len(records) else f"{len(missed):,} of {len(records):,} paths do not match"
        raise DataError(f"{flag}: {reason}, such as {missed[0]!r}; expected an expression that matches every path, or the name of a column")
    if len(set(groups)) == 1:
        raise DataError(
            f"{flag}: all {len(records):,} images are in one group, {groups[0]!r}, and cannot be split; "
            f"put the name of the group into parentheses, as in 'patient-(\\d+)'; the first path is {records[0].path!r}"
        )
    return [record._replace(group=group) for record, group in zip(records, groups, strict=True)]


def _group(pattern: re.Pattern[str], path: str) -> str | None:
    """Return the group that the pattern finds in a path, or None."""
    match = pattern.search(path)
    return None if match is None else match[1 if pattern.groups else 0] or None
