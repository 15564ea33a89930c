from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnkit.api.training import calibrating
from cnnkit.api.training.calibrating import calibrated, kept
from cnnkit.api.training.job import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature import Calibration, log_losses
from cnnkit.model.file import ModelHeader, read_header
from cnnkit.model.preprocess import Preprocessing

SMALL: dict[str, Any] = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16}
NOTHING = Estimate(0.0, 0.0, 0.0)


def test_every_best_model_has_the_temperature_of_its_own_validation(image_folder, monkeypatch):
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def fitted(logits: np.ndarray, labels: np.ndarray, split: str) -> Calibration:
        seen.append((logits, labels))
        return Calibration(split, len(labels), 2.0 + len(seen), NOTHING, NOTHING, 0.0, 0.0)

    monkeypatch.setattr(calibrating, "calibrate", fitted)
    job = prepare(resolve(by_section({"data": str(image_folder(images=12)), "epochs": 3, "patience": 0, **SMALL})))
    run = job.begin()
    for epoch in job.epochs():
        if epoch.is_best:  # what a training that is stopped now leaves behind
            header = read_header(run.best)
            assert header.training["epoch"] == epoch.epoch
            assert (header.temperature, header.calibration) == (2.0 + len(seen), kept(run).calibration)
            assert log_losses(*seen[-1]).mean() == pytest.approx(epoch.val_loss, rel=1e-5)
    assert len(seen) == sum(row["is_best"] == "True" for row in run.read_history()) > 0


def test_without_a_validation_the_temperature_is_1():
    spec = Preprocessing(image_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    header = ModelHeader(arch="a", options={}, classes=("x", "y"), preprocessing=spec, temperature=3.0)
    found = calibrated(header, None)
    assert (found.temperature, found.calibration) == (1.0, None)
