from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnkit.data.source import Record
from cnnkit.data.split import assign_splits
from cnnkit.errors import DataError

SHARES = (0.7, 0.15, 0.15)


def content(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def images(numbers: dict[str, int], split: str | None = None, start: int = 0) -> tuple[list[Record], list[str]]:
    """So many records of each class, all of different content."""
    records = [Record(f"{label}/{index}", label, split) for label, number in numbers.items() for index in range(start, start + number)]
    return records, [content(record.path) for record in records]


def counts(records: list[Record], splits: list[str]) -> dict[str, Counter[str]]:
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record, split in zip(records, splits, strict=True):
        table[record.label][split] += 1
    return table


number_of_images = st.dictionaries(st.sampled_from("abcde"), st.integers(3, 60), min_size=1)
any_shares = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


@settings(deadline=None)
@given(number_of_images, any_shares, st.integers(0, 2**31 - 1))
def test_every_class_is_divided_by_the_shares_to_within_rounding(numbers: dict[str, int], shares: tuple[float, ...], seed: int) -> None:
    records, hashes = images(numbers)
    for label, got in counts(records, assign_splits(records, hashes, shares, seed)).items():
        number = numbers[label]
        assert got.total() == number
        assert all(got[split] >= 1 for split, share in zip(("train", "val", "test"), shares, strict=True) if share)
        for split, share in zip(("val", "test"), shares[1:], strict=True):
            asked = share * number
            full = (got["train"], got["val"]) == (1, 1) or got["train"] == 1  # a tiny class: train keeps at least one
            assert abs(got[split] - asked) <= 0.5 + 1e-6 or got[split] == 1 or full
        if not shares[2]:
            assert got["test"] == 0


def test_a_hundred_images_are_divided_as_the_shares_say() -> None:
    records, hashes = images({"a": 100, "b": 40})
    table = counts(records, assign_splits(records, hashes, SHARES, 0))
    assert table == {"a": {"train": 70, "val": 15, "test": 15}, "b": {"train": 28, "val": 6, "test": 6}}


def test_two_shares_leave_no_test() -> None:
    records, hashes = images({"a": 100, "b": 10})
    table = counts(records, assign_splits(records, hashes, (0.8, 0.2), 0))
    assert table == {"a": {"train": 80, "val": 20}, "b": {"train": 8, "val": 2}}


@pytest.mark.parametrize(("number", "expected"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (7, (5, 1, 1)), (10, (6, 2, 2))])
def test_small_classes_have_an_image_on_every_side(number: int, expected: tuple[int, ...]) -> None:
    records, hashes = images({"a": number})
    got = Counter(assign_splits(records, hashes, SHARES, 0))
    assert tuple(got[split] for split in ("train", "val", "test")) == expected


def test_train_keeps_an_image_when_the_shares_are_greedy() -> None:
    records, hashes = images({"a": 4})
    got = Counter(assign_splits(records, hashes, (0.1, 0.45, 0.45), 0))
    assert got == {"train": 1, "val": 2, "test": 1}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), min_size=1, max_size=60), st.integers(0, 99), st.randoms())
def test_copies_are_on_one_side_and_the_order_of_listing_plays_no_part(
    pairs: list[tuple[str, int]], seed: int, shuffler: random.Random
) -> None:
    """Content 0..12 filed under classes a and b, some under both; whatever the split says, it says it of contents."""
    extra = [(label, 100 * place + index) for place, label in enumerate("ab", 1) for index in range(8)]  # so no class is too small
    everything = [*pairs, *extra]
    records = [Record(f"{label}/{place}", label) for place, (label, _) in enumerate(everything)]
    hashes = [content(str(number)) for _, number in everything]
    splits = assign_splits(records, hashes, SHARES, seed)
    sides = dict(zip(hashes, splits, strict=True))
    assert [sides[one] for one in hashes] == splits

    order = list(range(len(records)))
    shuffler.shuffle(order)
    renamed = [Record(f"x{place}", records[index].label) for place, index in enumerate(order)]
    assert assign_splits(renamed, [hashes[index] for index in order], SHARES, seed) == [splits[index] for index in order]


def test_copies_count_once() -> None:
    records, hashes = images({"a": 10})
    many = [*records, *[Record(f"copy/{index}", "a") for index in range(90)]]
    splits = assign_splits(many, [*hashes, *[hashes[0]] * 90], SHARES, 0)
    assert splits[:10] == assign_splits(records, hashes, SHARES, 0)
    assert set(splits[10:]) == {splits[0]}


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    records, hashes = images({"a": 50, "b": 50})
    splits = {seed: assign_splits(records, hashes, SHARES, seed) for seed in range(5)}
    assert splits[0] == assign_splits(records, hashes, SHARES, 0)
    assert len({tuple(split) for split in splits.values()}) == 5


