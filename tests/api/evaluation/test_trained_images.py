"""The lookup of images among those of a run: pictures of random blocks, whose contents are named by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnkit.api.evaluation import trained_images
from cnnkit.api.evaluation.trained_images import Lookup, Origin, RunImage, RunImages, look_up
from cnnkit.data.store.facts import decode, measure
from cnnkit.data.store.index import FactColumns
from cnnkit.data.store.scan import Scan

NO_STORE = "near copies were not looked up: the decoded images of the run are no longer in the cache"


def pictures(*seeds: int) -> NDArray[np.uint8]:
    """Return a picture (64, 64, 3) of random blocks per seed; a negative seed is a slightly brighter copy of the positive one."""
    drawn = []
    for seed in seeds:
        blocks = np.random.default_rng(abs(seed)).integers(20, 200, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
        drawn.append(blocks * (1.1 if seed < 0 else 1))
    return np.stack(drawn).astype(np.uint8)


def content(seed: int) -> str:
    """Return the hash of the content of the picture of a seed."""
    return hashlib.sha256(str(seed).encode()).hexdigest()


def scanned(*seeds: int, folder: Path | None = None) -> Scan:
    measured = measure([decode(picture) for picture in pictures(*seeds)])
    facts = [item._replace(sha256=content(seed)) for item, seed in zip(measured.facts, seeds, strict=True)]
    return Scan(FactColumns.of(facts), measured.thumbnails, measured.looks, None, folder, reused=True)


def run_of(*images: tuple[int, str, str, str]) -> RunImages:
    """Return a run of images, each a seed, a label, a split and a unit."""
    return RunImages(
        "001-a", "gone", tuple(RunImage(f"{seed}.jpg", label, split, content(seed), unit) for seed, label, split, unit in images)
    )


RUN = run_of((1, "a", "train", "u"), (2, "a", "val", "v"), (3, "b", "test", "w"), (4, "b", "train", "x"))


@pytest.fixture
def store(monkeypatch) -> Scan:
    """Put the pictures of `RUN` into the cache."""
    found = scanned(1, 2, 3, 4)
    monkeypatch.setattr(trained_images, "stores_of", lambda _: [found])
    return found


def test_equal_contents_are_found_in_train_and_val(store):
    origins, by, notes = look_up(RUN, scanned(2, 9, 3, 1), range(4))
    assert origins == {0: Origin("val"), 3: Origin("train")}
    assert (by, notes) == (("sha256", "near copies"), ())
    assert look_up(RUN, scanned(3), [0], ("train", "val", "test"))[0] == {0: Origin("test")}


def test_of_equal_contents_in_two_splits_train_wins(store):
    run = run_of((1, "a", "test", ""), (1, "a", "train", ""), (1, "a", "val", ""))
    assert look_up(run, scanned(1), [0])[0] == {0: Origin("train")}


def test_near_copies_are_found_by_the_pictures_in_the_cache(store):
    origins, _, notes = look_up(RUN, scanned(-1, -2, 8, -3), range(4))
    assert (origins, notes) == ({0: Origin("train", near=True), 1: Origin("val", near=True)}, ())


def test_only_the_given_rows_are_looked_up(store):
    assert look_up(RUN, scanned(1, -1, 4), [2])[0] == {2: Origin("train")}


def test_without_the_pictures_of_the_run_a_note_says_so():
    origins, by, notes = look_up(RUN, scanned(1, -4), range(2))
    assert (origins, by) == ({0: Origin("train")}, ("sha256", "near copies"))  # picture 1 of the run is among the images themselves
    assert notes == ("near copies were looked up among 1 of 3 images; the others are no longer in the cache",)
    assert look_up(RUN, scanned(-1, 9), range(2)) == ({}, ("sha256",), (NO_STORE,))


def test_classes_whose_images_are_all_alike_have_no_near_copies(monkeypatch):
    run = run_of((1, "a", "train", "u"), (-1, "a", "val", "v"), (4, "b", "train", "x"))
    monkeypatch.setattr(trained_images, "stores_of", lambda _: [scanned(1, -1, 4)])
    found = scanned(5, -4)
    darker = measure([decode((pictures(1)[0] * 0.9).astype(np.uint8))])
    np.asarray(found.thumbnails)[0], found.looks[:][0] = darker.thumbnails[0], darker.looks[0]
    origins, _, notes = look_up(run, found, range(2))
    assert origins == {1: Origin("train", near=True)}
    assert notes == ("near copies were not looked up in a, whose images are all alike",)


def test_near_copies_are_remembered_beside_the_scan(store, tmp_path, monkeypatch):
    first = look_up(RUN, scanned(-1, 9, folder=tmp_path), range(2))
    assert first[0] == {0: Origin("train", near=True)}
    monkeypatch.setattr(trained_images, "near_pairs_between", None)
    assert look_up(RUN, scanned(-1, 9, folder=tmp_path), range(2)) == first
    with pytest.raises(TypeError):
        look_up(RUN, scanned(-1, 8, folder=tmp_path), range(2))


def test_the_sentence_names_train_and_val_with_its_role():
    lookup = Lookup("001-a", 20, (Origin("train"), Origin("val"), Origin("val"), Origin("train", near=True)))
    assert lookup.sentence() == (
        "4 of 20 images were used to train 001-a: 1 is in its train split; "
        "2 are in its val split, which chose the epoch and fitted the temperature; 1 is a near copy of its train images"
    )
    two = Lookup("001-a", 2, (Origin("val", near=True),) * 2)
    assert two.sentence() == "2 of 2 images were used to train 001-a: 2 are near copies of its val images"
