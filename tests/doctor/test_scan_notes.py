from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.source import open_source
from cnnkit.doctor import scan_notes as module
from cnnkit.doctor.scan_notes import name_notes, scan_notes


def notes_of(data: Path, **given) -> tuple[str, ...]:
    source = open_source(str(data))
    config = DataConfig(data=str(data), **given)
    return scan_notes(source, load_dataset(source, config, None, 0), config.classes)


def test_healthy_images_have_no_notes(image_folder) -> None:
    assert notes_of(image_folder(images=12)) == ()


def test_one_picture_in_two_classes_twin_classes_and_an_empty_class_are_noted(image_folder) -> None:
    data = image_folder(("Bees", "ants", "bees"), 12)
    shutil.copy(data / "ants" / "ants-000.jpg", data / "bees" / "stray.jpg")
    (data / "wasps").mkdir()
    empty, twins, conflict = notes_of(data)
    assert empty.startswith("1 class folder without an image: 'wasps'.")
    assert twins.startswith("Class names that differ only in case, separators or look-alike letters: 'Bees' and 'bees'.")
    assert conflict.startswith("2 images in 1 set of copies in different classes: 'ants' and 'bees' (1).")


def test_a_selection_of_classes_mentions_no_other_folder(image_folder) -> None:
    data = image_folder(images=12)
    (data / "birds").mkdir()
    assert notes_of(data, classes=("ants", "bees")) == ()


def test_an_unreadable_image_does_not_shift_the_copies(image_folder) -> None:
    data = image_folder(images=12)
    (data / "ants" / "ants-000.jpg").write_bytes(b"")
    shutil.copy(data / "ants" / "ants-005.jpg", data / "wasps" / "stray.jpg")
    (note,) = notes_of(data)
    assert "'ants' and 'wasps' (1)" in note


def test_notes_are_computed_once(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    data = image_folder(("Bees", "bees"), 12)
    first = notes_of(data)
    monkeypatch.setattr(module, "examine_for_training", None)
    assert notes_of(data) == first != ()


def test_notes_on_names_need_no_image(image_folder) -> None:
    data = image_folder(("Bees", "bees"), 2)
    (data / "birds").mkdir()
    source = open_source(str(data))
    assert [note.split(":")[0] for note in name_notes(source, source.records)] == [
        "1 class folder without an image",
        "Class names that differ only in case, separators or look-alike letters",
    ]
