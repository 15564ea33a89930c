from __future__ import annotations

import pytest

from cnnkit.data.source import Record
from cnnkit.data.split.grouping import assign_groups
from cnnkit.errors import DataError

RECORDS = [Record(f"ants/patient-{patient}_{image}.jpg", "ants", "train") for patient in ("07", "12") for image in (1, 2)]


def groups(group_by: str, records: list[Record] = RECORDS) -> list[str | None]:
    return [record.group for record in assign_groups(records, group_by)]


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        (r"patient-(\d+)", ["07", "07", "12", "12"]),
        (r"patient-\d+", ["patient-07", "patient-07", "patient-12", "patient-12"]),
        (r"(?:x|patient-)(\d+)_(\d)", ["07", "07", "12", "12"]),
        (r"^ants/[^_]+", ["ants/patient-07", "ants/patient-07", "ants/patient-12", "ants/patient-12"]),
    ],
)
def test_the_group_is_the_first_pair_of_parentheses_or_the_whole_match(group_by: str, expected: list[str]) -> None:
    assert groups(group_by) == expected


def test_the_other_fields_of_a_record_stay() -> None:
    (record, *_) = assign_groups(RECORDS, r"patient-(\d+)")
    assert record == Record("ants/patient-07_1.jpg", "ants", "train", "07")


def test_without_an_expression_there_are_no_groups() -> None:
    assert assign_groups(RECORDS, "") == RECORDS
    assert assign_groups([], "x") == []


def test_groups_of_the_source_stay() -> None:
    records = [Record("a/1.jpg", "a", group="p1"), Record("a/2.jpg", "a")]
    assert assign_groups(records, "patient") == records


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        (
            r"patient-(\d+",
            r"not a regular expression: missing \), unterminated subpattern at position 8; the data has no column of that name",
        ),
        (
            r"person",
            r"--group-by person: no path matches, such as 'ants/patient-07_1\.jpg'; expected .* every path, or the name of a column",
        ),
        (r"(07)", r"2 of 4 paths do not match, such as 'ants/patient-12_1\.jpg'"),
        (r"patient-(x)?", r"no path matches, such as"),
        (r"patient-(z*)", r"no path matches, such as"),
        (r"patient", r"all 4 images are in one group, 'patient', and cannot be split; .*the first path is 'ants/patient-07_1\.jpg'"),
    ],
)
def test_an_unusable_expression_is_refused(group_by: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        groups(group_by)
