from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from cnnkit.api.images.split import Division, divide
from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.source import open_source
from cnnkit.errors import ConfigError, DataError


@pytest.fixture
def training_split():
    """Return a function that gives the split of each path in a training with a seed."""

    def split(data: Path, seed: int) -> dict[str, str]:
        dataset = load_dataset(open_source(str(data)), DataConfig(data=str(data)), None, seed)
        return {sample.path: sample.split for sample in dataset.samples}

    return split


def divided(data: Path, **given: object) -> Division:
    config = {name: given.pop(name) for name in ("split", "classes", "exclude", "split_file", "group_by") if name in given}
    return divide(DataConfig(data=str(data), **config), **given)  # pyright: ignore[reportArgumentType]


def test_file_and_counts_equal_the_samples(image_folder, read_rows):
    data = image_folder(images=20)
    found = divided(data, split=(0.5, 0.25, 0.25), out="here/split.csv")
    assert (found.path, found.bad) == (Path("here/split.csv"), ())
    rows = read_rows("here/split.csv")
    assert [(row["path"], row["label"], row["split"]) for row in rows] == [(s.path, s.label, s.split) for s in found.samples]
    assert found.counts == {
        name: {split: sum(row["label"] == name and row["split"] == split for row in rows) for split in ("train", "val", "test")}
        for name in ("ants", "bees", "wasps")
    }
    assert all(len(row["sha256"]) == 64 for row in rows)
    assert Counter(row["split"] for row in rows)["train"] == pytest.approx(30, abs=6)


def test_the_split_equals_the_split_of_a_training(image_folder, training_split):
    data = image_folder(images=12)
    for seed in (0, 4):
        assert {s.path: s.split for s in divided(data, seed=seed).samples} == training_split(data, seed)


def test_a_split_by_path_opens_no_image_and_sees_no_copies(image_folder):
    data = image_folder(images=20)
    for number in range(20):
        shutil.copy(data / "ants/ants-000.jpg", data / f"ants/copy-{number}.jpg")
    (data / "ants/ants-001.jpg").write_bytes(b"no image")
    by_content, by_path = divided(data), divided(data, by="path")
    assert by_content.bad[0][0] == "ants/ants-001.jpg"
    assert len({s.split for s in by_content.samples if "copy" in s.path or s.path == "ants/ants-000.jpg"}) == 1
    assert (by_path.bad, len(by_path.samples)) == ((), 80)
    assert len({s.split for s in by_path.samples if "copy" in s.path}) > 1
    assert {s.sha256 for s in by_path.samples} == {""}
    assert "no image was opened, so copies may be in several splits, and unreadable files are counted" in by_path.notes


@pytest.mark.parametrize("by", ["content", "path"])
def test_images_of_an_earlier_split_file_keep_their_split(image_folder, by):
    data = image_folder(images=10)
    old = {s.path: s.split for s in divided(data, seed=3, out="old.csv", by=by).samples}
    image_folder(images=20)
    new = {s.path: s.split for s in divided(data, split_file=Path("old.csv"), by=by).samples}
    assert len(new) == 60
    assert {path: new[path] for path in old} == old


@pytest.mark.parametrize("by", ["content", "path"])
def test_images_of_one_group_land_in_one_split(image_folder, by):
    found = divided(image_folder(images=40), group_by=r"(\d)\d\.jpg", classes=("ants", "bees"), by=by)
    splits: dict[tuple[str, str], set[str]] = {}
    for sample in found.samples:
        splits.setdefault((sample.label, sample.path[-6]), set()).add(sample.split)
    assert len(splits) == 8
    assert all(len(each) == 1 for each in splits.values())


def test_progress_follows_the_scan(image_folder):
    seen: list[tuple[int, int]] = []
    divided(image_folder(images=4), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)


def test_an_error_writes_no_file(image_folder):
    data = image_folder(images=4)
    Path("file").touch()
    with pytest.raises(ConfigError, match="--out file: cannot write there"):
        divided(data, out="file/split.csv")
    with pytest.raises(DataError, match=r"gone\.csv"):
        divided(data, split_file=Path("gone.csv"))
    with pytest.raises(DataError, match="did you mean 'bees'"):
        divided(data, classes=("ants", "bess"))
    assert not Path("split.csv").exists()


def test_similar_class_names_and_empty_classes_are_noted(image_folder):
    data = image_folder(("Bees", "bees"), 12)
    (data / "wasps").mkdir()
    for by in ("content", "path"):
        notes = " ".join(divided(data, by=by).notes)
        assert "without an image: 'wasps'" in notes
        assert "'Bees' and 'bees'" in notes


@pytest.mark.parametrize("by", ["content", "path"])
def test_excluded_images_are_in_no_split(image_folder, by):
    found = divided(image_folder(images=12), exclude=("*-00?.jpg", "wasps/*"), split=(0.5, 0.5), by=by)
    assert {sample.path for sample in found.samples} == {f"{name}/{name}-0{n}.jpg" for name in ("ants", "bees") for n in (10, 11)}
    assert "32 images were left out by --exclude, among them all images of 'wasps'" in found.notes


def test_a_division_is_short_in_a_shell(image_folder):
    found = divide(DataConfig(data=str(image_folder(images=10))))
    assert repr(found) == "Division('split.csv', 3 classes: 18 train, 6 val, 6 test, 0 unreadable)"
