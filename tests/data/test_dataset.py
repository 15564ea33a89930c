from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import Dataset, find_dataset, load_dataset, near_copies, with_canvases
from cnnkit.data.source import open_source
from cnnkit.data.split import duplicates
from cnnkit.errors import DataError
from cnnkit.model.preprocessing import Preprocessing

GEOMETRY = Preprocessing(image_size=8, mean=(0.0,) * 3, std=(1.0,) * 3)


def load(root: Path, seed: int = 0, **config: Any) -> Dataset:
    return load_dataset(open_source(str(root)), DataConfig(data=str(root), **config), GEOMETRY, seed)


def test_every_image_has_a_split_and_its_row_in_the_store(image_folder) -> None:
    dataset = load(image_folder({"10": 60, "9": 40}))
    assert dataset.classes == ("9", "10")
    counts = Counter((sample.label, sample.split) for sample in dataset.samples)
    assert {key: sum(counts[key, split] for split in ("train", "val", "test")) for key in ("9", "10")} == {"9": 40, "10": 60}
    assert 34 <= counts["10", "train"] <= 50
    assert (dataset.bad, dataset.notes) == ((), ())
    rows, labels = dataset.arrays("val")
    assert [dataset.samples[row].path for row in rows] == [sample.path for sample in dataset.of("val")]
    assert [dataset.classes[label] for label in labels] == [sample.label for sample in dataset.of("val")]


def test_a_cached_scan_is_found_and_gets_its_canvases_later(image_folder) -> None:
    root: Path = image_folder({"ants": 20, "bees": 20})
    source, config = open_source(str(root)), DataConfig(data=str(root))
    assert find_dataset(source, config, 0) is None
    made = load(root)
    found = find_dataset(source, config, 0)
    assert found is not None
    assert (found.samples, found.classes, found.bad, found.notes) == (made.samples, made.classes, made.bad, made.notes)
    assert found.store.canvases is None
    complete = with_canvases(found, GEOMETRY)
    assert complete is not None
    for got, expected in ((complete.store.canvases, made.store.canvases), (complete.store.thumbnails, made.store.thumbnails)):
        np.testing.assert_array_equal(got, expected)
    assert with_canvases(complete, GEOMETRY) is complete
    assert with_canvases(found, GEOMETRY.model_copy(update={"image_size": 16})) is None


def test_derived_properties_are_computed_once_and_again_for_other_images(image_folder) -> None:
    dataset = load(image_folder({"ants": 20, "bees": 20}))
    again = dataset.stored_in(dataset.store)
    assert (vars(again).get("split_csv"), again) == (None, dataset)
    assert dataset.split_csv.splitlines()[0] == b"path,label,split,sha256,unit"
    assert dataset.stored_in(dataset.store).split_csv is dataset.split_csv
    fewer = dataset.thinned(0.5, 0)
    assert len(fewer.split_csv.splitlines()) == 1 + len(fewer.samples) < 1 + len(dataset.samples)
    assert fewer.fingerprint != dataset.fingerprint == again.fingerprint


def test_unreadable_images_are_left_out_by_name(image_folder) -> None:
    root: Path = image_folder({"ants": 5, "bees": 5})
    (root / "ants/ants-001.jpg").write_bytes(b"")
    (root / "bees/bees-003.jpg").write_text("text")
    dataset = load(root)
    assert [path for path, _ in dataset.bad] == ["ants/ants-001.jpg", "bees/bees-003.jpg"]
    assert dataset.bad[0][1] == "the file is empty"
    assert len(dataset.samples) == 8
    assert {sample.row for sample in dataset.samples} == set(range(10)) - {1, 8}
    for sample in dataset.samples:
        assert dataset.store.facts[sample.row].sha256 == sample.sha256


def test_the_other_images_keep_their_split_when_one_breaks(image_folder) -> None:
    root: Path = image_folder({"ants": 40, "bees": 40})
    before = {sample.path: sample.split for sample in load(root).samples}
    (root / "ants/ants-001.jpg").write_bytes(b"")
    after = {sample.path: sample.split for sample in load(root).samples}
    assert {path: before[path] for path in after} == after


