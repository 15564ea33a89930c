"""Choice of the images of an evaluation, on the data of the run, on copies of it and on other data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import cnnkit
from cnnkit.api.evaluation.measured_images import MeasuredImages, images_of, measured_images
from cnnkit.api.inference.target import find_target
from cnnkit.errors import ConfigError, DataError
from cnnkit.exporters.opening import open_classifier
from cnnkit.run_dir import RunDir

NAME = "001-custom-cnn"


@pytest.fixture
def choose(trained) -> Callable[..., MeasuredImages]:
    """Return a function that chooses the images of the trained model: ``choose(data, split="val", include_trained=True)``."""
    target = find_target(trained.run)
    classifier = open_classifier(target.path)
    return lambda data, split=None, only=(), **flags: measured_images(target, classifier, data and str(data), split, only, **flags)


@pytest.fixture
def fresh(image_folder, trained) -> Path:
    """Return 15 images that the run does not have, with two of its train, one of its val and one of its test images among them."""
    data = image_folder(images=5, folder="fresh", seed=9)
    rows = RunDir(trained.run).read_split()
    for number, split in enumerate(["train", "train", "val", "test"]):
        row = [row for row in rows if row["split"] == split][number]
        shutil.copy(trained.data / row["path"], data / row["label"] / f"renamed-{split}-{number}.jpg")
    return data


def paths(images: MeasuredImages) -> set[str]:
    return {record.path for record in images.samples.records}


def of_split(trained, split: str) -> set[str]:
    return {row["path"] for row in RunDir(trained.run).read_split() if row["split"] == split}


def test_without_data_the_split_of_the_run_is_measured(choose, trained):
    found = choose(None)
    assert (found.samples.split, paths(found), found.notes, found.lookup) == ("test", of_split(trained, "test"), (), None)
    assert found.run == RunDir(trained.run)


@pytest.mark.parametrize("change", ["typed again", "moved", "classes renamed on the way", "without some images"])
def test_the_own_data_are_measured_on_the_test_split(choose, trained, change):
    data, n, total = trained.data, 9, 61
    if change != "typed again":
        data = Path(shutil.copytree(data, "moved"))
    if change == "classes renamed on the way":
        for image in data.glob("*/*.jpg"):
            image.rename(image.with_name(f"photo-{image.name}"))
    if change == "without some images":
        for path in sorted(of_split(trained, "train"))[:10]:
            (data / path).unlink()
        total = 51
    found = choose(data)
    assert (found.samples.split, len(found.samples.records), found.run) == ("test", n, RunDir(trained.run))
    renamed = {path.replace("/photo-", "/") for path in paths(found)}
    assert renamed == of_split(trained, "test")
    (note,) = found.notes
    assert note == (
        f"{data} holds the images of {NAME}, so its test split is evaluated: 9 of {total} images; "
        f"the model was trained on {total - 19} others; 1 is not of the run, and left out"
    )
    assert found.lookup is not None
    assert [found.lookup.count(split) for split in ("train", "val", "test")] == [total - 19, 9, 9]


def test_the_split_of_the_own_data_may_be_chosen(choose, trained):
    assert paths(choose(trained.data, "val")) == of_split(trained, "val")
    train = choose(trained.data, "train")
    assert paths(train) == of_split(trained, "train")
    assert train.notes == (
        f"{trained.data} holds the images of {NAME}, so its train split is evaluated: 42 of 61 images; 1 is not of the run, and left out",
    )


def test_the_classes_of_the_own_data_may_be_restricted(choose, trained):
    found = choose(trained.data, None, ["bees"])
    assert paths(found) == {path for path in of_split(trained, "test") if path.startswith("bees/")}
    with pytest.raises(DataError, match="--classes flies: no such class"):
        choose(trained.data, None, ["flies"])


def test_new_images_in_the_own_data_are_counted(choose, trained, image_folder):
    data = Path(shutil.copytree(trained.data, "grown"))
    for image in image_folder(images=2, folder="more", seed=9).glob("*/*.jpg"):
        shutil.copy(image, data / image.parent.name / f"new-{image.name}")
    assert choose(data).notes[0].endswith("9 of 67 images; the model was trained on 42 others; 7 are not of the run, and left out")
    for image in image_folder(images=30, folder="many", seed=10).glob("*/*.jpg"):
        shutil.copy(image, data / image.parent.name / f"many-{image.name}")
    most_are_new = choose(data)
    assert most_are_new.run is None
    assert 9 + 6 + 85 < len(most_are_new.samples.records) <= 9 + 6 + 90 + 1  # a few of 96 striped images look like copies


def test_images_that_the_model_was_trained_on_are_named_and_left_out(choose, fresh):
    found = choose(fresh)
    assert (found.samples.split, len(found.samples.records), found.run) == ("all", 16, None)
    assert {path for path in paths(found) if "renamed" in path} == {path for path in paths(found) if "renamed-test" in path}
    (note,) = found.notes
    assert note == (
        f"3 of 19 images were used to train {NAME}: 2 are in its train split; "
        "1 is in its val split, which chose the epoch and fitted the temperature; "
        "they are left out, and --include-trained measures them too"
    )
    assert {reason for _, reason in found.left_out} == {f"a copy is in the {split} split of {NAME}" for split in ("train", "val")}


def test_include_trained_measures_them_and_says_so(choose, fresh, trained):
    found = choose(fresh, include_trained=True)
    assert (len(found.samples.records), found.left_out) == (19, ())
    assert found.notes[0].endswith("which chose the epoch and fitted the temperature; --include-trained: the figures are too good")
    assert found.lookup is not None
    assert found.lookup.to_dict() == {
        "run": NAME,
        "images": 19,
        "exact": {"train": 2, "val": 1, "test": 0},
        "near": {"train": 0, "val": 0, "test": 0},
        "included": True,
        "by": ["sha256", "near copies"],
    }
    own = choose(trained.data, include_trained=True)
    assert (own.run, len(own.samples.records)) == (None, 61)
    assert own.notes[0].startswith(f"51 of 60 images were used to train {NAME}: 42 are in its train split; 9 are in its val split")


def test_near_copies_of_trained_images_are_left_out(choose, fresh, trained):
    path = sorted(of_split(trained, "train"))[7]
    with Image.open(trained.data / path) as image:
        image.resize((60, 48)).save(fresh / "ants/resized.png")
    found = choose(fresh)
    assert "ants/resized.png" not in paths(found)
    assert ("ants/resized.png", f"a near copy is in the train split of {NAME}") in found.left_out
    assert "temperature; 1 is a near copy of its train images; they are left out" in found.notes[0]


def test_a_missing_cache_is_noted(choose, fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "empty"))
    found = choose(fresh)
    assert len(found.samples.records) == 16
    assert found.notes[1] == "near copies were looked up among 3 of 51 images; the others are no longer in the cache"
    clean = Path(shutil.copytree(fresh, "clean"))
    for image in clean.glob("*/renamed-*"):
        image.unlink()
    found = choose(clean)
    assert found.notes == ("near copies were not looked up: the decoded images of the run are no longer in the cache",)
    assert found.lookup is not None
    assert found.lookup.by == ("sha256",)


def test_nothing_left_is_an_error_with_the_way_out(choose, trained):
    data = Path("part")
    for path in sorted(of_split(trained, "train"))[::5]:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trained.data / path, data / path)
    with pytest.raises(DataError) as refused:
        choose(data)
    assert str(refused.value) == (
        f"part: 9 of 9 images were used to train {NAME}: 9 are in its train split, so no image is left to measure; "
        f"name images that the model has not seen, evaluate the split of the run itself: cnnkit eval --model {trained.run}, "
        "or add --include-trained"
    )
    assert len(choose(data, include_trained=True).samples.records) == 9


def test_a_model_without_a_run_cannot_be_checked(trained, fresh):
    lone = shutil.copy(trained.run / "best.safetensors", "lone.safetensors")
    found = cnnkit.evaluate(lone, data=str(fresh))
    sentence = "lone.safetensors lies in no run directory, so it cannot be checked whether the model was trained on these images"
    assert (found.report.n, found.lookup) == (19, None)
    assert [note for note in found.notes if "cannot be checked" in note] == [sentence]
    with pytest.raises(ConfigError, match=f"--include-trained: {sentence}; leave it out"):
        cnnkit.evaluate(lone, data=str(fresh), include_trained=True)


def test_a_run_without_its_split_file_cannot_be_checked(trained):
    (trained.run / "split.csv").unlink()
    images, reason = images_of(find_target(trained.run))
    assert images is None
    assert reason.startswith("it cannot be checked whether the model was trained on these images: ")
    assert "split.csv: cannot be read" in reason


def test_the_exported_file_of_a_run_is_checked_by_its_split(trained_export, fresh):
    found = cnnkit.evaluate(trained_export, data=str(fresh))
    assert (found.report.n, len(found.left_out)) == (16, 3)


def test_the_flag_needs_other_images(trained):
    with pytest.raises(
        ConfigError, match=r"--include-trained needs --data or --ood; .*: cnnkit eval --model .*001-custom-cnn --split train"
    ):
        cnnkit.evaluate(trained.run, include_trained=True)
