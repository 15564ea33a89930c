from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from cnnkit.cli.lr_find import FLAGS, UNUSED_SETTINGS
from cnnkit.config.settings import SECTIONS
from cnnkit.engine.lr_range import range_test

SMALL = ("--set", "width=8", "--set", "blocks=2", "--precision", "fp32", "--batch-size", "16")


def test_it_suggests_a_rate_and_the_next_command(cli, image_folder, read_rows):
    data = image_folder(images=12)
    result = cli("lr-find", "--data", data, *SMALL, "--no-deterministic", "--recipe", "case-study")
    assert result.code == 0, result.err
    said = result.out.splitlines()[0].split()[3]
    assert 1e-5 < float(said) < 1
    assert f"next: cnnkit train --data {data} --set width=8 --set blocks=2" in result.out
    assert result.out.rstrip().endswith(f"--no-deterministic --recipe case-study --lr {said}")
    assert "custom-cnn" in result.err
    assert "adam, batches of 16" in result.err
    with Image.open("lr-find.png") as picture:
        assert picture.format == "PNG"
    rows = read_rows("lr-find.csv")
    assert list(rows[0]) == ["rate", "loss", "smoothed"]
    assert float(rows[0]["rate"]) == 1e-6
    assert rows[0]["loss"] == rows[0]["smoothed"]


def test_the_next_command_has_the_batch_size_of_the_test(cli, image_folder):
    result = cli("lr-find", "--data", image_folder(images=12), *SMALL, "--batch-size", "auto")
    assert "adamw, batches of 32" in result.err
    assert "note    --batch-size auto: batches of 32" in result.err
    assert "the learning rate stays" not in result.err
    assert " --batch-size 32 " in result.out
    assert "--batch-size auto" not in result.out


def test_json_has_the_whole_test_and_equals_the_table(cli, image_folder, read_rows):
    result = cli("lr-find", "--data", image_folder(images=12), *SMALL, "--steps", "40", "--out", "seen/x.png", "--json")
    document = result.json()
    rows = read_rows("seen/x.csv")
    assert [float(row["smoothed"]) for row in rows] == document["smoothed"]
    assert [float(row["loss"]) for row in rows] == document["losses"]
    assert [float(row["rate"]) for row in rows] == document["rates"]
    assert document["files"] == {"picture": "seen/x.png", "table": "seen/x.csv"}
    assert Path("seen/x.png").is_file()
    assert (document["arch"], document["optimizer"], document["batch_size"]) == ("custom-cnn", "adamw", 16)


def test_a_loss_that_never_falls_is_an_error_and_its_curve_is_kept(cli, image_folder, monkeypatch):
    monkeypatch.setattr("cnnkit.api.training.lr_find.range_test", partial(range_test, high=2e-6))
    data = image_folder(images=12)
    result = cli("lr-find", "--data", data, *SMALL, "--json")
    assert result.code == 2
    reason = "with rates from 1e-06 to 2e-06 the smoothed loss never fell clearly below its first value"
    assert f"no learning rate to suggest: {reason}" in result.err
    assert f"cnnkit doctor {data}" in result.err
    assert result.json()["suggestion"] is None
    assert Path("lr-find.png").is_file()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--out", "x.gif"), "--out x.gif: the ending must be .png"),
        (("--steps", "5"), "`--steps` (=5) must be at least 20"),
        (("--recipe", "fsat"), "--recipe fsat: no such recipe"),
        (("--arch", "custom-cmm"), "did you mean 'custom-cnn'"),
        (("--lr", "1"), "No such option"),
    ],
)
def test_usage_errors(cli, image_folder, flags, said):
    result = cli("lr-find", "--data", image_folder(images=1), *flags)
    assert result.code == 2
    assert said in result.err
    assert not Path("lr-find.png").exists()


def test_unused_settings_are_not_flags():
    assert {"lr", "epochs", "schedule", "ema", "patience", "monitor"} & set(FLAGS) == set()
    assert {"data", "arch", "batch_size", "optimizer", "label_smoothing", "augment", "seed"} <= set(FLAGS)
    assert {name for section in SECTIONS.values() for name in section.model_fields} >= UNUSED_SETTINGS
