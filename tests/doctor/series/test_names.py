from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
import pytest

from cnnkit.data.source import Record
from cnnkit.data.split.grouping import assign_groups
from cnnkit.doctor.series.names import Rule, group_by, rules_of


def every(paths, folders=()) -> list[Rule]:
    return [rule for rules in rules_of(paths, folders) for rule in rules]


def grouped(rules, paths, folders=()) -> set[tuple[str, ...]]:
    """Return the groups of at least two paths that ``--group-by`` makes by `rules`."""
    groups = defaultdict(list)
    for record in assign_groups([Record(path, path.split("/")[0]) for path in paths], group_by(rules, folders)):
        groups[record.group].append(record.path)
    return {tuple(group) for group in groups.values() if len(group) > 1}


def promised(rule, paths) -> set[tuple[str, ...]]:
    groups = defaultdict(list)
    for row, series in zip(rule.rows, rule.series, strict=True):
        groups[series].append(paths[row])
    return {tuple(group) for group in groups.values() if len(group) > 1}


KINDS = {
    "frames of a video": [f"c/clip{clip:02d}_frame{frame:04d}.jpg" for clip in range(10) for frame in range(6)],
    "a person in the middle": [f"c/{one}_0_{name}_{number:04d}.jpg" for one in (0, 1) for name in ("ann", "bob") for number in range(20)],
    "a number of two parts": [f"c/Imgs/exp{one}_num_{tile}{one}7.png" for tile in range(100, 120) for one in range(4)],
    "runs of numbers": [f"{'ab'[number % 2]}/IMG_{number}.JPG" for number in range(1100, 1180)],
    "versions": [f"c/cat{number}{end}.jpg" for number in range(20) for end in ("", " copy 10", " (2)", "_aug_1")],
    "a folder of a patient": [f"c/patient {patient}/scan {number}.tif" for patient in range(10) for number in range(5)],
    "odd letters": [f"c/it's [{clip}] 100%+{frame}.jpg" for clip in range(10) for frame in range(6)],
    "line breaks in names": [f"new\nline/clip{clip}\nframe{frame}.jpg" for clip in range(10) for frame in range(6)],
    "letters of any language": [f"c/été{clip}-кадр{frame}.jpeg" for clip in range(10) for frame in range(6)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folders", [(), ("train", "it's val")])
def test_the_expression_of_every_rule_makes_the_groups_of_the_rule(kind, folders) -> None:
    paths = [f"{folders[number % 3 == 0]}/{path}" for number, path in enumerate(KINDS[kind])] if folders else KINDS[kind]
    rules = every(paths, folders)
    assert rules
    for rule in rules:
        expected = promised(rule, paths)
        if len(expected) > 1:
            assert grouped([rule], paths, folders) == expected
            assert "'" not in group_by([rule], folders)


@pytest.mark.parametrize(
    ("kind", "series"),
    [
        ("frames of a video", tuple(f"c/clip03_frame{frame:04d}.jpg" for frame in range(6))),
        ("a person in the middle", tuple(f"c/{one}_0_ann_{number:04d}.jpg" for one in (0, 1) for number in range(20))),
        ("a number of two parts", tuple(f"c/Imgs/exp{one}_num_107{one}7.png" for one in range(4))),
        ("runs of numbers", tuple(f"{'ab'[number % 2]}/IMG_{number}.JPG" for number in range(1110, 1120))),
        ("versions", ("c/cat7.jpg", "c/cat7 copy 10.jpg", "c/cat7 (2).jpg", "c/cat7_aug_1.jpg")),
        ("a folder of a patient", tuple(f"c/patient 4/scan {number}.tif" for number in range(5))),
    ],
)
def test_a_rule_reads_the_series(kind, series) -> None:
    assert any(series in promised(rule, KINDS[kind]) for rule in every(KINDS[kind]))


def test_several_rules_make_one_expression() -> None:
    clips, runs = KINDS["frames of a video"], KINDS["a number of two parts"]
    paths = [*clips, *runs, "c/other.jpg"]
    by_clip = next(rule for rule in every(paths) if tuple(clips[:6]) in promised(rule, paths))
    by_tile = next(rule for rule in every(paths) if tuple(runs[:4]) in promised(rule, paths))
    assert grouped([by_tile, by_clip], paths) == promised(by_clip, paths) | promised(by_tile, paths)


def test_hashes_and_indices_of_arrays_have_no_rule() -> None:
    assert every([f"{number:05d}" for number in range(100)]) == []
    assert all(len(promised(rule, HASHES)) == 0 for rule in every(HASHES))


HASHES = [f"c/{number * 2654435761 % 2**32:08x}f{number}a.jpg" for number in range(100)]


@pytest.mark.parametrize("name", ["copy  " * 40, "_" * 240, "a (1) " * 40, " (1)" * 60, "_aug_ " * 40, "7_" * 100])
def test_hostile_names_take_no_time(name) -> None:
    paths = [f"c/{name}{number}x.jpg" for number in range(40)]
    begin = time.process_time()
    grouped(every(paths)[:1] or [Rule(np.arange(0), np.arange(0), "", "x")], paths)
    assert time.process_time() - begin < 5
