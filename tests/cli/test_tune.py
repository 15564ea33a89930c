from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cnnkit.cli.tune import FLAGS, UNUSED_SETTINGS
from cnnkit.config.settings import SECTIONS

TINY = ("--set", "width=8", "--set", "blocks=1", "--set", "dense=16", "--image-size", "8", "--precision", "fp32")


@pytest.mark.slow
def test_a_search_on_digits_ends_with_the_best_settings_and_never_opens_test(cli, read_rows):
    pytest.importorskip("optuna")
    command = ("tune", "--data", "digits", "--epochs", 3, *TINY, "-s", "lr=1e-4..1e-1:log", "-s", "augment=none,light", "--trials", 6)
    done = cli(*command)
    assert done.code == 0, done.err
    rows = read_rows("runs/tune/custom-cnn-digits/trials.csv")
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    losses = {row["number"]: float(row["value"]) for row in rows if row["state"] == "complete"}
    best = min(losses, key=lambda number: losses[number])
    assert f"best trial {best} of 6: val_loss {losses[best]:.4f}  lr=" in done.out
    assert losses[best] < losses["1"], "the first trial is the recipe"
    assert not list(Path("runs").glob("*/eval")), "test was opened"
    assert "as a recipe: cnnkit train --data digits --config runs/tune/custom-cnn-digits/best.toml" in done.err
    assert f"next: cnnkit eval --model runs/{int(best):03d}-custom-cnn" in done.out

    again = cli(*command, "--json")
    assert json.loads(again.out)["best"]["number"] == int(best)
    trained = cli(
        "train", "--data", "digits", "--config", "runs/tune/custom-cnn-digits/best.toml", "--image-size", 8, "--precision", "fp32", "--json"
    )
    assert trained.json()["best"]["val_loss"] == pytest.approx(losses[best], rel=1e-6), "the recipe repeats the best trial"


def test_the_space_is_printed_as_a_file_that_the_command_reads(cli):
    flags = ("tune", "--data", "digits", "-s", "lr", "-s", "width=8,16")
    printed = cli(*flags, "--print-space")
    assert printed.out == 'lr = "0.0002..0.02:log"\nwidth = "8,16"\n'
    Path("space.toml").write_text(printed.out)
    assert cli("tune", "--data", "digits", "--space", "space.toml", "--print-space").out == printed.out
    assert cli(*flags, "--print-space", "--json").json() == {"lr": "0.0002..0.02:log", "width": "8,16"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--budget", "soon"), "`--budget` (=soon) must be a time such as 90s, 30m or 2h"),
        (("--budget", "0"), "`--budget` (=0) must be above 0; leave it out for no limit"),
        (("--name", "../x"), "`--name` (=../x) must have letters, digits, - and _ alone"),
        (("--trials", "0"), "--trials"),
        (("--search", "ler=1..2"), "--search ler: neither a setting nor an option of custom-cnn"),
        (("--space", "no.toml"), "--space no.toml: cannot be read"),
        (("--arch", "custom-cmm"), "did you mean 'custom-cnn'"),
        (("--lr", "0.1", "-s", "lr"), "--lr gives one value for all trials"),
    ],
)
def test_usage_errors(cli, flags, said):
    result = cli("tune", "--data", "digits", *flags)
    assert result.code == 2
    assert said in result.err
    assert not Path("runs").exists()


def test_data_that_no_trial_can_read_are_refused_before_the_search(cli):
    pytest.importorskip("optuna")
    result = cli("tune", "--data", "no-such-folder")
    assert result.code == 2
    assert "no-such-folder" in result.err
    assert not Path("runs/tune").exists()


def test_without_optuna_one_sentence_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = cli("tune", "--data", "digits")
    assert result.code == 2
    assert "cnnkit tune needs the package optuna; type: pip install 'cnnkit[tune]'" in " ".join(result.err.split())


def test_a_database_that_does_not_open_is_refused_without_its_password(cli, image_folder):
    pytest.importorskip("optuna")
    pytest.importorskip("psycopg")
    result = cli("tune", "--data", image_folder(images=6), *TINY, "--storage", "postgresql://me:secret@127.0.0.1:1/db")
    assert result.code == 2
    assert "--storage postgresql://me:***@127.0.0.1:1/db: cannot be opened" in " ".join(result.err.split())
    assert "secret" not in result.err


@pytest.mark.parametrize("words", [("--storag=postgresql://me:secret@host/db",), ("postgresql://me:secret@host/db",)])
def test_a_mistyped_command_is_refused_without_its_password(cli, words):
    result = cli("tune", "--data", "digits", *words)
    assert result.code == 2
    assert "secret" not in result.err


def test_the_settings_of_a_training_are_flags():
    assert {"epochs", "lr", "patience", "balance", "weights", "seed", "monitor", "log"} <= set(FLAGS)
    assert set(FLAGS) | UNUSED_SETTINGS == {name for section in SECTIONS.values() for name in section.model_fields}
