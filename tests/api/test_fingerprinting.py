from __future__ import annotations

import numpy as np
import torch

from cnnkit.api import fingerprinting
from cnnkit.api.fingerprinting import add_fingerprint
from cnnkit.data.batches import Batches
from cnnkit.model_file import read_header
from cnnkit.preprocess import Preprocess


def test_a_finished_training_knows_its_val_images(trained, read_rows):
    header = read_header(trained.run / "best.safetensors")
    assert header.fingerprint is not None
    assert header.fingerprint.n == sum(row["split"] == "val" for row in read_rows(trained.run / "split.csv"))
    assert header.fingerprint.features[-1] == "confidence"
    assert np.array(header.fingerprint.counts).shape == (6, 3, 20)
    assert np.array(header.fingerprint.counts).sum() == 6 * header.fingerprint.n


def test_of_many_images_some_are_enough(trained, monkeypatch):
    path = trained.run / "best.safetensors"
    header = read_header(path)
    size = header.preprocessing.image_size
    canvases = np.random.default_rng(0).integers(0, 256, (23, 3, size, size)).astype(np.uint8)
    rows, device = np.arange(2, 23), torch.device("cpu")
    monkeypatch.setattr(fingerprinting, "MOST", 10)
    add_fingerprint(path, Batches(canvases, rows, rows % 3, 8, Preprocess(header.preprocessing), device), device)
    changed = read_header(path)
    assert changed.fingerprint is not None
    assert changed.fingerprint.n == 7  # every third of 21
    assert changed.model_copy(update={"fingerprint": header.fingerprint}) == header
