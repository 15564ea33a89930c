from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.image import UndecodableError
from cnnkit.data.shards.webdataset import ShardSource, shard_splits
from cnnkit.data.source import Record, located, open_source
from cnnkit.data.sources.archive import ArchiveSource
from cnnkit.data.store.store import find_store
from cnnkit.errors import DataError

Shards = Callable[..., str]


def test_the_images_of_all_shards_are_records_and_are_read_in_any_order(jpeg, shards: Shards) -> None:
    source = open_source(shards(3))
    assert isinstance(source, ShardSource)
    assert source.records == [Record(f"k{key:04d}.jpg", str(key % 2)) for key in range(12)]
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(source.read, reversed(source.records)))
    assert read == [jpeg(key) for key in reversed(range(12))]
    assert len({source.stamp(record) for record in source.records}) == 12
    with pytest.raises(UndecodableError, match="no such image in "):
        source.read(Record("k0099.jpg", "1"))


def test_one_shard_is_named_with_its_kind_and_a_tar_of_class_folders_alone(shards: Shards) -> None:
    path = shards(1).replace("{0000..0000}", "0000")
    assert open_source(f"shards:{path}").name == f"shards:{path}"
    with pytest.raises(DataError, match=r"beside their labels, as in WebDataset: type --data shards:.*0000\.tar"):
        open_source(path)
    folder = path.removesuffix("/0000.tar")
    with pytest.raises(DataError, match=r"it holds 1 tars: if they are shards, type --data '.*/\*\.tar', else name one of them"):
        open_source(folder)
    assert len(open_source(f"{folder}/*.tar").records) == 4


def test_the_name_of_the_shard_tells_repeated_keys_apart(jpeg, shards: Shards) -> None:
    pattern = shards(2)
    shutil.copy(pattern.replace("{0000..0001}", "0000"), pattern.replace("{0000..0001}", "0002"))
    source = open_source(pattern.replace("0001}", "0002}"))
    assert [source.records[row].path for row in (0, 4, 8)] == ["0000.tar/k0000.jpg", "0001.tar/k0004.jpg", "0002.tar/k0000.jpg"]
    assert source.read(source.records[8]) == source.read(source.records[0]) == jpeg(0)


@pytest.mark.parametrize("where", ["s/classes.txt", "s/classnames.txt", "classes.txt"])
def test_numbers_become_the_names_of_a_file_beside_the_shards_or_above(shards: Shards, tmp_path: Path, where: str) -> None:
    pattern = shards(1)
    (tmp_path / where).write_text("wolf\nape\n", "utf-8")
    assert [record.label for record in open_source(pattern).records] == ["wolf", "ape"] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wolf\n", r"classes\.txt names 1 classes, but an image has the label 1; complete the file"),
        ("wolf\nwolf\n", r"classes\.txt: the name 'wolf' is empty or stands in two lines"),
        ("wolf\n\nape", r"classes\.txt: the name '' is empty or stands in two lines"),
    ],
)
def test_a_list_of_names_that_cannot_be_meant_is_refused(shards: Shards, tmp_path: Path, text: str, message: str) -> None:
    pattern = shards(1)
    (tmp_path / "s/classes.txt").write_text(text, "utf-8")
    with pytest.raises(DataError, match=message):
        open_source(pattern)


def test_names_of_shards_tell_the_split_only_with_train_among_several() -> None:
    splits, note = shard_splits(["imagenet-train-0.tar", "imagenet-train-1.tar", "imagenet-val-0.tar"], [2, 1, 2], "x")
    assert splits is not None
    assert list(splits) == ["train", "train", "train", "val", "val"]
    assert note == "the names of the files tell the split: 2 as train, 1 as val"
    splits, _ = shard_splits(["train/0.tar", "test/0.tar"], [1, 1], "x")
    assert splits is not None
    assert list(splits) == ["train", "test"]
    for names in (["train-0.tar", "train-1.tar"], ["val-0.tar", "test-0.tar"], ["0.tar", "1.tar"], ["train-a-0.tar", "train-b-0.tar"]):
        assert shard_splits(names, [1, 1], "x") == (None, "")
    with pytest.raises(DataError, match=r"--data x: the name of extra-0\.tar beside those of train tells no split; allowed"):
        shard_splits(["train-0.tar", "extra-0.tar"], [1, 1], "x")


