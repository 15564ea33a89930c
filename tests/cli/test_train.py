from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = ("--set", "width=8", "--set", "blocks=2", "--set", "dense=32", "--set", "dropout=0.1", "--precision", "fp32", "--batch-size", "16")


def test_a_run_directory_has_the_documented_files(cli, image_folder, read_rows):
    data = image_folder(images=12)
    result = cli("train", "--data", data, "--epochs", 2, *SMALL)
    assert result.code == 0, result.err
    run = Path("runs/001-custom-cnn")
    assert {"config.json", "split.csv", "history.csv", "best.safetensors", "last", "curves.png"} <= {path.name for path in run.iterdir()}
    history = read_rows(run / "history.csv")
    assert list(history[0]) == [
        *("epoch", "step", "lr", "train_loss", "train_accuracy"),
        *("val_loss", "val_accuracy", "seconds", "images_per_second", "is_best"),
    ]
    assert [row["epoch"] for row in history] == ["1", "2"]
    rows = read_rows(run / "split.csv")
    assert list(rows[0]) == ["path", "label", "split", "sha256", "unit"]
    assert len(rows) == 36
    assert all(not Path(row["path"]).is_absolute() and (data / row["path"]).is_file() for row in rows)
    config = json.loads((run / "config.json").read_text())
    assert config["status"] == "finished"
    assert config["config"]["optim"]["epochs"] == 2
    assert config["result"]["monitor"] == "val_loss"


def test_the_screen_shows_the_training_and_the_next_command(cli, image_folder):
    result = cli("train", "--data", image_folder(images=12), "--epochs", 1, *SMALL)
    assert "custom-cnn" in result.err
    assert "36 images (train 24, val 6, test 6)" in result.err
    assert "1/1" in result.err
    assert "kept epoch 1 of 1, best by val_loss" in result.out
    assert "probabilities not calibrated: val has 6 images, and a temperature needs at least 100; too few images for an ECE" in result.out
    assert "next: cnnkit eval --confusion" in result.out
    assert "\x1b" not in result.out + result.err  # a pipe gets plain text


def test_json_is_one_document_and_nothing_else_on_stdout(cli, image_folder):
    result = cli("train", "--data", image_folder(images=12), "--epochs", 1, "--json", *SMALL)
    document = result.json()
    assert document["best"]["epoch"] == 1
    assert Path(document["model"]).is_file()
    assert (document["temperature"], document["calibration"]["n"]) == (1.0, 6)


