from __future__ import annotations

from typing import Any

import pytest

from cnnkit.api.training import affording
from cnnkit.api.training.affording import afforded
from cnnkit.api.training.job import TrainingJob, prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig
from cnnkit.config.tiers import Larger

SOME = Larger(images=600, model={"set": ["width=6", "middle=1"]}, optim={"batch_size": 32})
MANY = Larger(images=1800, model={"set": ["width=8", "middle=1"]})


def settings(*larger: Larger, budget: str = "60s") -> TrainConfig:
    config = resolve({"model": {"arch": "fast-cnn", "set": ("width=4",)}, "optim": {"budget": budget, "precision": "fp32"}})
    return config.model_copy(update={"larger": larger})


@pytest.mark.parametrize(
    ("speed", "about", "expected"),
    [(0.1, "6", None), (9.9, "590", None), (10, "600", SOME), (29.9, "1,800", SOME), (30, "1,800", MANY), (1e5, "6,000,000", MANY)],
)
def test_the_most_that_the_time_is_enough_for_is_taken(speed: float, about: str, expected: Larger | None) -> None:
    found, why = afforded(settings(SOME, MANY), speed)
    assert found == expected
    assert why.startswith(f"60 s are enough for about {about} images through fast-cnn width=4")


def test_the_sentence_says_what_is_taken_or_would_be() -> None:
    flags = "--set width=6 --set middle=1 --batch-size 32"
    assert afforded(settings(SOME), 20)[1].endswith(f"width=4, so it is {flags}")
    assert afforded(settings(SOME), 5)[1].endswith(f"width=4; from 600 on it would be {flags}")


def made(image_folder: Any, monkeypatch: pytest.MonkeyPatch, speed: float, config: TrainConfig) -> TrainingJob:
    measured: list[Any] = []
    monkeypatch.setattr(affording, "known_speed", lambda *_, **asked: measured.append(asked) or speed)
    data = config.data.model_copy(update={"data": str(image_folder({"ants": 20, "bees": 20}))})
    job = prepare(config.model_copy(update={"data": data}), dry_run=True)
    assert len(measured) == bool(config.larger)
    return job


def test_a_training_takes_the_larger_network_once_and_says_so(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(image_folder, monkeypatch, 1e6, settings(SOME, budget="10m"))
    assert (job.header.options["width"], job.header.options["middle"], job.optim.batch_size) == (6, 1, 32)
    assert (job.config.larger, job.config.model.set, job.config.optim.budget) == ((), ("width=6", "middle=1"), 600)
    assert job.notes[0].startswith("600 s are enough for about ")
    assert job.notes[0].endswith("so it is --set width=6 --set middle=1 --batch-size 32")


def test_a_training_without_the_time_for_it_keeps_its_own(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(image_folder, monkeypatch, 1e-3, settings(SOME))
    assert (job.header.options["width"], job.config.larger) == (4, ())
    assert "from 600 on it would be" in job.notes[0]
    assert not any("enough for" in note for note in made(image_folder, monkeypatch, 1e6, settings()).notes)


def test_a_larger_image_size_has_canvases_of_its_own(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(Larger(images=1, model={"image_size": 40}))
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "ram"})})
    job = made(image_folder, monkeypatch, 1e6, config)
    assert job.header.preprocessing.image_size == 40
    assert job.batches.canvases.shape[2:] == (40, 40)
