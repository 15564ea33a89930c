from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.exports.int8_result import Comparison, Int8Export, missing_gains, reason_against
from cnnkit.exporters.protocol import ExportOptions
from cnnkit.metrics.paired import paired_test
from cnnkit.model.file import load_model


@pytest.fixture
def result(trained) -> Int8Export:
    """Return a result that wins: equal accuracy on 100 images, a quarter of the size, half of the time."""
    right = np.ones(100, bool)
    return Int8Export(
        path=Path("m-int8.onnx"),
        reason="",
        comparison=Comparison(100, "val", (1.0, 1.0), paired_test(right, right), 1.0, 0.1, 0.01),
        calibration_images=64,
        weight_bits=7,
        sizes=(4000, 1000),
        cpu_ms=(2.0, 1.0),
        max_loss=0.05,
        header=load_model(trained.run / "best.safetensors").header,
        options=ExportOptions("canvas", int8=True),
    )


def test_a_file_that_wins_has_no_reason_against_it(result):
    assert reason_against(result) == ""
    assert missing_gains(result) == ()
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_gain_that_is_missing_is_named(result):
    slow = replace(result, cpu_ms=(1.0, 0.99))
    assert reason_against(slow) == ""
    assert missing_gains(slow) == ("it is not faster on this machine: 0.99 CPU-ms an image, 1.00 in 32 bits",)
    large = replace(result, sizes=(1000, 1200))
    assert missing_gains(large) == ("it is not smaller: 1,200 bytes, 1,000 in 32 bits",)
    assert reason_against(replace(slow, sizes=(1000, 1200))) == "it is neither smaller nor faster than the file in 32 bits"


def test_a_loss_beyond_the_limit_is_areason_against(result):
    first, second = np.ones(100, bool), np.arange(100) >= 8
    lost = replace(result, comparison=replace(result.comparison, test=paired_test(first, second), accuracies=(1.0, 0.92)))
    assert reason_against(lost) == "it costs 8.0 % accuracy on 100 val images, and --max-loss allows 5 %"


def test_a_loss_that_the_images_cannot_exclude_is_named(result):
    (note,) = missing_gains(replace(result, max_loss=0.01))
    assert note == "100 images cannot exclude a loss of 3.7 %"


def test_weights_in_8_bits_are_named(result):
    (note,) = missing_gains(replace(result, weight_bits=8))
    assert note.startswith("its weights need 8 bits, so it may predict worse on processors without VNNI instructions")
