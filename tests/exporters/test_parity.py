from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import pytest

from cnnkit.errors import CheckFailedError, DataError, ModelFileError
from cnnkit.exporters.onnx import OnnxClassifier, onnx_exporter
from cnnkit.exporters.parity import HALF_TOLERANCE, TOLERANCE, certify, check_parity, export_checked, sample_photos
from cnnkit.exporters.protocol import Exporter
from cnnkit.model.torch_classifier import TorchClassifier


@dataclass
class Table:
    """A classifier whose probabilities for an image of value i are row i of a table."""

    rows: Sequence[Sequence[float]]
    classes: tuple[str, ...] = ("a", "b")
    asked: list[int] = field(default_factory=list)

    def probabilities(self, images):
        self.asked.append(len(images))
        return np.array([self.rows[int(image[0, 0, 0])] for image in images], np.float32)


def images(count: int) -> list[np.ndarray]:
    return [np.full((2 + index, 3, 3), index, np.uint8) for index in range(count)]


def test_equal_probabilities_pass():
    rows = [[0.9, 0.1], [0.2, 0.8]]
    parity = check_parity(Table(rows), Table(rows), images(2))
    assert parity.passed
    assert parity.to_dict().items() >= {"n": 2, "top1_agreement": 1.0, "max_abs_probability_difference": 0.0, "ties": 0}.items()
    json.dumps(parity.to_dict(), allow_nan=False)


def test_a_small_difference_passes_and_a_larger_one_fails():
    small = check_parity(Table([[0.9, 0.1]]), Table([[0.9 - TOLERANCE / 2, 0.1]]), images(1))
    assert small.passed
    assert small.max_abs_probability_difference == pytest.approx(TOLERANCE / 2, rel=1e-3)
    assert not check_parity(Table([[0.9, 0.1]]), Table([[0.9 - 2 * TOLERANCE, 0.1]]), images(1)).passed


def test_another_top_class_fails_however_small_the_difference():
    parity = check_parity(Table([[0.501, 0.499]]), Table([[0.499, 0.501]]), images(1), tolerance=0.0019)
    assert parity.top1_agreement == 0
    assert not parity.passed


def test_a_tie_of_the_model_itself_is_excused_and_counted():
    parity = check_parity(Table([[0.9, 0.1], [0.5, 0.49995]]), Table([[0.9, 0.1], [0.49995, 0.5]]), images(2))
    assert (parity.top1_agreement, parity.ties, parity.passed) == (0.5, 1, True)


def test_a_tie_between_two_other_classes_excuses_nothing():
    model, file = Table([[0.4, 0.4, 0.2]], ("a", "b", "c")), Table([[0.2, 0.4, 0.4]], ("a", "b", "c"))
    file.rows = [[0.3, 0.3, 0.4]]
    parity = check_parity(model, file, images(1), tolerance=0.15)
    assert (parity.ties, parity.passed) == (0, False)


@pytest.mark.parametrize("index", [0, 1])
def test_nan_never_passes(index):
    tables = Table([[0.9, 0.1]]), Table([[0.9, 0.1]])
    tables[index].rows = [[float("nan"), float("nan")]]
    assert not check_parity(*tables, images(1)).passed


