from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.api.inference.drift import take_fingerprint
from cnnkit.api.training import model_header
from cnnkit.api.training.model_header import Fingerprints, with_proof, with_temperature
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.data.appearance import appearance
from cnnkit.data.batches import Batches
from cnnkit.engine.validation import Validation
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature import Calibration, log_losses
from cnnkit.metrics.units import Units
from cnnkit.model.file import ModelHeader, load_model, read_header
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.proof import TOLERANCE, logit_difference, proof_logits
from cnnkit.model.torch_classifier import TorchClassifier

SMALL: dict[str, Any] = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16}
NOTHING = Estimate(0.0, 0.0, 0.0)
HEADER = ModelHeader(
    arch="custom-cnn",
    options={},
    classes=("ant", "bee", "wasp"),
    preprocessing=Preprocessing(image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3),
    temperature=0.5,
)


@pytest.fixture
def val() -> Batches:
    canvases = np.random.default_rng(0).integers(0, 256, (23, 3, 8, 8)).astype(np.uint8)
    rows = np.arange(2, 23)
    return Batches(canvases, rows, rows % 3, 8, Preprocess(HEADER.preprocessing), torch.device("cpu"))


def validation(logits: np.ndarray) -> Validation:
    return Validation(1.0, np.zeros((3, 3), np.int64), logits.astype(np.float32), np.zeros(len(logits), np.int64))


def test_a_model_file_holds_its_package_and_the_logits_of_the_fixed_canvas(trained):
    model = load_model(trained.run / "best.safetensors")
    header = model.header
    assert header.package == "cnnkit"
    assert header.versions["cnnkit"]
    assert header.proof is not None
    assert logit_difference(header.proof, proof_logits(model.module, header.preprocessing)) <= TOLERANCE


class Head(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.layer(images.mean((2, 3))))


def refuse_one(logits: Tensor) -> Tensor:
    if len(logits) == 1:
        raise ValueError("one image")
    return logits


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        (torch.relu, True),
        (lambda logits: logits / 0, False),
        (refuse_one, False),
        (lambda logits: nn.functional.dropout(logits + 9, 0.5, training=True) + torch.rand(1, 3), False),
    ],
)
def test_logits_that_a_later_load_cannot_compute_again_are_left_out(change, is_kept):
    torch.manual_seed(0)
    assert (with_proof(HEADER, Head(change)).proof is not None) == is_kept


def test_a_model_file_holds_the_fingerprint_of_val(trained, read_rows):
    header = read_header(trained.run / "best.safetensors")
    assert header.fingerprint is not None
    assert header.fingerprint.n == sum(row["split"] == "val" for row in read_rows(trained.run / "split.csv"))
    assert header.fingerprint.features[-1] == "confidence"
    assert np.array(header.fingerprint.counts).shape == (6, 3, 20)
    assert np.array(header.fingerprint.counts).sum() == 6 * header.fingerprint.n


def test_the_fingerprint_is_that_of_the_predictions_of_the_model(trained):
    model = load_model(trained.run / "best.safetensors")
    size = model.header.preprocessing.image_size
    canvases = np.random.default_rng(0).integers(0, 256, (8, 3, size, size)).astype(np.uint8)
    rows = np.arange(8)
    val = Batches(canvases, rows, rows % 3, 8, Preprocess(model.header.preprocessing), torch.device("cpu"))
    with torch.inference_mode():
        logits = model.module.eval()(next(val.epoch(0))[0]).numpy()
    got = Fingerprints(val).add_to(model.header, validation(logits)).fingerprint
    probabilities = TorchClassifier(model).canvas_probabilities(torch.from_numpy(canvases))
    expected = take_fingerprint(appearance(canvases), probabilities, split="val")
    assert got is not None
    np.testing.assert_allclose(got.edges, expected.edges, rtol=0, atol=1e-5)
    assert got.n == expected.n == 8


def test_many_images_are_thinned_evenly(val, monkeypatch):
    monkeypatch.setattr(model_header, "MAX_FINGERPRINT_IMAGES", 10)
    logits = np.random.default_rng(1).normal(size=(21, 3))
    changed = Fingerprints(val).add_to(HEADER, validation(logits))
    probabilities = np.exp(2 * logits[::3]) / np.exp(2 * logits[::3]).sum(1, keepdims=True)  # every third of 21, at a temperature of 0.5
    expected = take_fingerprint(appearance(val.canvases[2:23:3]), probabilities.astype(np.float32), split="val")
    assert changed.fingerprint is not None
    assert changed.fingerprint.n == 7
    np.testing.assert_allclose(changed.fingerprint.edges, expected.edges, rtol=0, atol=1e-5)
    assert changed.model_copy(update={"fingerprint": None}) == HEADER


def test_a_nan_logit_gives_no_fingerprint(val):
    logits = np.zeros((21, 3))
    logits[4, 1] = np.nan
    assert Fingerprints(val).add_to(HEADER, validation(logits)).fingerprint is None


def test_every_best_model_has_the_temperature_of_its_validation(image_folder, monkeypatch):
    fits: list[tuple[np.ndarray, np.ndarray]] = []

    def fitted(logits: np.ndarray, labels: np.ndarray, split: str, units: Units) -> Calibration:
        assert len(units.index) == units.count == len(labels)
        fits.append((logits, labels))
        return Calibration(split, len(labels), 2.0 + len(fits), NOTHING, NOTHING, 0.0, 0.0)

    monkeypatch.setattr(model_header, "calibrate", fitted)
    job = prepare(resolve(by_section({"data": str(image_folder(images=12)), "epochs": 3, "patience": 0, **SMALL})))
    run = job.begin()
    for epoch in job.epochs():
        if epoch.is_best:  # the file that a stop at this moment leaves
            header = read_header(run.best)
            assert header.training["epoch"] == epoch.epoch
            assert (header.temperature, header.calibration) == (2.0 + len(fits), read_header(run.best).calibration)
            assert log_losses(*fits[-1]).mean() == pytest.approx(epoch.val_loss, rel=1e-5)
    assert len(fits) == sum(row.is_best for row in run.read_history()) > 0


def test_without_a_validation_the_temperature_is_1():
    spec = Preprocessing(image_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    header = ModelHeader(arch="a", options={}, classes=("x", "y"), preprocessing=spec, temperature=3.0)
    found = with_temperature(header, None)
    assert (found.temperature, found.calibration) == (1.0, None)
