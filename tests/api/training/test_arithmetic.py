from __future__ import annotations

from typing import Any

import pytest

from cnnkit.api.training import arithmetic
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig
from cnnkit.config.tiers import Tier

SOME = Tier(images=600, model={"set": ["width=6", "middle=1"]}, optim={"batch_size": 32})


def settings(*larger: Tier, budget: str = "60s") -> TrainConfig:
    config = resolve({"model": {"arch": "fast-cnn", "set": ("width=4",)}, "optim": {"budget": budget, "precision": "fp32"}})
    return config.model_copy(update={"larger": larger})


def made(image_folder: Any, monkeypatch: pytest.MonkeyPatch, speed: float, config: TrainConfig) -> TrainingJob:
    measured: list[Any] = []
    monkeypatch.setattr(arithmetic, "cached_speed", lambda *_, **asked: measured.append(asked) or speed)
    data = config.data.model_copy(update={"data": str(image_folder({"ants": 20, "bees": 20}))})
    job = prepare(config.model_copy(update={"data": data}), dry_run=True)
    assert len(measured) == bool(config.larger)
    return job


def test_a_training_takes_the_larger_network_once_and_says_so(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(image_folder, monkeypatch, 1e6, settings(SOME, budget="10m"))
    assert (job.header.options["width"], job.header.options["middle"], job.optim.batch_size) == (6, 1, 32)
    assert (job.config.larger, job.config.model.set, job.config.optim.budget) == ((), ("width=6", "middle=1"), 600)
    assert job.notes[0].startswith("--budget 600s is enough for about ")
    assert job.notes[0].endswith("so training uses --set width=6 --set middle=1 --batch-size 32")


def test_a_training_without_the_time_for_it_keeps_its_own(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(image_folder, monkeypatch, 1e-3, settings(SOME))
    assert (job.header.options["width"], job.config.larger) == (4, ())
    assert "at 600 images or more it would use" in job.notes[0]
    assert not any("is enough for" in note for note in made(image_folder, monkeypatch, 1e6, settings()).notes)


def test_a_larger_image_size_has_canvases_of_its_own(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(Tier(images=1, model={"image_size": 40}))
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "ram"})})
    job = made(image_folder, monkeypatch, 1e6, config)
    assert job.header.preprocessing.image_size == 40
    assert job.batches.canvases.shape[2:] == (40, 40)
