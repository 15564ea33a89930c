from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnkit.data.source import Record
from cnnkit.data.split.grouping import assign_groups
from cnnkit.data.split.split import assign_splits
from cnnkit.doctor.series.series import series

FRAMES = [(label, f"{label}/clip{clip:02d}_frame{frame:04d}.jpg", clip) for label in "ab" for clip in range(10) for frame in range(6)]


@pytest.fixture
def collected(image, evidence, pictures):
    """Return a function that makes evidence of (class, path, scene, facts), with the split of a training."""

    def make(images, **facts):
        found = evidence(
            [image(label, path=path, **facts, **dict(*more)) for label, path, _, *more in images],
            thumbnails=pictures([1000 * ord(label[0]) + scene for label, _, scene, *_ in images]),
        )
        splits = assign_splits(found.records, [facts.sha256 for facts in found.facts], (0.7, 0.15, 0.15), 0).splits
        return replace(found, splits=splits)

    return make


def pattern_of(finding) -> str:
    return finding.message.partition("--group-by '")[2].removesuffix("'")


def test_frames_of_videos_are_a_warning_with_an_expression_that_works(collected) -> None:
    found = collected(FRAMES)
    finding = series(found)
    assert finding is not None
    assert (finding.id, finding.severity) == ("series", "warning")
    assert finding.message.startswith("120 images in 20 series that belong together, such as 'a/clip")
    records = assign_groups(found.records, pattern_of(finding))
    assert {record.group for record in records} == {f"{label}/clip{clip:02d}" for label in "ab" for clip in range(10)}
    splits = assign_splits(records, [facts.sha256 for facts in found.facts], (0.7, 0.15, 0.15), 0).splits
    assert series(replace(found, splits=splits)) is None


def test_the_message_counts_the_series_in_several_splits(collected) -> None:
    found = collected(FRAMES)
    finding = series(found)
    assert finding is not None
    divided = len(finding.files)
    assert f"{divided} series have images in several splits, so metrics are too good." in finding.message
    for case in finding.files:
        assert len({found.splits[row] for row, record in enumerate(found.records) if record.path in case}) > 1


def test_independent_photographs_with_numbers_are_no_series(collected) -> None:
    assert series(collected([(label, f"{label}/{number:04d}.jpg", number) for label in "ab" for number in range(200)])) is None


def test_independent_photographs_with_the_names_of_frames_are_no_series(collected) -> None:
    assert series(collected([(label, path, place) for place, (label, path, _) in enumerate(FRAMES)])) is None


def test_runs_of_numbers_across_classes_are_series(collected) -> None:
    """One person shows ten signs, one after the other, on one background."""
    images = [(str(number % 10), f"{number % 10}/IMG_{number}.JPG", number // 10) for number in range(1000, 1400)]
    found = collected(images)
    scenes = np.array([scene for *_, scene in images])
    background = np.random.default_rng(0).integers(0, 256, (140, 16, 16, 3))
    blended = (0.5 * found.thumbnails + 0.5 * background[scenes]).astype(np.uint8)
    finding = series(replace(found, thumbnails=blended))
    assert finding is not None
    groups = assign_groups(found.records, pattern_of(finding))
    assert {groups[0].group, groups[1].group} == {next(record.group for record in groups if "IMG_1000" in record.path)}


def test_split_folders_are_no_part_of_a_series(collected) -> None:
    images = [(label, f"{'val' if place % 5 == 0 else 'train'}/{path}", clip) for place, (label, path, clip) in enumerate(FRAMES)]
    finding = series(collected(images))
    assert finding is not None
    assert "Merge the split folders and keep each series in one split: --group-by" in finding.message
    paths = ("x.jpg", "train/a/clip03_frame0001.jpg", "val/a/clip03_frame0002.jpg", "a/clip03_frame0003.jpg")
    groups = [record.group for record in assign_groups([Record(path, "a") for path in paths], pattern_of(finding))]
    assert groups == ["x.jpg", "a/clip03", "a/clip03", "a/clip03"]


def test_pictures_of_a_burst_are_series_by_their_times(collected) -> None:
    random = np.random.default_rng(0)
    images = [
        ("ab"[burst % 2], f"{'ab'[burst % 2]}/{random.integers(1 << 60):x}.jpg", burst, {"taken": 1e9 + 100 * burst + picture})
        for burst in range(40)
        for picture in range(3)
    ]
    finding = series(collected(images))
    assert finding is not None
    assert "in 40 series" in finding.message
    assert finding.message.endswith("Keep each series in one split: name it in the column group of a CSV")
    assert series(collected([(label, path, scene) for label, path, scene, _ in images])) is None


def test_images_with_groups_have_no_finding(collected) -> None:
    found = collected(FRAMES)
    assert series(replace(found, records=assign_groups(found.records, "(clip..)"))) is None
