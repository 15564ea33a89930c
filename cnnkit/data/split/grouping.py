"""Groups by file name: images of one patient or one video belong in one split."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnkit.data.columns import Codes, RecordColumns
from cnnkit.data.source import Record
from cnnkit.errors import DataError


def path_pattern(expression: str) -> re.Pattern[str]:
    """Compile an `expression` for paths, whose ``.`` matches line breaks too: a file name may hold them."""
    return re.compile(expression, re.DOTALL)


def assign_groups(records: Sequence[Record], group_by: str) -> RecordColumns:
    r"""Return the records with the group that the regular expression `group_by` finds in each path: ``--group-by 'patient-(\d+)'``.

    The group is the first capturing group, or the whole match without one. Records of a source with groups (a column of a table) are
    returned unchanged. Raises `DataError` if the expression is invalid, misses a path, or puts all images into one group.
    """
    columns = RecordColumns.of(records)
    if not group_by or not records or columns.groups.present() != [None]:
        return columns
    flag = f"--group-by {group_by}"
    try:
        pattern = path_pattern(group_by)
    except re.error as error:
        at = "" if error.pos is None else f" at position {error.pos}"
        raise DataError(f"{flag}: not a regular expression: {error.msg}{at}; the data has no column of that name either") from None
    groups = Codes.of(_group(pattern, path) for path in columns.paths)
    missed = [path for path, group in zip(columns.paths, groups, strict=True) if group is None] if None in groups.names else []
    if missed:
        reason = "no path matches" if len(missed) == len(records) else f"{len(missed):,} of {len(records):,} paths do not match"
        raise DataError(f"{flag}: {reason}, such as {missed[0]!r}; expected an expression that matches every path, or the name of a column")
    if len(groups.names) == 1:
        raise DataError(
            f"{flag}: all {len(records):,} images are in one group, {groups[0]!r}, and cannot be split; "
            f"put the name of the group into parentheses, as in 'patient-(\\d+)'; the first path is {records[0].path!r}"
        )
    return RecordColumns(columns.paths, columns.labels, columns.splits, groups)


def _group(pattern: re.Pattern[str], path: str) -> str | None:
    """Return the group that the pattern finds in a path, or None."""
    match = pattern.search(path)
    return None if match is None else match[1 if pattern.groups else 0] or None
