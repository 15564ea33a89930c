from __future__ import annotations

from typing import Any

import pytest

from cnnkit.api.training import arithmetic
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig
from cnnkit.config.tiers import Tier

LARGER = Tier(images=600, model={"set": ["width=6", "middle=1"]}, optim={"batch_size": 32})


def settings(*larger: Tier, budget: str = "60s") -> TrainConfig:
    config = resolve({"model": {"arch": "fast-cnn", "set": ("width=4",)}, "optim": {"budget": budget, "precision": "fp32"}})
    return config.model_copy(update={"larger": larger})


def dry_job_at(image_folder: Any, monkeypatch: pytest.MonkeyPatch, speed: float, config: TrainConfig) -> TrainingJob:
    measured: list[Any] = []
    monkeypatch.setattr(arithmetic, "cached_speed", lambda *_, **facts: measured.append(facts) or speed)
    data = config.data.model_copy(update={"data": str(image_folder({"ants": 20, "bees": 20}))})
    job = prepare(config.model_copy(update={"data": data}), dry_run=True)
    assert len(measured) == bool(config.larger)
    return job


def test_a_fast_machine_takes_the_larger_tier_once_with_a_note(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = dry_job_at(image_folder, monkeypatch, 1e6, settings(LARGER, budget="10m"))
    assert (job.header.options["width"], job.header.options["middle"], job.optim.batch_size) == (6, 1, 32)
    assert (job.config.larger, job.config.model.set, job.config.optim.budget) == ((), ("width=6", "middle=1"), 600)
    assert job.notes[0].startswith("--budget 600s is enough for about ")
    assert job.notes[0].endswith("so training uses --set width=6 --set middle=1 --batch-size 32")


def test_a_slow_machine_keeps_the_network_with_a_note(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = dry_job_at(image_folder, monkeypatch, 1e-3, settings(LARGER))
    assert (job.header.options["width"], job.config.larger) == (4, ())
    assert "at 600 images or more it would use" in job.notes[0]
    assert not any("is enough for" in note for note in dry_job_at(image_folder, monkeypatch, 1e6, settings()).notes)


def test_a_tier_with_a_larger_image_size_decodes_larger_canvases(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(Tier(images=1, model={"image_size": 40}))
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "ram"})})
    job = dry_job_at(image_folder, monkeypatch, 1e6, config)
    assert job.header.preprocessing.image_size == 40
    assert job.batches.canvases.shape[2:] == (40, 40)
