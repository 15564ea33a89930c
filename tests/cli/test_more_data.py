from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cnnkit.api.training.more_data import MoreData
from cnnkit.cli.more_data import FLAGS, UNUSED_SETTINGS
from cnnkit.config.settings import SECTIONS

TINY = ("--set", "width=4", "--set", "blocks=1", "--set", "dense=16", "--precision", "fp32", "--image-size", "8")


@pytest.mark.slow
def test_it_trains_on_parts_and_forecasts_the_gain(cli, read_rows):
    command = ("more-data", "--data", "digits", *TINY, "--epochs", "2", "--lr", "1e-2", "--shares", "1/8,0.25,1/2,1", "--add", "100")
    result = cli(*command)
    assert result.code == 0, result.err
    assert "plan    4 trainings, as many updates as 2 epochs of all images" in result.err
    assert "12.5 %  161 images, seed 0: best epoch" in result.err
    assert "all: accuracy" in result.out
    assert "with +100 %" in result.out
    assert result.out.rstrip().endswith("files more-data\nnext: cnnkit train --data digits")
    assert not Path("runs").exists()
    with Image.open("more-data/learning-curve.png") as picture:
        assert picture.format == "PNG"
    document = json.loads(Path("more-data/learning-curve.json").read_text())
    assert document["verdict"] in result.out.replace("\n", " ")
    rows = read_rows("more-data/learning-curve.csv")
    whole = [row for row in rows if row["share"] == "1.0" and row["class"] == ""]
    assert float(whole[0]["recall"]) == pytest.approx(document["overall"]["now"]["value"])
    assert len(rows) == 4 * 11

    again = cli(*command, "--json")  # every training has finished
    assert again.err.count("finished before:") == 4
    assert again.json()["per_class"] == document["per_class"]


def test_ctrl_c_keeps_the_finished_trainings(cli, image_folder, monkeypatch):
    whole = MoreData._train

    def train(self, share, seed, progress):
        if share == 0.5:
            raise KeyboardInterrupt
        return whole(self, share, seed, progress)

    command = ("more-data", "--data", image_folder(images=12), *TINY, "--epochs", "1", "--shares", "1/4,1/2,1", "--out", "curve")
    monkeypatch.setattr(MoreData, "_train", train)
    stopped = cli(*command)
    assert stopped.code == 130
    assert "stopped; 1 of 3 trainings have finished; curve/learning-curve.csv keeps them" in stopped.err
    assert "run the command again with the same flags to continue" in stopped.err
    monkeypatch.setattr(MoreData, "_train", whole)
    resumed = cli(*command)
    assert resumed.code == 0
    assert resumed.err.count("finished before:") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--shares", "1/8,x,1"), "`--shares` (=1/8,x,1): 'x' is not a share; type 1/8,1/4,1/2,1"),
        (("--shares", "1/0,1/2,1"), "'1/0' is not a share"),
        (("--shares", "1/2,1"), "must be at least 3 different shares above 0, the largest 1"),
        (("--seeds", "0"), "--seeds"),
        (("--add", "0"), "--add"),
        (("--log", "tensorboard"), "No such option"),
        (("--arch", "custom-cmm"), "did you mean 'custom-cnn'"),
    ],
)
def test_usage_errors(cli, image_folder, flags, said):
    result = cli("more-data", "--data", image_folder(images=1), *flags)
    assert result.code == 2
    assert said in result.err


def test_the_settings_of_a_training_are_flags():
    assert {"epochs", "budget", "lr", "patience", "balance", "weights", "seed"} <= set(FLAGS)
    assert set(FLAGS) | UNUSED_SETTINGS >= {name for section in SECTIONS.values() for name in section.model_fields}
