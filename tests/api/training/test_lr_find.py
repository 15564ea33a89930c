from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.api.training.lr_find import find_lr
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig, by_section
from cnnkit.engine.lr_range import DEFAULT_STEPS, range_test
from cnnkit.errors import ConfigError

SMALL = {"set": ("width=8", "blocks=2", "dense=32", "dropout=0.1"), "precision": "fp32", "batch_size": 16}


def settings(data: Path, **given: object) -> TrainConfig:
    return resolve(by_section({"data": str(data), **SMALL, **given}))


def test_lr_find_tests_the_network_of_train_and_writes_nothing(image_folder):
    config = settings(image_folder(images=12), balance="weights", seed=3)
    finding = find_lr(config, steps=30)
    job = prepare(config, dry_run=True)
    expected = range_test(job.model, job.batches, job.optim, job.runtime, steps=30, class_weights=job.weights, seed=3)
    assert finding.test == expected
    assert (finding.arch, finding.image_size, finding.images) == ("custom-cnn", 32, job.batches.images)
    assert finding.parameters == sum(parameter.numel() for parameter in job.model.parameters())
    assert finding.notes == job.notes
    assert not Path("runs").exists()


def test_progress_counts_read_images_then_trained_images(image_folder):
    calls: list[tuple[int, int]] = []
    finding = find_lr(settings(image_folder(images=12)), progress=lambda done, total: calls.append((done, total)))
    assert (36, 36) in calls
    total = round(finding.images / 2 * DEFAULT_STEPS)  # 25 images are two batches
    assert next(each for each in calls if each[1] == total) == (round(finding.images / 2), total)


def test_too_few_steps_are_refused_before_reading_images():
    with pytest.raises(ConfigError, match=r"`--steps` \(=19\) must be at least 20"):
        find_lr(settings(Path("nowhere")), steps=19)
