from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.exports import export as room
from cnnkit.api.exports.export import export
from cnnkit.api.inference.samples import run_samples
from cnnkit.data.source import VAL
from cnnkit.data.store.facts import decode
from cnnkit.errors import CheckFailedError, ConfigError, DataError, ModelFileError, PluginError
from cnnkit.exporters.protocol import Exporter
from cnnkit.files import fingerprint
from cnnkit.model.classifier import Classifier
from cnnkit.model.file import Model, load_model
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.run_dir import RunDir


class CountingClassifier(TorchClassifier):
    """An exported file that counts the images it classifies."""

    predicted = 0

    def probabilities(self, images):
        CountingClassifier.predicted += len(images)
        return super().probabilities(images)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every exporter by one that copies the model file."""

    def write(model: Model, path: Path) -> None:
        shutil.copy(model.path, path)

    def open_copy(path: Path) -> Classifier:
        return CountingClassifier(load_model(path))

    monkeypatch.setattr(CountingClassifier, "predicted", 0)
    monkeypatch.setattr(room, "load_exporter", lambda name: Exporter(name, "copies", write, open_copy))


def test_a_run_keeps_the_exported_file_and_its_parity_on_val(trained):
    found = export(trained.run, to="toy")
    assert found.path == trained.run / "export/model.toy"
    assert fingerprint(found.path) == fingerprint(trained.run / "best.safetensors")
    assert (found.parity.n, found.parity.top1_agreement, found.images) == (9, 1.0, f"val images of {trained.data}")
    assert found.target.run is not None
    parity = json.loads((trained.run / "export/model-toy-parity.json").read_text())
    kinds = {"input": "images", "output": "probabilities", "sha256": fingerprint(found.path)}
    assert parity == {**found.certificate.to_dict(), **kinds, "images": found.images, "file": "model.toy"}
    assert repr(found).startswith(
        f"Export('{trained.run}/export/model.toy', parity on 9 images: top-1 agreement 1.0000, largest difference"
    )
    document = found.to_dict()
    assert document["hard_images"]["batch of 7"]["n"] == 7
    assert document.items() >= {"path": str(found.path), "images": found.images, "half": False, **found.parity.to_dict()}.items()


def test_the_newest_run_is_exported_to_the_given_file(trained, tmp_path):
    found = export(to="toy", out=tmp_path / "deep/er/leaf.toy")
    assert (found.path, found.target.chosen) == (tmp_path / "deep/er/leaf.toy", True)
    assert sorted(path.name for path in found.path.parent.iterdir()) == [
        "leaf-toy-golden",
        "leaf-toy-parity.json",
        "leaf-toy.json",
        "leaf.toy",
    ]
    assert not (trained.run / "export").exists()


def test_parity_is_checked_on_the_readable_images_of_other_data(trained):
    found = export(trained.run, to="toy", data=str(trained.data))
    assert (found.parity.n, found.images) == (60, f"all images of {trained.data}")


def test_parity_is_checked_on_a_limited_number_of_images(trained, monkeypatch):
    monkeypatch.setattr(room, "PARITY_IMAGES", 5)
    assert export(trained.run, to="toy").parity.n == 5
    samples = run_samples(RunDir(trained.run), VAL)
    *_, last = room._decoded(samples, None)
    np.testing.assert_array_equal(last, decode(samples.source.read(samples.records[-1])).image)  # of all classes, not of the first ones


def test_a_model_file_without_a_run_is_checked_on_sample_photographs(trained, tmp_path):
    (tmp_path / "alone").mkdir()
    alone = shutil.copy(trained.run / "best.safetensors", tmp_path / "alone/m.safetensors")
    found = export(alone, to="toy")
    assert (found.path, found.images) == (tmp_path / "alone/model.toy", "crops of scikit-learn's sample photographs")
    assert found.target.run is None
    assert found.parity.n == 64
    assert CountingClassifier.predicted > 64  # and hard images


def test_a_file_with_different_predictions_is_not_kept(trained, monkeypatch):
    monkeypatch.setattr(CountingClassifier, "probabilities", lambda _, images: np.eye(3, dtype=np.float32)[np.zeros(len(images), np.int64)])
    with pytest.raises(CheckFailedError, match="9 images"):
        export(trained.run, to="toy")
    assert list((trained.run / "export").iterdir()) == []


def test_a_folder_gets_the_usual_name_and_another_suffix_is_refused(trained, tmp_path):
    assert export(to="toy", out=tmp_path).path == tmp_path / "model.toy"
    for name in ("leaf", "leaf.onnx"):
        with pytest.raises(ConfigError, match=rf"--out {name}: a file of the exporter 'toy' ends in \.toy; type --out leaf\.toy"):
            export(to="toy", out=name)


def test_exported_files_unknown_classes_and_unwritable_folders_are_refused(trained, image_folder, monkeypatch):
    exported = trained.run / "export/model.onnx"
    exported.parent.mkdir()
    exported.touch()
    with pytest.raises(ModelFileError, match=r"this file is exported already; cnnkit exports model files, such as best\.safetensors"):
        export(exported)
    with pytest.raises(DataError, match="classes that the model does not have: flies"):
        export(trained.run, to="toy", data=str(image_folder(["bees", "flies"], images=1)))
    Path("file").touch()
    with pytest.raises(ConfigError, match="--out file: cannot write there"):
        export(trained.run, to="toy", out="file/model.toy")
    monkeypatch.undo()
    with pytest.raises(PluginError, match="no exporter named 'onx' is installed; did you mean 'onnx'"):
        export(trained.run, to="onx")


def test_parity_is_checked_on_drafts_if_the_model_names_them(trained, draft_model, draft_probabilities, monkeypatch):
    seen: list[tuple[int, ...]] = []
    real = CountingClassifier.probabilities
    monkeypatch.setattr(
        CountingClassifier, "probabilities", lambda self, images: seen.extend(i.shape for i in images) or real(self, images)
    )
    assert export(draft_model, to="toy", data=str(trained.data)).parity.passed
    assert seen[:60] == [(16, 20, 3)] * 60