def test_another_top_class_is_worse_than_a_larger_difference():
    model = Table([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]])
    file = Table([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
    worst = check_parity(model, file, images(3)).worst
    assert worst == "image 2 of 3 (3 × 3 px): model 'a' 0.600000, file 'b' 0.600000"


def test_images_are_compared_in_batches():
    file = Table([[0.9, 0.1]] * 5)
    check_parity(Table([[0.9, 0.1]] * 5), file, iter(images(5)), batches=(1, 3))
    assert file.asked == [1, 3, 1]


def test_other_class_names_always_fail():
    with pytest.raises(CheckFailedError, match=r"names the classes \('b', 'a'\), the model \('a', 'b'\)"):
        check_parity(Table([[1, 0]]), Table([[1, 0]], ("b", "a")), images(1))


def test_no_images_are_an_error():
    with pytest.raises(DataError, match="there are no images to check the exported file on; name a folder of images with --data"):
        check_parity(Table([]), Table([]), [])


def test_an_export_is_kept_after_the_check(model, exported, tmp_path):
    copying = replace(onnx_exporter, write=lambda _, path, __: shutil.copy(exported, path))
    certificate = export_checked(model, copying, tmp_path / "m.onnx", iter(sample_photos(40)))
    parity = certificate.real
    assert parity.n == 40
    assert certificate.failed is None
    assert list(certificate.hard) == [
        "1 × 1 px",
        "501 × 37 px",
        "4000 × 3000 px",
        "black",
        "white",
        "batch of 1",
        "batch of 2",
        "batch of 7",
    ]
    assert certificate.hard["batch of 7"].n == 7
    assert certificate.largest_difference < 1e-5
    assert parity.passed
    assert parity.max_abs_probability_difference < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.fixture
def wrong(make_model, exported) -> Exporter:
    """Return an exporter that ignores the temperature, so that the top classes agree and the probabilities differ."""

    def open_cold(_):
        return TorchClassifier(make_model(classes=("ant", "bee", "Käfer"), temperature=1.0))

    return Exporter(name="wrong", summary="", write=lambda _, path: path.write_bytes(b"new"), open=open_cold)


def test_an_export_with_other_predictions_is_removed_and_explained(model, wrong, tmp_path):
    path = tmp_path / "m.wrong"
    path.write_bytes(b"old and good")
    with pytest.raises(CheckFailedError) as caught:
        export_checked(model, wrong, path, sample_photos(7))
    message = str(caught.value)
    reason = "not kept, as its predictions differ from those of best.safetensors: 0 of 7 images have another top class"
    assert message.startswith(f"{path}: {reason}")
    assert "(allowed: 0.001); worst: image " in message
    assert "The fault is in the exporter 'wrong'" in message
    assert caught.value.exit_code == 1
    assert [file.name for file in tmp_path.iterdir()] == ["m.wrong"]
    assert path.read_bytes() == b"old and good"


def test_an_interrupted_export_leaves_nothing(model, wrong, tmp_path):
    def interrupted(_, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_checked(model, replace(wrong, write=interrupted), tmp_path / "m.wrong", sample_photos(1))
    assert list(tmp_path.iterdir()) == []


def test_without_images_nothing_is_exported(model, wrong, tmp_path):
    with pytest.raises(DataError, match="not exported, as there are no images to check it on; name a folder of images with --data"):
        export_checked(model, replace(wrong, write=None), tmp_path / "m.wrong", [])


def test_a_missing_folder_is_an_error(model, wrong, tmp_path):
    with pytest.raises(OSError, match=r"No such file or directory: '.*/gone/m\.wrong'"):
        export_checked(model, wrong, tmp_path / "gone/m.wrong", sample_photos(1))


MUTANTS: dict[str, dict[str, Any]] = {
    "mean": {"mean": (0.46, 0.5, 0.4)},
    "std": {"std": (0.2, 0.31, 0.25)},
    "size": {"image_size": 25},
    "crop": {"crop": 0.88},
    "interpolation": {"interpolation": "bicubic"},
    "resize mode": {"resize_mode": "squash"},
    "channel order": {"mean": (0.4, 0.5, 0.45), "std": (0.25, 0.3, 0.2)},
    "temperature": {"temperature": 1.734},
}


@pytest.mark.parametrize("changed", MUTANTS.values(), ids=MUTANTS)
def test_the_certificate_fails_for_each_constant_that_is_off(make_model, changed):
    right, mutant = make_model(crop=0.9), make_model(**{"crop": 0.9, **changed})
    photos = sample_photos(20)
    assert certify(TorchClassifier(right), TorchClassifier(right), photos[:2]).failed is None
    assert certify(TorchClassifier(right), TorchClassifier(mutant), photos).failed is not None


def test_the_certificate_fails_for_another_order_of_channels(model):
    class Swapped(TorchClassifier):
        def canvases(self, images):
            return super().canvases([image[..., ::-1].copy() for image in images])

    assert certify(TorchClassifier(model), Swapped(model), sample_photos(20)).failed is not None


def test_hard_images_alone_fail_a_certificate(model):
    class Fragile(TorchClassifier):
        """A file that is right for ordinary photographs and wrong for one pixel."""

        def probabilities(self, images):
            found = super().probabilities(images)
            return np.roll(found, 1, axis=1) if images[0].shape[0] == 1 else found

    failed = certify(TorchClassifier(model), Fragile(model), sample_photos(5)).failed
    assert failed is not None
    assert failed[0] == "1 × 1 px"


@pytest.mark.parametrize(
    ("choices", "tolerance"),
    [({"input": "canvas"}, 1e-5), ({"input": "float", "output": "logits"}, 1e-5), ({"input": "canvas", "half": True}, HALF_TOLERANCE)],
    ids=str,
)
def test_every_kind_of_input_passes_the_certificate(exported_kind, model, choices, tolerance):
    found = certify(TorchClassifier(model), OnnxClassifier(exported_kind(**choices)), sample_photos(20), tolerance=tolerance)
    assert found.failed is None


STORED_MUTANTS = {name: changed for name, changed in MUTANTS.items() if name not in {"size", "temperature"}}


@pytest.mark.parametrize("changed", [*STORED_MUTANTS.values(), {"temperature": 1.734}], ids=[*STORED_MUTANTS, "temperature"])
def test_the_certificate_fails_for_each_constant_of_a_file(exported_kind, model, tmp_path, changed):
    """A file that takes normalised images leaves all of the preprocessing to the constants in its metadata."""
    proto = onnx.load(exported_kind(input="float", output="logits"))
    known = {entry.key: entry.value for entry in proto.metadata_props}
    if "temperature" in changed:
        known["temperature"] = json.dumps(changed["temperature"])
    else:
        known["preprocessing"] = model.header.preprocessing.model_copy(update=changed).model_dump_json()
    onnx.helper.set_model_props(proto, known)
    onnx.save(proto, tmp_path / "m.onnx")
    assert certify(TorchClassifier(model), OnnxClassifier(tmp_path / "m.onnx"), sample_photos(20)).failed is not None


def test_another_size_than_that_of_the_graph_is_refused(exported_kind, model, tmp_path):
    proto = onnx.load(exported_kind(input="canvas"))
    known = {entry.key: entry.value for entry in proto.metadata_props}
    known["preprocessing"] = model.header.preprocessing.model_copy(update={"image_size": 25}).model_dump_json()
    onnx.helper.set_model_props(proto, known)
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(
        ModelFileError, match=r"its input is 'canvas' tensor\(uint8\) \['N', 24, 24, 3\], its preprocessing makes \['N', 25"
    ):
        OnnxClassifier(tmp_path / "m.onnx")


def test_sample_photos_are_real_and_varied_and_repeatable():
    photos = sample_photos(20)
    assert len(photos) == 20
    assert len({photo.shape for photo in photos}) == 20
    assert all(photo.dtype == np.uint8 and photo.shape[2] == 3 and min(photo.shape[:2]) >= 16 for photo in photos)
    assert all(photo.std() > 5 for photo in photos)
    assert all(np.array_equal(one, other) for one, other in zip(photos, sample_photos(30), strict=False))