def test_the_best_epoch_on_screen_is_the_best_in_history(cli, image_folder, read_rows):
    document = cli("train", "--data", image_folder(images=12), "--epochs", 4, "--json", *SMALL).json()
    history = read_rows(Path(document["run"]) / "history.csv")
    best = min(history, key=lambda row: float(row["val_loss"]))
    assert document["best"]["epoch"] == int(best["epoch"])
    assert document["best"]["val_loss"] == float(best["val_loss"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--lr", "0"), "`--lr` (=0) must be a number above 0, such as 2e-3, or auto"),
        (("--lr", "fast"), "`--lr` (=fast) must be a number above 0, such as 2e-3, or auto"),
        (("--batch-size", "big"), "`--batch-size` (=big) must be a whole number, at least 1, or auto"),
        (("--epochs", "0"), "`--epochs` (=0) must be greater than or equal to 1"),
        (("--split", "0.5/0.1/0.1"), "`--split` (=0.5/0.1/0.1) must be two or three shares that sum to 1"),
        (("--zoom", "wide"), "`--zoom` (=wide) must be numbers separated by ','"),
        (("--recipe", "finetun"), "--recipe finetun: no such recipe; did you mean 'finetune'?"),
        (("--freeze-epochs", "1"), "`--freeze-epochs` (=1) needs weights worth keeping"),
        (("--arch", "custom-cn"), "no architecture named 'custom-cn' is installed; did you mean 'custom-cnn'"),
        (("--set", "widht=3"), "architecture 'custom-cnn' has no option 'widht'; did you mean 'width'? Its options: width="),
        (("--set", "width=wide"), "--set width=wide: option 'width' of architecture 'custom-cnn' must be of type int"),
        (("--set", "width"), "--set 'width': expected name=value"),
        (("--classes", "antz"), "--classes antz: no such class in"),
        (("--classes", "ants"), "one class, 'ants'; a classifier needs at least two"),
        (("--weights", "nowhere.pth"), "nowhere.pth"),
        (("--weights", "pretrained"), "custom-cnn has no published weights"),
        (("--device", "mps"), "finds no such device here; usable: "),
        (("--precision", "fp16"), "--precision fp16 needs a CUDA GPU"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_flag(cli, image_folder, flags, says):
    result = cli("train", "--data", image_folder(images=4), *flags)
    assert result.code == 2
    assert says in result.err
    assert "Traceback" not in result.err
    assert not list(Path("runs").glob("*-custom-cnn"))


def test_the_values_of_auto_are_printed(cli, image_folder):
    result = cli("train", "--data", image_folder(images=12), "--epochs", 1, *SMALL, "--lr", "auto", "--batch-size", "auto")
    assert result.code == 0, result.err
    assert "batches of 32; best epoch by" in result.err
    assert "note    --batch-size auto: batches of 32 (with 24 training images, larger batches leave fewer than" in result.err
    said = result.err.split("steps suggests ")[1].split()[0]
    assert f"adamw, lr {said}, batches of 32" in result.err


def test_a_dry_run_makes_no_range_test(cli, image_folder):
    result = cli("train", "--data", image_folder(images=12), *SMALL, "--lr", "auto", "--dry-run")
    assert "adamw, lr auto, batches of 16" in result.err
    assert "dry run: nothing was trained; --lr auto: no range test was made" in result.err


def test_missing_data_says_what_to_type(cli):
    assert "--data is missing: name a folder of class folders" in cli("train").err


def test_a_missing_folder_is_an_error(cli):
    result = cli("train", "--data", "nowhere")
    assert (result.code, "--data nowhere: no such file or folder" in result.err) == (2, True)


def test_an_empty_folder_is_an_error(cli, tmp_path):
    (tmp_path / "void").mkdir()
    result = cli("train", "--data", tmp_path / "void")
    assert result.code == 2
    assert "no images found in class folders" in result.err
    assert "it is empty" in result.err


def test_a_single_class_is_an_error(cli, image_folder):
    result = cli("train", "--data", image_folder(classes=["ants"]))
    assert result.code == 2
    assert "has one class, 'ants'; a classifier needs at least two class folders" in result.err


def test_a_class_with_one_image_is_an_error(cli, image_folder):
    result = cli("train", "--data", image_folder(classes={"ants": 5, "bees": 1}))
    assert result.code == 2
    assert "1 class has too few images for train, val, test: 'bees' (1 image); add images" in result.err


def test_unreadable_images_are_named_skipped_and_recorded(cli, image_folder):
    data = image_folder(images=12)
    (data / "ants" / "notes.jpg").write_text("not an image")
    whole = (data / "bees" / "bees-000.jpg").read_bytes()
    (data / "bees" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    result = cli("train", "--data", data, "--epochs", 1, *SMALL)
    assert result.code == 0
    assert "skipped 2 unreadable images:" in result.err
    assert "ants/notes.jpg: not an image in a supported format" in result.err
    assert "bees/cut.jpg: " in result.err
    assert "truncated" in result.err
    recorded = json.loads(Path("runs/001-custom-cnn/config.json").read_text())["unreadable"]
    assert [entry["path"] for entry in recorded] == ["ants/notes.jpg", "bees/cut.jpg"]


def test_on_bad_fail_refuses_and_names_the_file(cli, image_folder):
    data = image_folder(images=4)
    (data / "ants" / "notes.jpg").write_text("not an image")
    result = cli("train", "--data", data, "--on-bad", "fail")
    assert result.code == 2
    assert "1 of 13 images cannot be read (--on-bad fail)" in result.err
    assert "ants/notes.jpg" in result.err


def test_a_test_split_without_a_class_is_noted(cli, image_folder):
    image_folder(folder="data/train", images=10)
    data = image_folder(folder="data/test", classes=["ants", "bees"], images=3, seed=1).parent
    result = cli("train", "--data", data, "--epochs", 1, *SMALL)
    assert result.code == 0
    assert "test has no image of class 'wasps': metrics of test say nothing about this class" in result.err
    evaluated = cli("eval", "--json").json()
    assert evaluated["per_class"][2]["support"] == 0
    assert evaluated["per_class"][2]["recall"] is None


def test_a_class_that_only_test_has_is_refused(cli, image_folder):
    image_folder(folder="data/train", classes=["ants", "bees"], images=10)
    data = image_folder(folder="data/test", images=3, seed=1).parent
    result = cli("train", "--data", data, "--epochs", 1)
    assert result.code == 2
    assert "class 'wasps' has no image in train, only in other splits: no network can learn it" in result.err


def test_split_beside_fixed_splits_is_refused(cli, image_folder):
    image_folder(folder="data/train", images=5)
    data = image_folder(folder="data/val", images=3, seed=1).parent
    result = cli("train", "--data", data, "--split", "0.8/0.2")
    assert result.code == 2
    assert "--split: the data itself has the splits train, val" in result.err


def test_numeric_class_names_are_in_numeric_order(cli, image_folder):
    result = cli("train", "--data", image_folder(classes=["1", "2", "10"], images=10), "--epochs", 1, "--augment", "light", *SMALL)
    assert "3: 1, 2, 10" in result.err
    assert "no mirroring: mirrored images of class '1' may no longer belong to it" in result.err
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["classes"] == ["1", "2", "10"]


def test_an_output_folder_that_cannot_be_written_is_an_error(cli, image_folder):
    Path("taken").write_text("a file")
    result = cli("train", "--data", image_folder(), "--out", "taken")
    assert result.code == 2
    assert "--out taken: cannot write there" in result.err
    assert "1/" not in result.err


def test_dry_run_writes_no_run(cli, image_folder):
    result = cli("train", "--data", image_folder(images=12), "--dry-run", *SMALL)
    assert result.code == 0
    assert "dry run: nothing was trained" in result.err
    assert cli("train", "--data", Path("images"), "--dry-run", "--json", *SMALL).json()["images"] == {"train": 24, "val": 6, "test": 6}
    assert not Path("runs").exists()


def test_config_reads_the_output_of_print_config(cli, image_folder):
    printed = cli("train", "--data", image_folder(), "--recipe", "case-study", "--lr", "0.02", "--zoom", "0.5,2", "--print-config")
    Path("settings.toml").write_text(printed.out)
    again = cli("train", "--config", "settings.toml", "--print-config")
    assert again.out == printed.out
    assert "lr = 0.02" in again.out
    assert 'recipe = "case-study"' in again.out


def test_a_diverged_training_exits_with_3_and_names_the_step(cli, image_folder):
    data = image_folder(images=12)
    result = cli("train", "--data", data, "--epochs", 3, "--optimizer", "sgd", "--lr", "1e30", "--warmup-epochs", "0", *SMALL)
    assert result.code == 3
    assert "in epoch 1 at step" in result.err
    assert "try a smaller learning rate" in result.err
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["status"] == "stopped"


def test_a_budget_for_the_last_layer_alone_ends_with_its_fit(cli, trained, image_folder, read_rows):
    data = image_folder(classes=["hornets", "ladybirds"], images=10, folder="other")
    result = cli("train", "--data", data, "--weights", trained.run / "best.safetensors", "--budget", "0.01s", *SMALL)
    assert result.code == 0
    assert "the time budget was enough for the fit of the last layer only; kept epoch 0 of 0, best by val_accuracy" in result.out
    assert "the new last layer starts as " in result.err
    assert "--budget 0.01s: the fit of the last layer took" in result.err
    run = Path("runs/002-custom-cnn")
    assert [(row["epoch"], row["step"], row["is_best"]) for row in read_rows(run / "history.csv")] == [("0", "0", "True")]
    assert (run / "best.safetensors").is_file()
    assert cli("runs", "--json").json()["runs"][0]["best_epoch"] == 0


def test_the_same_seed_gives_the_same_losses(cli, image_folder, read_rows):
    data = image_folder(images=12)
    losses = []
    for seed in (3, 3, 4):
        run = cli("train", "--data", data, "--epochs", 2, "--seed", seed, "--json", *SMALL).json()["run"]
        losses.append([row["train_loss"] for row in read_rows(Path(run) / "history.csv")])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_the_best_model_and_names_the_resume_command(image_folder, number, code):
    data = image_folder(images=30)
    command = [sys.executable, "-m", "cnnkit", "train", "--data", str(data), "--epochs", "500", "--patience", "0", *SMALL]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    history = Path("runs/001-custom-cnn/history.csv")
    deadline = time.monotonic() + 120
    while not (history.is_file() and len(history.read_text().splitlines()) > 3):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the best model so far, of epoch" in error
    assert "next: cnnkit resume runs/001-custom-cnn" in error
    assert "Traceback" not in error
    assert Path("runs/001-custom-cnn/best.safetensors").is_file()
    assert not list(Path("runs").rglob("*.part"))
