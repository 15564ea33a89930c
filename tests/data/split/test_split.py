from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnkit.data.source import Record
from cnnkit.data.split.split import assign_splits
from cnnkit.errors import DataError

SHARES = (0.7, 0.15, 0.15)


def content(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def images(numbers: dict[str, int], split: str | None = None, start: int = 0, group: str | None = None) -> tuple[list[Record], list[str]]:
    """Return records and keys of a number of images of each class, all with different contents."""
    records = [
        Record(f"{label}/{index}", label, split, group) for label, number in numbers.items() for index in range(start, start + number)
    ]
    return records, [content(record.path) for record in records]


def splits_of(records: list[Record], keys: list[str], shares: tuple[float, ...] = SHARES, seed: int = 0, **options: Any) -> list[str]:
    return [split or "" for split in assign_splits(records, keys, shares, seed, **options).splits]


def counts(records: list[Record], splits: list[str]) -> dict[str, Counter[str]]:
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record, split in zip(records, splits, strict=True):
        table[record.label][split] += 1
    return table


number_of_images = st.dictionaries(st.sampled_from("abcde"), st.integers(3, 60), min_size=1)
any_shares = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


@given(number_of_images, any_shares, st.integers(0, 2**31 - 1))
def test_every_class_is_in_every_split_with_a_share(numbers: dict[str, int], shares: tuple[float, ...], seed: int) -> None:
    records, keys = images(numbers)
    for label, got in counts(records, splits_of(records, keys, shares, seed)).items():
        assert got.total() == numbers[label]
        assert all((got[split] > 0) == (share > 0) for split, share in zip(("train", "val", "test"), shares, strict=True))


def test_every_class_has_its_shares() -> None:
    records, keys = images({"a": 10_000, "b": 4000, "c": 33, "d": 7})
    table = counts(records, splits_of(records, keys))
    assert table == {
        "a": {"train": 7000, "val": 1500, "test": 1500},
        "b": {"train": 2800, "val": 600, "test": 600},
        "c": {"train": 23, "val": 5, "test": 5},
        "d": {"train": 5, "val": 1, "test": 1},
    }


def test_two_shares_leave_no_test() -> None:
    records, keys = images({"a": 100, "b": 10})
    table = counts(records, splits_of(records, keys, (0.8, 0.2)))
    assert {split for got in table.values() for split in got} == {"train", "val"}
    assert table["a"] == {"train": 80, "val": 20}


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(3, 80), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.integers(3, 30), min_size=1),
    any_shares,
    st.integers(0, 2**31 - 1),
    st.randoms(),
)
def test_an_added_image_moves_at_most_three(
    before: dict[str, int], added: dict[str, int], shares: tuple[float, ...], seed: int, shuffler: random.Random
) -> None:
    old, old_keys = images(before)
    new, new_keys = images(added, start=1000)
    earlier = splits_of(old, old_keys, shares, seed)
    both = [*zip(old, old_keys, strict=True), *zip(new, new_keys, strict=True)]
    shuffler.shuffle(both)
    after = dict(
        zip((record.path for record, _ in both), splits_of([r for r, _ in both], [key for _, key in both], shares, seed), strict=True)
    )
    moved = Counter(record.label for record, split in zip(old, earlier, strict=True) if after[record.path] != split)
    assert all(moved[label] <= 3 * added.get(label, 0) for label in before)


def test_a_tenth_more_images_moves_few() -> None:
    records, keys = images({"a": 1100, "b": 1100})
    old = [row for row, record in enumerate(records) if int(record.path[2:]) < 1000]
    moved = []
    for seed in range(20):
        earlier = splits_of([records[row] for row in old], [keys[row] for row in old], seed=seed)
        later = splits_of(records, keys, seed=seed)
        moved.append(np.mean([later[row] != split for row, split in zip(old, earlier, strict=True)]))
    assert np.mean(moved) < 0.01


def test_a_copy_of_an_image_moves_none() -> None:
    records, keys = images({"a": 40, "b": 40})
    assert splits_of([*records, Record("a/copy", "a")], [*keys, keys[3]])[3] == splits_of(records, keys)[3]