def test_images_without_labels_are_left_out_with_a_note_and_none_with_a_label_is_an_error(write_tar, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"1.jpg": b"", "1.cls": b"a", "2.jpg": b""})
    source = open_source(f"{tmp_path}/*.tar")
    assert (len(source.records), source.notes) == (1, ("1 file without a label was left out",))
    write_tar(tmp_path / "0.tar", {"1.jpg": b"", "2.jpg": b""})
    with pytest.raises(
        DataError, match=r"no image with a label \(2 files without a label\); expected WebDataset's layout: KEY\.jpg beside"
    ):
        open_source(f"{tmp_path}/*.tar")


def test_captions_are_no_labels(write_tar, tmp_path: Path) -> None:
    for shard in range(2):
        captions = {f"{shard}-{key}": f"a picture of {shard} {key}".encode() for key in range(12)}
        write_tar(
            tmp_path / f"{shard}.tar",
            {name: text for key, text in captions.items() for name, text in ((f"{key}.jpg", b""), (f"{key}.txt", text))},
        )
    with pytest.raises(DataError, match=r"the 24 \.txt members hold 24 different texts, such as 'a picture of 0 0': captions, not labels"):
        open_source(f"{tmp_path}/*.tar")


def test_all_stamps_at_once_are_those_of_each_record(shards: Shards) -> None:
    source = open_source(shards(3))
    assert isinstance(source, ShardSource)
    expected = [source.stamp(record) for record in source.records]
    assert list(source.stamp_all(source.records)) == expected
    assert list(source.stamp_all(source.records[2:9:3])) == expected[2:9:3]
    assert list(source.stamp_all(list(source.records)[::-1])) == expected[::-1]


def test_a_changed_shard_has_new_stamps(shards: Shards) -> None:
    pattern = shards(2)
    source = open_source(pattern)
    os.utime(pattern.replace("{0000..0001}", "0001"), ns=(0, 5))
    with pytest.raises(UndecodableError, match="the archive has changed since it was listed"):
        source.read(source.records[-1])
    again = open_source(pattern)
    changed = [source.stamp(record) != again.stamp(record) for record in source.records]
    assert changed == [False] * 4 + [True] * 4


def test_shards_scan_and_split_as_the_folder_of_the_same_images(write_tar, image_folder, tmp_path: Path, geometry) -> None:
    folder = open_source(str(image_folder(images=12)))
    records = list(folder.records)
    for shard in range(3):
        part = records[shard * 12 : shard * 12 + 12]
        members = {
            name: content
            for record in part
            for name, content in ((record.path, folder.read(record)), (f"{record.path.rpartition('.')[0]}.cls", record.label.encode()))
        }
        write_tar(tmp_path / "s" / f"{shard}.tar", members)
    source = open_source(f"{tmp_path}/s/{{0..2}}.tar")
    assert source.records == records
    datasets = [load_dataset(each, DataConfig(data=each.name), geometry, 0) for each in (folder, source)]
    assert datasets[0].fingerprint == datasets[1].fingerprint
    assert datasets[0].split_csv == datasets[1].split_csv
    store = find_store(source.name)
    assert store is not None
    assert store.source == source.name


def test_a_pattern_is_located_from_any_folder(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = shards(1)
    monkeypatch.chdir(tmp_path)
    assert located("s/{0000..0000}.tar") == pattern
    assert located("shards:s/0000.tar") == f"shards:{tmp_path}/s/0000.tar"
    for name in ("digits", "hf:a*", "s3://x/{0..1}.tar", "gone"):
        assert located(name) == name


def test_an_archive_of_class_folders_stays_an_archive(write_tar, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a/1.jpg": b"", "b/1.jpg": b""})
    assert isinstance(open_source(str(path)), ArchiveSource)