def test_a_split_stays_as_it_is_from_version_to_version() -> None:
    records, hashes = images({"a": 20})
    splits = assign_splits(records, hashes, SHARES, 0)
    assert [index for index, split in enumerate(splits) if split == "test"] == [6, 7, 17]
    assert [index for index, split in enumerate(splits) if split == "val"] == [0, 12, 14]


def test_membership_is_random_in_the_content() -> None:
    """Over many seeds every image is tested as often as its share says."""
    records, hashes = images({"a": 20})
    tested = Counter(
        index for seed in range(400) for index, split in enumerate(assign_splits(records, hashes, SHARES, seed)) if split == "test"
    )
    assert all(30 < tested[index] < 95 for index in range(20))  # 60 of 400 expected, standard deviation 7


@settings(deadline=None)
@given(st.integers(10, 200), st.integers(1, 10), st.integers(0, 99))
def test_adding_images_moves_few(before: int, added: int, seed: int) -> None:
    records, hashes = images({"a": before})
    more, more_hashes = images({"a": added}, start=before)
    old = assign_splits(records, hashes, SHARES, seed)
    new = assign_splits([*records, *more], [*hashes, *more_hashes], SHARES, seed)
    moved = sum(one != other for one, other in zip(old, new, strict=False))
    # Two borders, each pushed by the new images before it and by the growing share, both at most `added` (and rounding).
    assert moved <= 2 * (added + 1)


def test_adding_a_tenth_moves_a_few_per_cent() -> None:
    records, hashes = images({"a": 1100})
    old = assign_splits(records[:1000], hashes[:1000], SHARES, 0)
    new = assign_splits(records, hashes, SHARES, 0)
    assert sum(one != other for one, other in zip(old, new, strict=False)) < 40


def test_splits_that_the_source_fixes_are_kept() -> None:
    parts = [images({"a": 2, "b": 1}, split, start) for split, start in (("train", 0), ("val", 10), ("test", 20))]
    records = [record for part, _ in parts for record in part]
    hashes = [one for _, part in parts for one in part]
    assert assign_splits(records, hashes, SHARES, 0) == [record.split for record in records]


def test_train_and_val_folders_leave_no_test() -> None:
    records = images({"a": 5}, "train")[0] + images({"a": 1}, "val", 5)[0]
    splits = assign_splits(records, [record.path for record in records], SHARES, 0)
    assert splits == ["train"] * 5 + ["val"]


def test_val_is_taken_out_of_train_where_only_test_is_fixed() -> None:
    train, train_hashes = images({"a": 85, "b": 17}, "train")
    test, test_hashes = images({"a": 2, "b": 2}, "test", 1000)
    splits = assign_splits([*test, *train], [*test_hashes, *train_hashes], SHARES, 0)
    assert splits[:4] == ["test"] * 4
    # of 0.7 + 0.15, val's part is 15/85
    assert counts(train, splits[4:]) == {"a": {"train": 70, "val": 15}, "b": {"train": 14, "val": 3}}


def test_train_alone_is_divided_like_a_folder_without_splits() -> None:
    records, hashes = images({"a": 40}, "train")
    plain, _ = images({"a": 40})
    assert assign_splits(records, hashes, SHARES, 3) == assign_splits(plain, hashes, SHARES, 3)
    assert set(assign_splits(records, hashes, SHARES, 3)) == {"train", "val", "test"}


def test_a_class_that_is_too_small_is_refused_by_name() -> None:
    records, hashes = images({"big": 10, "small": 2})
    with pytest.raises(
        DataError,
        match="class 'small' has 2 images; 3 are needed, one each for train, val, test: add images, or leave the class out with --classes",
    ):
        assign_splits(records, hashes, SHARES, 0)
    assert len(assign_splits(records, hashes, (0.8, 0.2), 0)) == 12
    records, hashes = images({"big": 10, "small": 1})
    with pytest.raises(DataError, match="class 'small' has 1 image; 2 are needed, one each for train, val:"):
        assign_splits(records, hashes, (0.8, 0.2), 0)


def test_a_class_of_copies_is_too_small() -> None:
    records, _ = images({"a": 5})
    with pytest.raises(DataError, match=r"class 'a' has 5 images \(2 once copies are left out\); 3 are needed"):
        assign_splits(records, ["1", "1", "1", "2", "2"], SHARES, 0)


def test_a_class_that_copies_another_is_too_small() -> None:
    records, hashes = images({"a": 5})
    with pytest.raises(DataError, match=r"class 'b' has 5 images \(0 once copies are left out\)"):
        assign_splits([*records, *[Record(f"b/{i}", "b") for i in range(5)]], hashes * 2, SHARES, 0)