def test_large_units_leave_no_split_without_a_class() -> None:
    parts = [images({"few": 10}, start=10 * patient, group=f"patient {patient}") for patient in range(3)]
    records, keys = images({"many": 300})
    records += [record for part, _ in parts for record in part]
    keys += [key for _, part in parts for key in part]
    assigned = assign_splits(records, keys, SHARES, 0)
    assert counts(records, [split or "" for split in assigned.splits])["few"] == {"train": 10, "val": 10, "test": 10}
    assert assigned.notes[0].startswith("large groups or sets of copies left a split without an image of few; ")


def test_the_order_of_two_classes_that_share_an_image_does_not_matter() -> None:
    """Class b needs an image in val, and both classes can spare the image that they share."""
    everything = [
        ("a", 0),
        ("a", 0),
        ("a", 0),
        ("a", 4),
        ("b", 4),
        *((label, 100 * number + index) for number, label in enumerate("ab", 1) for index in range(8)),
    ]
    everything = [(label, content(str(number))) for label, number in everything]
    for seed in range(300):
        found = []
        for rows in (everything, everything[::-1]):
            records = [Record(f"{label}/{row}", label) for row, (label, _) in enumerate(rows)]
            found.append(splits_of(records, [key for _, key in rows], SHARES, seed))
        assert found[0] == found[1][::-1], seed


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), min_size=1, max_size=60), st.integers(0, 99), st.randoms())
def test_copies_are_in_one_split_and_the_order_does_not_matter(pairs: list[tuple[str, int]], seed: int, shuffler: random.Random) -> None:
    """The contents 0..12 are in class a, in class b, or in both. The split depends on the content alone."""
    extra = [(label, 100 * number + index) for number, label in enumerate("ab", 1) for index in range(8)]  # no class is too small
    everything = [*pairs, *extra]
    records = [Record(f"{label}/{row}", label) for row, (label, _) in enumerate(everything)]
    keys = [content(str(number)) for _, number in everything]
    splits = splits_of(records, keys, SHARES, seed)
    by_key = dict(zip(keys, splits, strict=True))
    assert [by_key[key] for key in keys] == splits

    order = list(range(len(records)))
    shuffler.shuffle(order)
    renamed = [Record(f"x{row}", records[index].label) for row, index in enumerate(order)]
    assert splits_of(renamed, [keys[index] for index in order], SHARES, seed) == [splits[index] for index in order]


def test_near_copies_and_their_copies_are_in_one_split() -> None:
    records, keys = images({"a": 100, "b": 100})
    keys[150] = keys[7]
    for seed in range(20):
        splits = splits_of(records, keys, seed=seed, near=np.array([[3, 7], [7, 120]]))
        assert len({splits[row] for row in (3, 7, 120, 150)}) == 1


def test_units_of_many_images_keep_the_shares() -> None:
    """Every picture was augmented five times; a quota misses by at most half a unit."""
    records, keys = images({"a": 6000})
    near = np.array([[start, start + step] for start in range(0, 6000, 6) for step in range(1, 6)])
    got = Counter(splits_of(records, keys, near=near))
    assert abs(got["val"] - 900) <= 3
    assert abs(got["test"] - 900) <= 3


def test_groups_of_two_classes_keep_the_shares_of_both() -> None:
    chooser = random.Random(1)
    records, keys = [], []
    for patient in range(200):
        numbers = {"sick": chooser.randint(0, 4), "well": chooser.randint(1, 6)}
        part, part_keys = images({label: number for label, number in numbers.items() if number}, start=10 * patient, group=f"p{patient}")
        records += part
        keys += part_keys
    for got in counts(records, splits_of(records, keys)).values():
        for split, share in zip(("train", "val", "test"), SHARES, strict=True):
            assert abs(got[split] / got.total() - share) < 0.02


def test_a_group_is_in_one_split() -> None:
    parts = [images({"a": 5, "b": 5}, start=10 * patient, group=f"patient {patient}") for patient in range(40)]
    records = [record for part, _ in parts for record in part]
    keys = [key for _, part in parts for key in part]
    by_group: defaultdict[str | None, set[str]] = defaultdict(set)
    splits = splits_of(records, keys)
    for record, split in zip(records, splits, strict=True):
        by_group[record.group].add(split)
    assert all(len(found) == 1 for found in by_group.values())
    assert set(splits) == {"train", "val", "test"}

    more, more_keys = images({"a": 7}, start=5000, group="patient 3")
    assert splits_of([*records, *more], [*keys, *more_keys])[: len(records)] == splits


