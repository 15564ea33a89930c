from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from cnnkit.api.evaluation.common_images import ImagesOfModel, LabelledImage, common_images, images_of_run
from cnnkit.errors import DataError


def images(numbers: Iterable[int]) -> tuple[LabelledImage, ...]:
    return tuple(LabelledImage(f"ants/{number}.jpg", "ants", f"hash-{number}") for number in numbers)


def images_of(name: str, tested: Iterable[int], trained: Iterable[int] = ()) -> ImagesOfModel:
    return ImagesOfModel(name, images(tested), frozenset(f"hash-{number}" for number in trained), Path(f"runs/{name}/split.csv"))


def test_equal_test_sets_are_taken_whole_in_the_order_of_the_first_model() -> None:
    found = common_images([images_of("a", [3, 1, 2]), images_of("b", [1, 2, 3])], "test", overlap=False)
    assert found.images == images([3, 1, 2])
    assert (found.left_out, found.notes) == ((), ())


def test_different_test_sets_are_refused_and_the_overlap_is_offered() -> None:
    with pytest.raises(DataError) as caught:
        common_images([images_of("a", range(10), range(10, 50)), images_of("b", range(6, 14), range(4))], "test", overlap=False)
    assert str(caught.value) == (
        "the runs have different test images: a has 10, b has 8; 4 are common to all: compare on those with --overlap; "
        "b was trained on 4 of the test images of a; "
        "to compare on all, train again with the same split: cnnkit train --split-file runs/a/split.csv"
    )


def test_a_subset_counts_as_a_different_test_set() -> None:
    for order in ((range(5), range(4)), (range(4), range(5))):
        with pytest.raises(DataError, match="4 are common to all"):
            common_images([images_of(name, tested) for name, tested in zip("ab", order, strict=True)], "test", overlap=False)


def test_the_overlap_is_taken_and_its_size_is_noted() -> None:
    found = common_images([images_of("a", range(10)), images_of("b", range(6, 14)), images_of("c", range(5, 9))], "val", overlap=True)
    assert found.images == images([6, 7, 8])
    assert found.notes == ("compared on the 3 val images that are common to all: a has 10, b has 8, c has 4",)


def test_equal_test_sets_with_overlap_give_no_note() -> None:
    assert common_images([images_of("a", range(3)), images_of("b", range(3))], "test", overlap=True).notes == ()


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        (images([7]), "no image is common to all;"),
        (
            (LabelledImage("images/ants/1.jpg", "ants", "hash-1"),),
            "(1 have the same content but another path or label, such as ants/1.jpg (ants) and images",
        ),
        ((LabelledImage("ants/1.jpg", "bees", "hash-1"),), "such as ants/1.jpg (ants) and ants/1.jpg (bees))"),
        ((LabelledImage("ants/1.jpg", "ants", "changed"),), "(1 have the same path but another content, such as ants/1.jpg)"),
    ],
)
@pytest.mark.parametrize("overlap", [True, False])
def test_an_empty_overlap_names_images_that_nearly_agree(other: tuple[LabelledImage, ...], hint: str, overlap: bool) -> None:
    with pytest.raises(DataError) as caught:
        common_images([images_of("a", [1, 2]), ImagesOfModel("b", other, frozenset())], "test", overlap=overlap)
    assert hint in str(caught.value)
    assert "compare on those with --overlap" not in str(caught.value)


def test_an_image_with_a_copy_in_train_is_noted_and_the_overlap_omits_it() -> None:
    models = [images_of("a", range(5)), images_of("b", range(5), [2, 9])]
    plain = common_images(models, "test", overlap=False)
    assert plain.images == images(range(5))
    (note,) = plain.notes
    assert note.startswith(
        "1 of these images has an exact copy in the train split of b, such as ants/2.jpg: the model may have memorised it"
    )
    assert note.endswith("; --overlap leaves them out")
    clean = common_images(models, "test", overlap=True)
    assert clean.images == images([0, 1, 3, 4])
    assert clean.left_out == (("ants/2.jpg", "a copy is in the train split of b"),)
    assert clean.notes[0].startswith("left out: 1 of these images has an exact copy")


def test_an_overlap_of_training_images_alone_is_refused() -> None:
    models = [images_of("a", range(2), range(2)), images_of("b", range(2), range(2))]
    with pytest.raises(
        DataError,
        match=r"2 of these images have an exact copy in the train split of a and b, .*no image is left to compare on",
    ):
        common_images(models, "test", overlap=True)


def test_the_rows_of_a_split_file_give_tested_images_and_training_contents() -> None:
    rows = [{"path": split, "label": "ants", "split": split, "sha256": f"of {split}"} for split in ("train", "val", "test")]
    found = images_of_run("a", rows, "val", Path("split.csv"))
    assert found == ImagesOfModel("a", (LabelledImage("val", "ants", "of val"),), frozenset({"of train"}), Path("split.csv"))
