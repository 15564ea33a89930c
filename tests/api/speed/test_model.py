from __future__ import annotations

import pytest

from cnnkit.api.speed.model import measure_model
from cnnkit.data.source import open_source
from cnnkit.errors import DataError
from cnnkit.speed.stopwatch import Meter


def measured(file, source, records):
    messages: list[str] = []
    return measure_model(file, source, records, seconds=0.01, meter=Meter(), tell=messages.append), messages


def test_batches_and_single_images_are_timed(trained):
    source = open_source(str(trained.data))
    speed, messages = measured(trained.run / "best.safetensors", source, source.records)
    assert (speed.format, speed.images) == ("torch", str(trained.data))
    assert speed.predict.images >= 2 * 64
    assert speed.classify.images % 64 == 0
    assert speed.latency.images >= 20
    assert 0 < speed.latency.decode_p50_ms < speed.latency.p50_ms <= speed.latency.p95_ms
    assert messages == ["timing predict, torch", "timing classify, torch", "timing one image, torch"]


def test_unreadable_images_alone_are_refused(trained):
    source = open_source(str(trained.data))
    broken = [record for record in source.records if "broken" in record.path]
    with pytest.raises(DataError, match=r"no image can be read to measure with, such as bees/broken\.jpg: .*--data FOLDER"):
        measured(trained.run / "best.safetensors", source, broken)
