from __future__ import annotations

from typing import Any

import pytest

from cnnkit.api import training
from cnnkit.api.affording import afforded
from cnnkit.api.training import TrainingJob, prepare
from cnnkit.config import TrainConfig
from cnnkit.larger import Larger
from cnnkit.recipe import resolve

TEN = Larger(passes=10, model={"set": ["width=6", "middle=1"]}, optim={"batch_size": 32})
THIRTY = Larger(passes=30, model={"set": ["width=8", "middle=1"]})


def settings(*larger: Larger, budget: str = "60s") -> TrainConfig:
    config = resolve({"model": {"arch": "fast-cnn", "set": ("width=4",)}, "optim": {"budget": budget, "precision": "fp32"}})
    return config.model_copy(update={"larger": larger})


@pytest.mark.parametrize(
    ("speed", "passes", "expected"),
    [(9, "less than a pass", None), (99, "about 9 passes", None), (100, "about 10 passes", TEN), (300, "about 30 passes", THIRTY)],
)
def test_the_most_that_the_passes_are_enough_for_is_taken(speed: float, passes: str, expected: Larger | None) -> None:
    found, why = afforded(settings(TEN, THIRTY), speed, images=600)
    assert found == expected
    assert why.startswith(f"60 s are enough for {passes} of fast-cnn width=4 over the training images")


def test_the_sentence_says_what_is_taken_or_would_be() -> None:
    flags = "--set width=6 --set middle=1 --batch-size 32"
    assert afforded(settings(TEN), 200, images=600)[1].endswith(f"images, so it is {flags}")
    assert afforded(settings(TEN), 50, images=600)[1].endswith(f"images; from 10 passes on it would be {flags}")


def made(image_folder: Any, monkeypatch: pytest.MonkeyPatch, speed: float, config: TrainConfig) -> TrainingJob:
    measured: list[Any] = []
    monkeypatch.setattr(training, "known_speed", lambda *_, **asked: measured.append(asked) or speed)
    data = config.data.model_copy(update={"data": str(image_folder({"ants": 20, "bees": 20}))})
    job = prepare(config.model_copy(update={"data": data}), dry_run=True)
    assert len(measured) == bool(config.larger)
    return job


def test_a_training_takes_the_larger_network_once_and_says_so(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(image_folder, monkeypatch, 1e6, settings(TEN, budget="10m"))
    assert (job.header.options["width"], job.header.options["middle"], job.optim.batch_size) == (6, 1, 32)
    assert (job.config.larger, job.config.model.set, job.config.optim.budget) == ((), ("width=6", "middle=1"), 600)
    assert job.notes[0].startswith("600 s are enough for about ")
    assert job.notes[0].endswith("so it is --set width=6 --set middle=1 --batch-size 32")


def test_a_training_without_the_time_for_it_keeps_its_own(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(image_folder, monkeypatch, 1e-3, settings(TEN))
    assert (job.header.options["width"], job.config.larger) == (4, ())
    assert "from 10 passes on it would be" in job.notes[0]
    assert not any("enough for" in note for note in made(image_folder, monkeypatch, 1e6, settings()).notes)