def test_a_copy_in_two_groups_joins_them() -> None:
    one, one_keys = images({"a": 20, "b": 20}, group=None)
    records = [*one, Record("a/x", "a", None, "g"), Record("a/y", "a", None, "h"), Record("a/z", "a", None, "h")]
    keys = [*one_keys, "same", "same", "other"]
    for seed in range(10):
        assert len(set(splits_of(records, keys, seed=seed)[-3:])) == 1


def test_the_split_depends_on_the_seed() -> None:
    records, keys = images({"a": 50, "b": 50})
    splits = {seed: splits_of(records, keys, seed=seed) for seed in range(5)}
    assert splits[0] == splits_of(records, keys)
    assert len({tuple(split) for split in splits.values()}) == 5


def test_a_split_is_the_same_in_every_version() -> None:
    records, keys = images({"a": 20})
    splits = splits_of(records, keys)
    assert [index for index, split in enumerate(splits) if split == "test"] == [1, 4, 17]
    assert [index for index, split in enumerate(splits) if split == "val"] == [0, 5, 10]


def test_the_split_of_an_image_is_random() -> None:
    """Over many seeds every image is in test as often as the share of test."""
    records, keys = images({"a": 20})
    tested = Counter(index for seed in range(400) for index, split in enumerate(splits_of(records, keys, seed=seed)) if split == "test")
    assert all(30 < tested[index] < 95 for index in range(20))  # 60 of 400 expected, standard deviation 7


def test_pinned_images_keep_their_split_and_their_copies_join_them() -> None:
    records, keys = images({"a": 40, "b": 40})
    pinned: list[str | None] = [None] * 80
    pinned[5], pinned[6] = "test", "val"
    keys[50] = keys[5]
    splits = splits_of(records, keys, pinned=pinned)
    assert (splits[5], splits[6], splits[50]) == ("test", "val", "test")
    assert counts(records, splits)["a"] == {"train": 28, "val": 6, "test": 6}  # pinned images count for the quota


def test_pins_hold_when_images_are_added() -> None:
    records, keys = images({"a": 40, "b": 40})
    more, more_keys = images({"a": 40, "b": 4}, start=1000)
    earlier = splits_of(records, keys)
    pinned = [*earlier, *[None] * 44]
    splits = splits_of([*records, *more], [*keys, *more_keys], pinned=pinned)
    assert splits[:80] == earlier
    assert counts([*records, *more], splits) == {"a": {"train": 56, "val": 12, "test": 12}, "b": {"train": 30, "val": 7, "test": 7}}


def test_pins_of_copies_to_several_splits_hold_with_a_note() -> None:
    records, keys = images({"a": 40})
    keys[1] = keys[2] = keys[3] = keys[0]
    assigned = assign_splits(records, keys, SHARES, 0, pinned=["test", "val", "val", *[None] * 37])
    assert assigned.splits[:4] == ["test", "val", "val", "val"]
    assert assigned.notes[0] == (
        "--split-file has images of 1 unit (copies, or images of one group) in several splits; every image stays where it was"
    )


def test_a_class_pinned_as_a_whole_stays() -> None:
    records, keys = images({"a": 3, "b": 30})
    splits = splits_of(records, keys, pinned=["train"] * 3 + [None] * 30)
    assert splits[:3] == ["train"] * 3


def test_splits_of_the_source_are_kept() -> None:
    parts = [images({"a": 2, "b": 1}, split, start) for split, start in (("train", 0), ("val", 10), ("test", 20))]
    records = [record for part, _ in parts for record in part]
    keys = [one for _, part in parts for one in part]
    assert assign_splits(records, keys, SHARES, 0).splits == [record.split for record in records]
    assert assign_splits(records, keys, SHARES, 0).notes == ()


