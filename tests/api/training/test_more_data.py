from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.more_data import MoreData
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig, by_section
from cnnkit.errors import ConfigError, TrainingStoppedError

SMALL: dict[str, Any] = {"set": ("width=4", "blocks=1", "dense=8"), "precision": "fp32", "batch_size": 16, "patience": 0}
SHARES = (1 / 4, 1 / 2, 1.0)


def settings(data: Path, **given: Any) -> TrainConfig:
    return resolve(by_section({"data": str(data), "epochs": 1, **SMALL, **given}))


def test_every_part_gets_the_same_number_of_updates_and_the_same_val(image_folder):
    work = MoreData(settings(image_folder(images=60), warmup_epochs=0.5), Path("out"), shares=SHARES)
    found = list(work.trainings())
    assert [each.share for each in found] == list(SHARES)
    whole = found[-1]
    assert whole.images == tuple(len([s for s in work.base.dataset.of("train") if s.label == name]) for name in work.base.header.classes)
    assert all(each.images == tuple(math.ceil(each.share * images) for images in whole.images) for each in found)
    assert all(each.support == whole.support for each in found)
    assert sum(whole.support) == work.base.counts["val"]
    updates = [each.epochs * math.ceil(sum(each.images) / 16) for each in found]
    assert max(updates) - min(updates) <= math.ceil(sum(whole.images) / 32)
    assert found[0].epochs > whole.epochs == 1
    assert not Path("runs").exists()
    assert sorted(path.name for path in Path("out").iterdir()) == ["learning-curve.csv", "learning-curve.json"]


def test_finished_trainings_are_kept_unless_settings_or_data_changed(image_folder):
    data = image_folder(images=24)
    first = MoreData(settings(data), Path("out"), shares=SHARES)
    next(first.trainings())
    again = MoreData(settings(data), Path("out"), shares=SHARES)
    assert again.finished == first.finished
    assert [each.share for each in again.trainings()] == [1 / 2, 1.0]
    assert len(MoreData(settings(data), Path("out"), shares=SHARES, seeds=2).finished) == 3  # the trainings of the first seed are kept
    assert MoreData(settings(data, lr=1e-4), Path("out"), shares=SHARES).finished == []
    (data / "ants" / "ants-000.jpg").unlink()
    assert MoreData(settings(data), Path("out"), shares=SHARES).finished == []


@pytest.mark.parametrize("damage", ["", "[1]", '{"key": 1}'])
def test_another_json_file_is_ignored(image_folder, damage):
    Path("out").mkdir()
    Path("out/learning-curve.json").write_text(damage)
    assert MoreData(settings(image_folder(images=8)), Path("out"), shares=SHARES).finished == []


def test_seeds_draw_different_parts_and_their_results_are_averaged(image_folder):
    work = MoreData(settings(image_folder(images=24)), Path("out"), shares=SHARES, seeds=2)
    found = list(work.trainings())
    assert [(each.share, each.seed) for each in found] == [(share, seed) for seed in (0, 1) for share in SHARES]
    found_forecast = work.forecast(10)
    assert found_forecast is not None
    whole = [each for each in found if each.share == 1]
    assert found_forecast.overall.points.hits[-1] == sum(sum(each.right) for each in whole) / 2
    assert found_forecast.overall.points.support == work.base.counts["val"]


def test_a_budget_is_divided_and_settings_in_epochs_are_stretched(image_folder):
    given = {"data": str(image_folder(images=60)), **SMALL, "budget": "12s", "patience": 4, "warmup_epochs": 1}
    work = MoreData(resolve(by_section(given)), Path("out"))
    part = work.base.dataset.thinned(1 / 8, 0)
    made = work._settings(part, 5, Path("x"))
    assert made.optim.budget == pytest.approx(3.0)
    assert made.stop.patience > 4
    assert made.optim.warmup_epochs > 1
    assert (made.run.seed, made.run.out) == (5, Path("x"))


def test_two_sizes_give_no_forecast_and_a_diverged_training_keeps_the_others(image_folder, monkeypatch):
    work = MoreData(settings(image_folder(images=24)), Path("out"), shares=SHARES)
    training = work.trainings()
    next(training)
    next(training)
    assert work.forecast(10) is None

    def diverge(self: TrainingJob, *_: object) -> object:
        raise TrainingStoppedError("the loss became nan")

    monkeypatch.setattr(TrainingJob, "epochs", diverge)
    with pytest.raises(TrainingStoppedError):
        next(training)
    assert len(json.loads(Path("out/learning-curve.json").read_text())["trainings"]) == 2
    assert not list(Path("out").glob(".training-*"))


@pytest.mark.parametrize("shares", [(0.5, 1.0), (0.25, 0.5, 0.75), (0.0, 0.5, 1.0), (0.5, 1.0, 2.0), (0.5, 0.5, 1.0)])
def test_shares_that_give_no_curve_are_refused_before_reading_images(shares):
    with pytest.raises(ConfigError, match="must be at least 3 different shares above 0, the largest 1, such as 1/8,1/4,1/2,1"):
        MoreData(settings(Path("nowhere")), Path("out"), shares=shares)
    assert not Path("out").exists()
