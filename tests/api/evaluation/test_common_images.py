from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from cnnkit.api.evaluation.common_images import Image, Seen, common_images, seen_by
from cnnkit.errors import DataError


def images(numbers: Iterable[int]) -> tuple[Image, ...]:
    return tuple(Image(f"ants/{number}.jpg", "ants", f"hash-{number}") for number in numbers)


def seen(name: str, tested: Iterable[int], trained: Iterable[int] = ()) -> Seen:
    return Seen(name, images(tested), frozenset(f"hash-{number}" for number in trained), Path(f"runs/{name}/split.csv"))


def test_the_same_images_are_all_taken_in_the_order_of_the_first() -> None:
    found = common_images([seen("a", [3, 1, 2]), seen("b", [1, 2, 3])], "test", overlap=False)
    assert found.images == images([3, 1, 2])
    assert (found.left_out, found.notes) == ((), ())


def test_other_images_are_refused_and_the_common_ones_offered() -> None:
    with pytest.raises(DataError) as caught:
        common_images([seen("a", range(10), range(10, 50)), seen("b", range(6, 14), range(4))], "test", overlap=False)
    assert str(caught.value) == (
        "the runs have different test images: a has 10, b has 8; 4 are common to all: compare on those with --overlap; "
        "b was trained on 4 of the test images of a; "
        "to compare on all, train again with the same split: cnnkit train --split-file runs/a/split.csv"
    )


def test_a_part_of_the_images_is_not_all_of_them() -> None:
    for order in ((range(5), range(4)), (range(4), range(5))):
        with pytest.raises(DataError, match="4 are common to all"):
            common_images([seen(name, tested) for name, tested in zip("ab", order, strict=True)], "test", overlap=False)


def test_the_overlap_is_taken_and_counted() -> None:
    found = common_images([seen("a", range(10)), seen("b", range(6, 14)), seen("c", range(5, 9))], "val", overlap=True)
    assert found.images == images([6, 7, 8])
    assert found.notes == ("compared on the 3 val images that are common to all: a has 10, b has 8, c has 4",)


def test_an_overlap_of_the_same_images_says_nothing() -> None:
    assert common_images([seen("a", range(3)), seen("b", range(3))], "test", overlap=True).notes == ()


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        (images([7]), "none is common to all;"),
        (
            (Image("images/ants/1.jpg", "ants", "hash-1"),),
            "(1 have one content but another path or label, such as ants/1.jpg (ants) and images",
        ),
        ((Image("ants/1.jpg", "bees", "hash-1"),), "such as ants/1.jpg (ants) and ants/1.jpg (bees))"),
        ((Image("ants/1.jpg", "ants", "changed"),), "(1 have one path but another content, such as ants/1.jpg)"),
    ],
)
@pytest.mark.parametrize("overlap", [True, False])
def test_nothing_in_common_says_what_nearly_is(other: tuple[Image, ...], hint: str, overlap: bool) -> None:
    with pytest.raises(DataError) as caught:
        common_images([seen("a", [1, 2]), Seen("b", other, frozenset())], "test", overlap=overlap)
    assert hint in str(caught.value)
    assert "compare on those with --overlap" not in str(caught.value)


def test_a_copy_in_train_is_noted_and_left_out_of_the_overlap() -> None:
    both = [seen("a", range(5)), seen("b", range(5), [2, 9])]
    plain = common_images(both, "test", overlap=False)
    assert plain.images == images(range(5))
    (note,) = plain.notes
    assert note.startswith("1 of these images has an exact copy in the train split of b, such as ants/2.jpg: on it its answers may be")
    assert note.endswith("; --overlap leaves them out")
    clean = common_images(both, "test", overlap=True)
    assert clean.images == images([0, 1, 3, 4])
    assert clean.left_out == (("ants/2.jpg", "a copy of it is in the train split of b"),)
    assert clean.notes[0].startswith("left out: 1 of these images has an exact copy")


def test_an_overlap_that_was_learned_altogether() -> None:
    both = [seen("a", range(2), range(2)), seen("b", range(2), range(2))]
    with pytest.raises(
        DataError, match=r"2 of these images have an exact copy in the train split of a and b, .*nothing is left to compare on"
    ):
        common_images(both, "test", overlap=True)


def test_what_a_split_file_says() -> None:
    rows = [{"path": split, "label": "ants", "split": split, "sha256": f"of {split}"} for split in ("train", "val", "test")]
    found = seen_by("a", rows, "val", Path("split.csv"))
    assert found == Seen("a", (Image("val", "ants", "of val"),), frozenset({"of train"}), Path("split.csv"))
