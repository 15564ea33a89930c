from __future__ import annotations

import pytest

from cnnkit.api.inference.trained_model import load_model
from cnnkit.api.speed.model import LabelledRecords, measure_model
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
    assert speed.latency.images >= 100
    assert 0 < speed.latency.decode_p50_ms < speed.latency.p50_ms <= speed.latency.p95_ms <= speed.latency.p99_ms
    assert speed.size_bytes == (trained.run / "best.safetensors").stat().st_size
    assert speed.accuracy is None
    assert messages == ["timing predict, torch", "timing classify, torch", "timing one image, torch"]


def test_unreadable_images_alone_are_refused(trained):
    source = open_source(str(trained.data))
    broken = [record for record in source.records if "broken" in record.path]
    with pytest.raises(DataError, match=r"no image can be read to measure with, such as bees/broken\.jpg: .*--data FOLDER"):
        measured(trained.run / "best.safetensors", source, broken)


def test_the_accuracy_is_that_of_the_labels_on_readable_images(trained):
    source = open_source(str(trained.data))
    file = trained.run / "best.safetensors"
    records = [record for record in source.records if record.label == "ants" or "broken" in record.path]
    predicted = [each.label for each in load_model(file).predict([trained.data / record.path for record in records]) if not each.error]
    labelled = LabelledRecords("val", records, dict.fromkeys((record.path for record in records[:10]), "one unit"))
    speed = measure_model(file, source, records, seconds=0.01, meter=Meter(), tell=str, labelled=labelled)
    assert speed.accuracy is not None
    assert (speed.accuracy.images, speed.accuracy.split) == (20, "val")
    assert speed.accuracy.value == predicted.count("ants") / 20
    swapped = LabelledRecords("val", [record._replace(label="wasps") for record in records], {})
    wrong = measure_model(file, source, records, seconds=0.01, meter=Meter(), tell=str, labelled=swapped).accuracy
    assert wrong is not None
    assert wrong.value == predicted.count("wasps") / 20


def test_a_large_val_gives_an_even_sample(trained):
    records = [*open_source(str(trained.data)).records] * 10
    sample = LabelledRecords("val", records, {}).sample
    assert len(sample) == 256
    assert (sample[0], sample[-1]) == (records[0], records[-1])
    assert list(LabelledRecords("val", records[:5], {}).sample) == list(records[:5])
