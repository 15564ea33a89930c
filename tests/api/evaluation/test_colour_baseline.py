from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.evaluation.colour_baseline import colour_baseline
from cnnkit.api.inference.samples import Samples
from cnnkit.api.inference.split_predictions import SplitPredictions
from cnnkit.data.source import Record, open_source
from cnnkit.data.store.cache import stores
from cnnkit.data.store.scan import scan

CLASSES = ("ants", "bees", "wasps")


@pytest.fixture
def samples(image_folder) -> Samples:
    """Return three classes with one hue each: the first five images of a class are train, the other three are test."""
    source = open_source(str(image_folder(images=8)))
    (Path(source.name) / "ants/ants-000.jpg").write_bytes(b"no image")
    first = [record for record in source.records if int(record.path[-7:-4]) < 5]
    others = tuple(record for record in source.records if record not in first)
    return Samples(source, "test", others, tuple(source.records), {}, tuple(first))


def predictions_for(records: Sequence[Record], samples: Samples | None = None) -> SplitPredictions:
    """Return predictions for `records`; with `samples`, they come from a scan of all these images."""
    found = scan(samples.source, samples.scope) if samples else None
    return SplitPredictions(records, np.empty((len(records), 3), np.float32), (), (), (), samples.scope if samples else (), found)


def labels_of(records: Sequence[Record]) -> np.ndarray:
    return np.array([CLASSES.index(record.label) for record in records])


def test_colours_alone_separate_classes_of_different_hue(samples):
    labels = labels_of(samples.records)
    predicted = np.where(np.arange(9) < 7, labels, (labels + 1) % 3)
    found = colour_baseline(samples, predictions_for(samples.records, samples), CLASSES, labels, predicted)
    assert found is not None
    assert (found.name, found.summary, found.trained_on) == ("colour-histogram", "colours alone (14 training images)", 14)
    assert found.accuracy.value == 1
    assert (found.counts.only_first, found.counts.only_second) == (2, 0)
    assert found.difference.value == pytest.approx(-2 / 9)


def test_training_images_without_a_store_are_decoded_but_not_stored(samples, tmp_path, monkeypatch):
    labels = labels_of(samples.records)
    whole = colour_baseline(samples, predictions_for(samples.records, samples), CLASSES, labels, labels)
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "empty"))
    test_alone = replace(predictions_for(samples.records), scope=samples.records, seen=scan(samples.source, samples.records))
    assert colour_baseline(samples, test_alone, CLASSES, labels, labels) == whole
    assert [store.images for store in stores()] == [9]


def test_an_exported_file_is_compared_on_the_thumbnails_of_the_store(samples):
    labels = labels_of(samples.records)
    assert colour_baseline(samples, predictions_for(samples.records), CLASSES, labels, labels) is None  # no scan is stored yet
    scan(samples.source, samples.scope)
    found = colour_baseline(samples, predictions_for(samples.records), CLASSES, labels, labels)
    assert found is not None
    assert found.trained_on == 14


def test_the_train_split_or_unknown_training_images_give_no_baseline(samples):
    labels = labels_of(samples.records)
    given = predictions_for(samples.records, samples)
    for other in (replace(samples, split="train"), replace(samples, trained=())):
        assert colour_baseline(other, given, CLASSES, labels, labels) is None


def test_a_missing_thumbnail_or_training_image_gives_no_baseline(samples):
    labels = labels_of(samples.records)
    partial = replace(samples, scope=samples.records[1:])
    assert colour_baseline(samples, predictions_for(samples.records, partial), CLASSES, labels, labels) is None
    broken = replace(samples, trained=samples.trained[:1])
    assert colour_baseline(broken, predictions_for(samples.records, samples), CLASSES, labels, labels) is None