def test_copies_across_fixed_splits_are_counted() -> None:
    parts = [images({"a": 3}, split, start) for split, start in (("train", 0), ("val", 10), ("test", 20))]
    records = [record for part, _ in parts for record in part]
    keys = [one for _, part in parts for one in part]
    keys[7] = keys[0]
    assigned = assign_splits(records, keys, SHARES, 0, near=np.array([[1, 3], [1, 4]]))
    assert [note.partition(" an exact")[0] for note in assigned.notes] == ["2 val images have", "1 test image has"]
    assert assigned.notes[0].endswith("cnnkit doctor lists them")


def test_train_and_val_folders_leave_no_test() -> None:
    records = images({"a": 5}, "train")[0] + images({"a": 1}, "val", 5)[0]
    assert splits_of(records, [record.path for record in records]) == ["train"] * 5 + ["val"]


def test_val_is_taken_out_of_train_if_only_test_is_fixed() -> None:
    train, train_keys = images({"a": 850, "b": 1700}, "train")
    test, test_keys = images({"a": 2, "b": 2}, "test", 5000)
    splits = splits_of([*test, *train], [*test_keys, *train_keys])
    assert splits[:4] == ["test"] * 4
    table = counts(train, splits[4:])  # of 0.7 + 0.15, val's part is 15/85
    assert table == {"a": {"train": 700, "val": 150}, "b": {"train": 1400, "val": 300}}


def test_train_alone_is_split_like_a_folder_without_splits() -> None:
    records, keys = images({"a": 40}, "train")
    plain, _ = images({"a": 40})
    assert splits_of(records, keys, seed=3) == splits_of(plain, keys, seed=3)
    assert set(splits_of(records, keys, seed=3)) == {"train", "val", "test"}


def test_small_classes_are_refused_all_at_once() -> None:
    records, keys = images({"big": 10, "small": 2, "tiny": 1})
    with pytest.raises(
        DataError,
        match=r"^2 classes have too few images for train, val, test: 'small' \(2 images\), 'tiny' \(1 image\); "
        r"add images, leave such classes out with --min-images 3, or use two splits with --split 0.8/0.2$",
    ):
        splits_of(records, keys)
    records, keys = images({"big": 10, "small": 2})
    assert len(splits_of(records, keys, (0.8, 0.2))) == 12
    records, keys = images({"big": 10, "small": 1})
    with pytest.raises(DataError, match=r"^1 class has .* train, val: 'small' \(1 image\); add images, .* --min-images 2$"):
        splits_of(records, keys, (0.8, 0.2))


def test_min_images_leaves_small_classes_out() -> None:
    records, keys = images({"big": 10, "copied": 5, "tiny": 1})
    keys[11:15] = [keys[10]] * 4
    assigned = assign_splits(records, keys, SHARES, 0, min_images=3)
    assert assigned.left_out == ("copied", "tiny")
    assert assigned.splits[10:] == [""] * 6
    assert set(assigned.splits[:10]) == {"train", "val", "test"}
    assert assigned.notes == ("--min-images 3 leaves out 2 of 3 classes, copies and groups counted once: copied (1), tiny (1)",)


def test_a_unit_has_the_name_of_its_group_or_content() -> None:
    records, keys = images({"a": 6})
    records[2:4] = [record._replace(group="patient 1") for record in records[2:4]]
    keys[5] = keys[3]
    units = assign_splits(records, keys, SHARES, 0).units
    assert units == [keys[0][:16], keys[1][:16], "patient 1", "patient 1", keys[4][:16], "patient 1"]


def test_a_class_of_copies_is_too_small() -> None:
    records, _ = images({"a": 5})
    with pytest.raises(DataError, match=r"'a' \(5 images, 2 if copies and groups count once\)"):
        splits_of(records, ["1", "1", "1", "2", "2"])


def test_a_class_of_similar_images_is_split_with_a_note() -> None:
    records, keys = images({"part": 30, "other": 30})
    near = np.array([[row, row + 1] for row in range(29)] + [[40, 41]])
    assigned = assign_splits(records, keys, SHARES, 0, near=near)
    assert set(assigned.splits[:30]) == {"train", "val", "test"}
    assert assigned.splits[40] == assigned.splits[41]
    assert assigned.notes[0].startswith("nearly all images of part are alike, so their near copies are not kept in one split;")
    assert "--group-by" in assigned.notes[0]
    assert "alike" not in "".join(assign_splits(records, keys, SHARES, 0, near=near[-1:]).notes)
