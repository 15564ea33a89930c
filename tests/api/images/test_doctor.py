from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cnnkit.api.images.doctor import examine
from cnnkit.data.source import open_source
from cnnkit.doctor.finding import IDS, Health, Severity
from cnnkit.errors import DataError, ModelFileError
from cnnkit.model.torch_classifier import TorchClassifier


def found(health: Health, finding: str) -> tuple[tuple[str, ...], ...] | None:
    """Return the cases of a finding; None if there is none."""
    return next((each.files for each in health.findings if each.id == finding), None)


def test_planted_faults_are_found(image_folder):
    data: Path = image_folder(images=20)
    (data / "ants/broken.jpg").write_bytes((data / "ants/ants-000.jpg").read_bytes()[:300])
    shutil.copy(data / "ants/ants-001.jpg", data / "ants/ants-001-copy.jpg")
    shutil.copy(data / "ants/ants-002.jpg", data / "bees/bees-from-ants.jpg")
    steps: list[tuple[int, int]] = []
    health = examine(data, progress=lambda done, total: steps.append((done, total)))
    assert (health.images, health.classes, steps[-1]) == (63, {"ants": 22, "bees": 21, "wasps": 20}, (63, 63))
    assert found(health, "unreadable") == (("ants/broken.jpg",),)
    assert found(health, "duplicate") == (("ants/ants-001-copy.jpg", "ants/ants-001.jpg"),)
    assert found(health, "label-conflict") == (("ants/ants-002.jpg", "bees/bees-from-ants.jpg"),)
    assert {finding.id for finding in health.findings} <= set(IDS)


def test_few_photographs_get_the_command_that_starts_from_weights(image_folder):
    health = examine(image_folder(images=20, size=(120, 90)))
    assert len(health.notes) == 1
    assert health.notes[0].startswith("train has 14 images per class, and under 500 ")
    assert "/images --arch " in health.notes[0]
    assert health.notes[0].endswith(" --weights pretrained")
    assert examine(image_folder(images=20, folder="small")).notes == ()


def test_only_the_given_classes_are_examined(image_folder):
    data: Path = image_folder(images=8)
    (data / "ants/broken.jpg").write_bytes(b"no image")
    health = examine(data, classes=["bees", "wasps"])
    assert (health.images, health.classes, found(health, "unreadable")) == (16, {"bees": 8, "wasps": 8}, None)
    with pytest.raises(DataError, match="did you mean 'bees'"):
        examine(data, classes=["ants", "bess"])


def test_a_group_in_two_splits_is_a_leak_if_groups_are_given(image_folder):
    image_folder(["ants", "bees"], images=6, folder="data/train", seed=1)
    data = image_folder(["ants", "bees"], images=6, folder="data/test", seed=2).parent
    assert found(examine(data), "leak") is None
    health = examine(data, group_by=r"(\d)\.jpg")
    (leak,) = [finding for finding in health.findings if finding.id == "leak"]
    assert leak.severity is Severity.ERROR
    assert any({path.split("/")[0] for path in case} == {"train", "test"} for case in leak.files)


def test_the_notes_come_from_the_source(image_folder):
    data: Path = image_folder(images=4)
    (data / "stray.jpg").write_bytes((data / "ants/ants-000.jpg").read_bytes())
    notes = tuple(open_source(str(data)).notes)
    assert notes
    assert examine(data).notes == notes


def test_a_run_finds_wrong_labels(trained, tmp_path, monkeypatch):
    examine(trained.data, model=trained.run)
    moved = tmp_path / "moved"
    shutil.copytree(trained.data, moved)
    for index in range(1, 4):
        shutil.move(moved / "bees" / f"bees-{index:03d}.jpg", moved / "ants" / f"stray-{index}.jpg")
    suspects = found(examine(moved, model=trained.run), "label-suspect")
    assert suspects is not None
    assert {f"ants/stray-{index}.jpg" for index in range(1, 4)} <= {case[0] for case in suspects}
    assert found(examine(moved), "label-suspect") is None
    monkeypatch.setattr(TorchClassifier, "canvas_features", lambda *_: pytest.fail("the network ran again on the same images"))
    assert found(examine(moved, model=trained.run), "label-suspect") == suspects


def test_an_unsuitable_model_is_an_error_before_images_are_read(trained, image_folder):
    data = image_folder(["ants", "flies", "moths"], images=3)
    with pytest.raises(ModelFileError) as refused:
        examine(data, model=trained.run)
    assert "does not have the classes flies, moths; it has ants, bees, wasps; name a model with these" in str(refused.value)
    Path("model.onnx").touch()
    with pytest.raises(ModelFileError, match=r"--model model\.onnx: only a run or a model file \(best\.safetensors\) can find wrong"):
        examine(trained.data, model="model.onnx")
