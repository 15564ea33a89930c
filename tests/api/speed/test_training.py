from __future__ import annotations

from typing import Any

import pytest
import torch

from cnnkit.api.speed import training as training_speed
from cnnkit.api.speed.training import TimedEpochs, TrainingBench
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.data.source import open_source
from cnnkit.speed.stopwatch import Meter, Stopwatch
from cnnkit.speed.values import TRAINING_STAGES, Memory

SMALL: dict[str, Any] = {"set": ("width=8", "blocks=2", "dense=32"), "image_size": 16, "batch_size": 256}
SHORT = 0.01  # seconds of a stage; no test asserts a speed


def measured(data="digits", messages=None, **settings):
    config = resolve(by_section({"data": str(data), **SMALL, **settings}))
    source = open_source(config.data.data)
    job = prepare(config, source=source, dry_run=True)
    tell = (lambda _: None) if messages is None else messages.append
    return job, TrainingBench(job, source, SHORT, Meter(), tell).measure()


def test_every_stage_of_a_training_is_timed():
    messages: list[str] = []
    job, speed = measured(messages=messages, precision="fp32")
    assert tuple(speed.stages) == TRAINING_STAGES
    assert messages[:2] == ["timing train", "timing step"]
    assert set(TRAINING_STAGES) <= {text.removeprefix("timing ") for text in messages}
    assert all(stage.images > 0 and stage.seconds > 0 for stage in speed.stages.values())
    assert speed.images == job.counts["train"]
    assert (speed.cache, speed.canvas_bytes) == ("disk", 1797 * 3 * 16 * 16)
    assert 0 < speed.data_wait_share < 1
    assert speed.stages["train"].memory.peak_rss_bytes > 50_000_000


def test_a_benchmark_barely_changes_the_weights():
    config = resolve(by_section({"data": "digits", **SMALL, "precision": "fp32"}))
    source = open_source("digits")
    job = prepare(config, source=source, dry_run=True)
    before = [parameter.detach().clone() for parameter in job.model.parameters()]
    TrainingBench(job, source, SHORT, Meter(), lambda _: None).measure()
    for old, new in zip(before, job.model.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-3)
    assert job.state.epoch == 0


def test_a_small_batch_gives_a_trial_of_a_batch_four_times_as_large():
    _, speed = measured(batch_size=32, precision="auto")
    assert [trial.flag for trial in speed.trials] == ["--batch-size 128"]
    assert speed.trials[0].step.images % 128 == 0


def test_a_fixed_precision_gives_a_trial_of_precision_auto(monkeypatch):
    def faster(model, *, device, **_):
        return training_speed.Runtime(device, "fp32", channels_last=True)

    monkeypatch.setattr(training_speed, "choose_runtime", faster)
    _, speed = measured(precision="fp32")
    assert [trial.flag for trial in speed.trials] == ["--precision auto"]


@pytest.mark.slow
def test_without_a_cache_the_training_decodes_its_files(image_folder):
    _, speed = measured(image_folder(images=12), cache="none", batch_size=8)
    assert speed.cache == "none"
    assert speed.canvas_bytes == 36 * 3 * 16 * 16
    assert speed.stages["train"].images_per_second < speed.stages["gather"].images_per_second


def test_timed_epochs_join_epochs_and_time_the_waiting():
    now = [0.0]
    epochs: list[int] = []

    def epoch(number):
        epochs.append(number)
        for _ in range(3):
            now[0] += 0.25  # seconds to make a batch
            yield torch.zeros(4, 1), torch.zeros(4)

    watch = Stopwatch(4.0, Meter(lambda: now[0], lambda: 0.0, lambda: 0.0, lambda: Memory(1)))
    for _ in TimedEpochs(epoch, watch, lambda: now[0]).epoch(1):
        now[0] += 0.75  # seconds to use a batch
    assert epochs == [1, 2]
    assert (watch.stage.images, watch.stage.seconds, watch.stage.wait_seconds) == (16, 4.0, 1.0)
