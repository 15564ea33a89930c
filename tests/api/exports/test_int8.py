from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cnnkit.api.exports import int8 as room
from cnnkit.api.exports.export import export
from cnnkit.api.exports.int8 import _refit
from cnnkit.api.exports.int8_result import Int8Export
from cnnkit.api.inference.predict import predict
from cnnkit.errors import ConfigError
from cnnkit.files import fingerprint
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.units import Units
from cnnkit.model.file import load_model


class Looks:
    """Stands for labelled images without canvases."""

    split = "val"

    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.units = labels, Units.single(len(labels))


def test_rules_are_fitted_to_the_quantised_file(trained):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 600)
    scores = 6 * np.eye(3)[labels] + random.normal(0, 4, (600, 3))  # far too sure
    old = Abstention(0.1, 0.2, 0.01, 0.95, 0.5, 500, 1, 1000, "val")
    header = load_model(trained.run / "best.safetensors").header
    header = header.model_copy(update={"abstention": old, "label_sets": LabelSets(0.3, 0.9, 10, "val"), "fingerprint": None})
    found, lost = _refit(header, scores, Looks(labels))  # pyright: ignore[reportArgumentType]
    assert found.temperature > 1.5
    assert found.abstention is not None
    assert (found.abstention.n, found.abstention.risk, lost) == (600, 0.2, ())
    assert found.abstention.threshold > 0.3
    assert found.label_sets is not None
    assert (found.label_sets.n, found.label_sets.coverage) == (600, 0.9)
    strict = header.model_copy(update={"abstention": replace(old, risk=1e-4)})
    found, lost = _refit(strict, scores, Looks(labels))  # pyright: ignore[reportArgumentType]
    assert found.abstention is None
    assert lost == ("it has no threshold: no threshold guarantees at most 0.01 % wrong predictions on 600 images",)


def test_int8_without_images_to_measure_on_is_refused(trained, tmp_path):
    alone = tmp_path / "m.safetensors"
    alone.write_bytes((trained.run / "best.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"--int8: .*m\.safetensors lies in no run directory.*name labelled images with --data"):
        export(alone, int8=True)
    with pytest.raises(ConfigError, match="--int8 --half: int8 starts from the weights in 32 bits"):
        export(trained.run, int8=True, half=True)


@pytest.mark.slow
def test_a_run_gets_a_quantised_file_with_its_own_sidecars(trained):
    found = export(trained.run, int8=True, max_loss=1.0).int8
    assert found is not None
    assert found.path is not None
    assert found.path == trained.run / "export/model-int8.onnx"
    assert found.is_smaller
    document = json.loads((trained.run / "export/model-int8.json").read_text("utf-8"))
    assert (document["int8"], document["input"]["kind"], document["sha256"]) == (True, "canvas", fingerprint(found.path))
    parity = json.loads((trained.run / "export/model-int8-parity.json").read_text("utf-8"))
    assert (parity["n"], parity["kept"], parity["accuracy"]["int8"]) == (9, True, found.comparison.accuracies[1])
    rows = list(predict(trained.data / "wasps", found.path))
    assert np.mean([row.label == "wasps" for row in rows]) > 0.8
    assert not list((trained.run / "export").glob(".int8-*"))


@pytest.mark.slow
def test_a_file_that_does_not_win_is_not_kept(trained, monkeypatch):
    monkeypatch.setattr(room, "cpu_milliseconds", lambda *_: [1.0, 2.0])
    monkeypatch.setattr(Int8Export, "is_smaller", False)
    found = export(trained.run, int8=True, max_loss=1.0).int8
    assert found is not None
    assert (found.path, found.reason) == (None, "it is neither smaller nor faster than the file in 32 bits")
    assert not list((trained.run / "export").glob("*int8*"))