def test_on_bad_fail_refuses_unreadable_images(image_folder) -> None:
    root: Path = image_folder({"ants": 15, "bees": 5})
    for index in range(12):
        (root / f"ants/ants-{index:03d}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(root, on_bad="fail")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{root}: 12 of 20 images cannot be read (--on-bad fail):"
    assert lines[1] == "  ants/ants-000.jpg: the file is empty"
    assert len(lines) == 12
    assert lines[-1] == "  and 2 more"


def test_a_class_without_a_readable_image_is_refused(image_folder) -> None:
    root: Path = image_folder({"ants": 1, "bees": 5})
    (root / "ants/ants-000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"class 'ants' has no readable image, such as ants/.*: the file is empty; repair its files, or"):
        load(root)


def test_split_is_refused_if_the_data_has_train_and_val(image_folder) -> None:
    for split in ("train", "val"):
        root: Path = image_folder(folder=f"data/{split}").parent
    with pytest.raises(
        DataError, match="--split: the data itself has the splits train, val, so there is nothing to split; leave --split out"
    ):
        load(root, split="0.8/0.2")
    assert len(load(root).of("train")) == 24


def test_split_decides_how_much_of_train_becomes_val(image_folder) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        root: Path = image_folder(["ants", "bees"], 10, folder=f"data/{split}", seed=seed).parent
    dataset = load(root, split="0.5/0.5")
    counts = Counter(sample.split for sample in dataset.samples)
    assert (counts["test"], counts.total()) == (20, 40)
    assert 4 <= counts["val"] <= 16


def test_a_class_without_training_images_is_refused(image_folder) -> None:
    image_folder(["ants", "bees"], folder="data/train")
    root: Path = image_folder(["ants", "wasps"], folder="data/val", seed=1).parent
    with pytest.raises(DataError, match="class 'wasps' has no image in train, only in other splits: no network can learn it; add training"):
        load(root)
    assert load(root, classes="ants,bees").notes == ("val has no image of class 'bees': metrics of val say nothing about this class",)


def test_another_seed_gives_another_split(image_folder) -> None:
    root: Path = image_folder({"ants": 20, "bees": 20})
    splits = {seed: tuple(sample.split for sample in load(root, seed).samples) for seed in (0, 0, 1, 2)}
    assert len(set(splits.values())) == 3


def test_notes_of_the_source_are_passed_on(image_folder) -> None:
    root: Path = image_folder(images=40)
    (root / "ants/labels.txt").touch()
    assert load(root).notes == ("1 file without an image was left out (1 .txt)",)


def test_a_split_without_images_is_empty(image_folder) -> None:
    rows, labels = load(image_folder(), split="0.8/0.2").arrays("test")
    assert (rows.shape, labels.shape) == ((0,), (0,))


def test_near_copies_are_in_one_split_and_cached(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    root: Path = image_folder({"ants": 40, "bees": 40}, size=(120, 90))
    for index in range(8):
        with Image.open(root / f"ants/ants-{index:03d}.jpg") as image:
            image.resize((60, 45)).save(root / f"ants/small-{index:03d}.jpg", quality=60)
    dataset = load(root)
    folder = dataset.store.folder
    assert folder is not None
    known = near_copies(dataset.store)
    next(folder.glob("near-*.npz")).unlink()
    black = replace(  # the search reads the pictures of the files
        dataset.store, thumbnails=np.zeros_like(dataset.store.thumbnails), looks=np.zeros_like(dataset.store.looks[:])
    )
    np.testing.assert_array_equal(near_copies(black).pairs, known.pairs)
    assert len(known.pairs) == 8
    splits = {sample.path: sample.split for sample in dataset.samples}
    assert all(splits[f"ants/small-{index:03d}.jpg"] == splits[f"ants/ants-{index:03d}.jpg"] for index in range(8))
    monkeypatch.setattr(duplicates, "find_copies", lambda *_: pytest.fail("searched for copies again"))
    assert {sample.path: sample.split for sample in load(root).samples} == splits


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00v\x00{}"])
def test_a_damaged_cache_of_near_copies_is_computed_again(image_folder, content: bytes) -> None:
    root: Path = image_folder(images=20)
    store = load(root).store
    assert store.folder is not None
    next(store.folder.glob("near-*.npz")).write_bytes(content)
    assert near_copies(store).pairs.shape == (0, 2)


def test_a_split_file_gives_old_images_their_split(image_folder, tmp_path: Path) -> None:
    root: Path = image_folder(images=20)
    first = load(root)
    swap = {"train": "val", "val": "test", "test": "train"}
    rows = [f"{sample.path},{swap[sample.split]}" for sample in first.samples]
    (tmp_path / "split.csv").write_text("path,split\n" + "\n".join(rows) + "\n")
    second = load(root, split_file=tmp_path / "split.csv")
    assert [sample.split for sample in second.samples] == [swap[sample.split] for sample in first.samples]


def test_groups_by_a_pattern_of_the_path_are_in_one_split(image_folder) -> None:
    root: Path = image_folder(images=40)
    splits: dict[str, set[str]] = {}
    for sample in load(root, group_by=r"-(\d\d)\d\.jpg").samples:
        splits.setdefault(sample.path[-7:-5], set()).add(sample.split)
    assert [len(found) for found in splits.values()] == [1, 1, 1, 1]
