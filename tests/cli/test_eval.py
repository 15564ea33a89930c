from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.evaluation.evaluation import Evaluation
from cnnkit.data.store.cache import stores
from cnnkit.errors import CheckFailedError
from cnnkit.files import fingerprint
from cnnkit.model.file import read_header, rewrite_header


def test_eval_takes_the_newest_run_and_says_so(cli, trained):
    result = cli("eval", "--confusion")
    assert result.code == 0, result.err
    assert "runs/001-custom-cnn/best.safetensors (the newest finished run)" in result.err
    assert "test: 9 images, 3 classes" in result.out
    assert "95 % interval" in result.out
    assert "predicted →" in result.out


def test_every_number_on_screen_is_in_a_file(cli, trained):
    document = cli("eval", "--json").json()
    folder = trained.run / "eval" / "test"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "confusion.csv",
        "confusion.png",
        "reliability.png",
        "risk_coverage.png",
        "report.txt",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["unreadable"] == []
    for key in ("split", "n", "accuracy", "loss", "macro_f1", "per_class"):
        assert document[key] == metrics[key]
    assert document["classes"] == ["ants", "bees", "wasps"]
    assert np.trace(document["confusion"]) / document["n"] == pytest.approx(metrics["accuracy"]["value"])
    assert (folder / "report.txt").read_text().startswith("test: 9 images")


def test_predictions_and_confusion_agree_with_the_metrics(cli, trained, read_rows):
    document = cli("eval", "--json", "--probabilities").json()
    rows = read_rows(trained.run / "eval/test/predictions.csv")
    assert list(rows[0]) == ["path", "true", "predicted", "probability", "loss", "ants", "bees", "wasps"]
    assert np.mean([float(row["loss"]) for row in rows]) == pytest.approx(document["loss"]["value"])
    assert sum(row["true"] == row["predicted"] for row in rows) == np.trace(document["confusion"])
    assert all(sum(float(row[name]) for name in document["classes"]) == pytest.approx(1, abs=1e-5) for row in rows)
    counts = read_rows(trained.run / "eval/test/confusion.csv")
    assert [[int(row[name]) for name in document["classes"]] for row in counts] == document["confusion"]


def test_metrics_say_whose_they_are(cli, trained):
    assert cli("eval").code == 0
    metrics = json.loads((trained.run / "eval/test/metrics.json").read_text())
    assert metrics["model"] == {"file": "best.safetensors", "sha256": fingerprint(trained.run / "best.safetensors")}


def test_eval_on_val_repeats_the_training_figures(cli, trained):
    result = json.loads((trained.run / "config.json").read_text())["result"]
    document = cli("eval", "--split", "val", "--json").json()
    assert document["loss"]["value"] == pytest.approx(result["best_value"], rel=1e-5)
    kept = read_header(trained.run / "best.safetensors").calibration
    assert kept is not None
    assert document["calibration"]["before"]["ece"]["value"] is None  # nine images are too few
    assert math.isnan(kept.ece_before.value)
    assert document["calibration"]["before"]["loss"]["value"] == pytest.approx(kept.loss_before, rel=1e-5)


def test_with_a_temperature_the_training_figures_are_those_without_it(cli, trained, read_rows):
    best = trained.run / "best.safetensors"
    rewrite_header(best, read_header(best).model_copy(update={"temperature": 3.0, "calibration": None}))
    row = [row for row in read_rows(trained.run / "history.csv") if row["is_best"] == "True"][-1]
    document = cli("eval", "--split", "val", "--json").json()
    assert document["calibration"]["before"]["loss"]["value"] == pytest.approx(float(row["val_loss"]), rel=1e-4)
    assert document["accuracy"]["value"] == pytest.approx(float(row["val_accuracy"]))
    assert document["calibration"]["after"]["loss"]["value"] == pytest.approx(document["loss"]["value"])
    assert document["loss"]["value"] != pytest.approx(float(row["val_loss"]), rel=0.01)


def test_eval_says_what_the_temperature_does(cli, trained):
    result = cli("eval")
    assert "calibration error (ECE) " in result.out
    assert "temperature 1: val has 9 images, and a temperature needs at least 100" in " ".join(result.out.split())
    best = trained.run / "best.safetensors"
    rewrite_header(best, read_header(best).model_copy(update={"temperature": 1.5}))
    result = cli("eval")
    assert "without the temperature of 1.50, " in " ".join(result.out.split())
    assert "without the temperature of 1.50, " in (trained.run / "eval/test/report.txt").read_text().replace("\n", " ")


def test_the_exported_file_gives_the_same_numbers_and_takes_no_other_views(cli, trained_export):
    torch, onnx = cli("eval", "--json").json(), cli("eval", "--json", "--model", trained_export).json()
    assert onnx["confusion"] == torch["confusion"]
    assert onnx["loss"]["value"] == pytest.approx(torch["loss"]["value"], rel=1e-4)
    refused = cli("eval", "--tta", "--model", trained_export)
    assert refused.code == 2
    assert "model.onnx is an exported file" in refused.err
    assert "cnnkit eval --tta --model" in refused.err


def test_a_model_file_without_a_run_needs_data(cli, trained, tmp_path):
    lone = Path(shutil.copy(trained.run / "best.safetensors", tmp_path / "lone.safetensors"))
    result = cli("eval", "--model", lone)
    assert result.code == 2
    assert "lies in no run directory" in result.err
    assert "--data FOLDER" in result.err
    document = cli("eval", "--model", lone, "--data", trained.data, "--json").json()
    assert (document["split"], document["n"]) == ("all", 60)


def test_unreadable_images_are_named_and_left_out(cli, trained, image_folder):
    data = image_folder(images=4, folder="other", seed=9)
    shutil.copy(trained.data / "bees/broken.jpg", data / "bees")
    result = cli("eval", "--data", data)
    assert "left out bees/broken.jpg" in result.err
    assert "12 images" in result.out


def test_the_training_data_typed_again_give_the_figures_of_test(cli, trained):
    plain, again = cli("eval", "--json"), cli("eval", "--data", trained.data, "--json")
    assert "so its test split is evaluated: 9 of 61 images; the model was trained on 42 others" in " ".join(again.err.split())
    assert again.json().pop("lookup")["exact"] == {"train": 42, "val": 9, "test": 9}
    kept = again.json()
    del kept["lookup"]
    assert kept == plain.json()
    assert json.loads((trained.run / "eval/opened.json").read_text()) == {"test": 2}


def test_an_evaluation_replaces_no_other(cli, trained, trained_export, image_folder):
    assert cli("eval").code == 0
    test = trained.run / "eval/test"
    before = {path.name: path.read_bytes() for path in test.iterdir()}
    same_name = [image_folder(images=4, folder=f"{place}/photos", seed=seed) for seed, place in ((8, "here"), (9, "there"))]
    others = [
        ("--classes", "bees"),
        ("--classes", "bees,ants"),
        ("--data", same_name[0]),
        ("--data", same_name[1]),
        ("--data", same_name[1], "--classes", "bees"),
        ("--data", same_name[1], "--tta"),
        ("--model", trained_export),
        ("--model", trained_export, "--classes", "bees"),
        ("--split", "val"),
        ("--tta",),
    ]
    for arguments in (*others, *others[:3]):
        result = cli("eval", "--model", trained.run, *arguments)
        assert result.code == 0, result.err
    assert {path.name: path.read_bytes() for path in test.iterdir()} == before
    folders = {path.name for path in (trained.run / "eval").iterdir() if path.is_dir()}
    assert {"test", "val", "test-tta", "test-model.onnx"} < folders
    assert len(folders) == 1 + len(others)
    metrics = json.loads((next((trained.run / "eval").glob("test-bees-*")) / "metrics.json").read_text())
    assert (metrics["n"], metrics["images"]) == (3, {"classes": ["bees"]})
    (row,) = cli("runs", "--json").json()["runs"]
    assert row["test_accuracy"] == json.loads(before["metrics.json"])["accuracy"]


def test_all_classes_are_the_whole_split(cli, trained):
    assert cli("eval", "--classes", "wasps,bees,ants").code == 0
    assert [path.name for path in (trained.run / "eval").iterdir() if path.is_dir()] == ["test"]
    assert "images" not in json.loads((trained.run / "eval/test/metrics.json").read_text())


def test_an_evaluation_of_the_moved_data_counts_as_that_of_the_run(cli, trained):
    moved = shutil.copytree(trained.data, "moved")
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = str(Path("gone").absolute())
    (trained.run / "config.json").write_text(json.dumps(config))
    note = " ".join(cli("report").err.split())
    assert "not at their recorded location" in note
    assert "to evaluate: cnnkit eval --model runs/001-custom-cnn --data FOLDER" in note
    evaluated = cli("eval", "--model", "runs/001-custom-cnn", "--data", moved, "--json")
    assert "so its test split is evaluated: 9 of 61 images" in " ".join(evaluated.err.split())
    assert [path.name for path in (trained.run / "eval").iterdir() if path.is_dir()] == ["test"]
    (row,) = cli("runs", "--json").json()["runs"]
    assert row["test_accuracy"] == evaluated.json()["accuracy"]
    report = cli("report", "--json").json()
    assert (report["split"], report["evaluated_now"]) == ("test", False)
    assert json.loads((trained.run / "eval/opened.json").read_text()) == {"test": 1}


def test_images_that_the_model_learned_are_left_out_unless_included(cli, trained, image_folder, read_rows):
    data = image_folder(images=4, folder="other", seed=9)
    learned = next(row for row in read_rows(trained.run / "split.csv") if row["split"] == "train")
    shutil.copy(trained.data / learned["path"], data / learned["label"] / "learned.jpg")
    left_out = cli("eval", "--data", data, "--json")
    assert "1 of 13 images were used to train 001-custom-cnn: 1 is in its train split; they are left out" in " ".join(left_out.err.split())
    assert (left_out.json()["n"], left_out.json()["lookup"]["included"]) == (12, False)
    included = cli("eval", "--data", data, "--include-trained", "--json")
    assert "--include-trained: the figures are too good" in " ".join(included.err.split())
    assert (included.json()["n"], included.json()["lookup"]["exact"]["train"]) == (13, 1)
    refused = cli("eval", "--include-trained")
    assert (refused.code, "--include-trained needs --data or --ood" in refused.err) == (2, True)


def test_unknown_classes_are_an_error_with_both_lists(cli, trained, image_folder):
    other = image_folder(classes=["bees", "hornets"], folder="other")
    result = cli("eval", "--data", other)
    assert result.code == 2
    assert "classes that the model does not have: hornets; the model has: ants, bees, wasps" in result.err


def test_a_class_called_true_keeps_its_own_column(cli, image_folder, read_rows):
    data = image_folder(classes=["false", "true"], images=10)
    assert cli("train", "--data", data, "--epochs", 1, "--set", "width=8", "--precision", "fp32").code == 0
    document = cli("eval", "--json", "--probabilities").json()
    run = Path("runs/001-custom-cnn")
    rows = read_rows(run / "eval/test/confusion.csv")
    assert [row["true"] for row in rows] == ["false", "true"]
    assert [[int(row["false"]), int(row["class true"])] for row in rows] == document["confusion"]
    assert {row["true"] for row in read_rows(run / "eval/test/predictions.csv")} == {"false", "true"}


def test_probabilities_need_a_folder(cli, trained, tmp_path):
    lone = Path(shutil.copy(trained.run / "best.safetensors", tmp_path / "lone.safetensors"))
    result = cli("eval", "--model", lone, "--data", trained.data, "--probabilities")
    assert result.code == 2
    assert "--probabilities needs a file for its columns" in result.err


def test_without_a_run_the_error_has_the_train_command(cli):
    result = cli("eval")
    assert result.code == 2
    assert "no finished run under runs; train one: cnnkit train --data FOLDER, or name a model: --model FILE" in result.err


def test_an_unfinished_run_is_named_in_the_error(cli, trained):
    config = json.loads((trained.run / "config.json").read_text())
    (trained.run / "config.json").write_text(json.dumps({**config, "status": "stopped"}))
    result = cli("eval")
    assert result.code == 2
    assert "runs/001-custom-cnn has not finished: name it with --model runs/001-custom-cnn, or continue it: cnnkit resume" in result.err
    assert cli("eval", "--model", trained.run).code == 0


@pytest.mark.parametrize("name", ["text.safetensors", "text.onnx"])
def test_a_file_that_is_not_a_model_is_an_error(cli, tmp_path, name):
    (tmp_path / name).write_text("certainly no model")
    result = cli("eval", "--model", tmp_path / name, "--data", "digits")
    assert result.code == 2
    assert name in result.err
    assert "Traceback" not in result.err


def test_a_folder_without_a_run_is_an_error(cli, tmp_path):
    (tmp_path / "folder").mkdir()
    result = cli("eval", "--model", tmp_path / "folder")
    assert (result.code, "not a run directory" in result.err) == (2, True)


def test_data_that_moved_are_an_error_that_names_the_data_flag(cli, trained):
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = "gone"
    (trained.run / "config.json").write_text(json.dumps(config))
    result = cli("eval")
    assert result.code == 2
    assert "not at their recorded location" in result.err
    assert "--data" in result.err


def test_a_missing_split_is_an_error(cli, image_folder):
    image_folder(folder="data/train", images=6)
    data = image_folder(folder="data/val", images=3, seed=1).parent
    small = ("--set", "width=8", "--set", "blocks=2", "--precision", "fp32")
    assert cli("train", "--data", data, "--epochs", 1, *small).code == 0
    evaluated = cli("eval", "--json")
    assert evaluated.json()["split"] == "val"
    assert "the run has no test split: these are the figures of val" in evaluated.err
    result = cli("eval", "--split", "test")
    assert result.code == 2
    assert "has no test images; it has train, val" in result.err


def test_tta_is_stated_in_all_outputs_and_keeps_the_plain_figures(cli, trained):
    assert cli("eval").code == 0
    plain = (trained.run / "eval/test/metrics.json").read_bytes()
    shown = cli("eval", "--tta", "--confusion")
    assert shown.code == 0, shown.err
    sentence = "test-time augmentation: the logits are averaged over 6 views of every image: plain or mirrored left-right, unshifted or "
    assert shown.out.startswith(sentence)
    assert f"files {trained.run.relative_to(Path.cwd())}/eval/test-tta" in shown.out
    folder = trained.run / "eval/test-tta"
    assert (folder / "report.txt").read_text().replace("\n", " ").startswith(sentence)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["tta"] == {"views": 6, "mirror": "h", "shift_pixels": 1, "mean_of": "logits"}
    assert (metrics["split"], metrics["opened"]) == ("test", 2)
    assert metrics["loss"] != json.loads(plain)["loss"]
    assert "tta" not in json.loads(plain)
    assert (trained.run / "eval/test/metrics.json").read_bytes() == plain


def test_tta_is_in_the_json_document(cli, trained):
    assert "tta" not in cli("eval", "--json").json()
    assert cli("eval", "--json", "--tta").json()["tta"]["views"] == 6


def test_tta_works_on_other_data_and_with_out(cli, trained, tmp_path, image_folder):
    assert cli("eval", "--tta", "--data", image_folder(images=4, folder="other", seed=9)).code == 0
    (folder,) = (trained.run / "eval").glob("other-all-tta-*")
    assert (folder / "metrics.json").is_file()
    assert cli("eval", "--tta", "--out", tmp_path / "here").code == 0
    assert json.loads((tmp_path / "here/metrics.json").read_text())["tta"]["views"] == 6


def test_tta_is_an_error_without_mirrors_and_shifts_in_training(cli, image_folder):
    small = ("--set", "width=8", "--set", "blocks=2", "--precision", "fp32")
    assert cli("train", "--data", image_folder(), "--epochs", 1, "--augment", "none", *small).code == 0
    result = cli("eval", "--tta")
    assert result.code == 2
    assert "neither mirrored nor shifted" in result.err
    assert not Path("runs/001-custom-cnn/eval").exists()


def test_min_accuracy_is_checked_after_the_files_are_written(cli, trained, monkeypatch):
    def refuse(*_: object) -> str:
        raise CheckFailedError("too low")

    accuracy = cli("eval", "--json").json()["accuracy"]["value"]
    met = cli("eval", "--min-accuracy", accuracy)
    assert met.code == 0
    assert f"--min-accuracy {accuracy:g} is met, but the interval begins below it" in met.err
    shutil.rmtree(trained.run / "eval" / "test")
    monkeypatch.setattr(Evaluation, "require_accuracy", refuse)
    missed = cli("eval", "--json", "--min-accuracy", 0.5)
    assert missed.code == 1
    assert "error   too low" in missed.err
    assert missed.json()["n"] == 9
    assert (trained.run / "eval/test/metrics.json").is_file()


def test_a_percentage_instead_of_a_share_is_an_error(cli):
    refused = cli("eval", "--min-accuracy", 90)
    assert refused.code == 2
    assert "--min-accuracy 90: must be a share from 0 to 1; for 90 % type --min-accuracy 0.9" in refused.err


def test_normalize_shows_percent_and_writes_the_shares(cli, trained, read_rows):
    shown = cli("eval", "--normalize", "true")
    assert "predicted → (cells: % of the true class)" in shown.out
    document = cli("eval", "--normalize", "pred", "--json").json()
    assert document["normalize"] == "pred"
    rows = read_rows(trained.run / "eval/test/confusion-pred.csv")
    assert [[float(row[name]) for name in document["classes"]] for row in rows] == document["confusion_normalized"]
    columns = np.sum(document["confusion_normalized"], axis=0)
    assert all(total == pytest.approx(1) or total == 0 for total in columns)
    assert (trained.run / "eval/test/confusion-true.csv").is_file()
    assert "confusion_normalized" not in cli("eval", "--json").json()
    assert "invalid" in cli("eval", "--normalize", "row").err.lower()


def test_top_k_must_be_less_than_the_number_of_classes(cli, trained):
    assert "top-2 accuracy" in cli("eval", "--top-k", 2).out
    assert cli("eval", "--json", "--top-k", 2).json()["top_k_accuracy"]["k"] == 2
    refused = cli("eval", "--top-k", 3)
    assert refused.code == 2
    assert "--top-k 3: the model has 3 classes; choose 1 to 2" in refused.err


def test_the_colour_baseline_is_the_same_with_and_without_the_store(cli, trained, tmp_path, monkeypatch):
    warm = cli("eval", "--json").json()["baselines"]
    assert [one["name"] for one in warm] == ["majority", "colour-histogram"]
    assert warm[1]["trained_on"] == 42
    assert warm[1]["accuracy"]["value"] > 0.5, "the classes of these images have hues of their own"
    assert "colours alone (42 training images)" in cli("eval").out
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "empty"))
    assert cli("eval", "--json").json()["baselines"] == warm
    assert [one.images for one in stores()] == [9], "what is not evaluated is not decoded for the store"
    assert [one["name"] for one in cli("eval", "--split", "train", "--json").json()["baselines"]] == ["majority"]


def test_the_exported_file_has_the_colour_baseline(cli, trained_export):
    onnx = cli("eval", "--json", "--model", trained_export).json()["baselines"]
    assert onnx[1] == cli("eval", "--json").json()["baselines"][1]


def test_the_error_offers_the_common_classes_and_the_offer_works(cli, trained, image_folder):
    other = image_folder(classes=["bees", "hornets", "wasps"], folder="other", seed=9)
    refused = cli("eval", "--data", other)
    assert refused.code == 2
    assert "does not have: hornets; the model has: ants, bees, wasps; both have: bees, wasps" in refused.err
    assert "add --classes bees,wasps" in refused.err
    done = cli("eval", "--data", other, "--classes", "bees,wasps", "--json")
    assert done.json()["n"] == 16
    assert "all has no image of the class 'ants': the scores say nothing about it" in done.err


def test_other_data_without_a_common_class(cli, trained, image_folder):
    refused = cli("eval", "--data", image_folder(classes=["flies", "hornets"], folder="other"))
    assert refused.code == 2
    assert "does not have: flies, hornets; the model has: ants, bees, wasps; they share no class" in refused.err


def test_a_split_of_one_class_is_noted(cli, trained):
    result = cli("eval", "--classes", "bees")
    assert result.code == 0
    assert "test has images of one class only, 'bees'" in result.err
    assert "ROC AUC" in result.out
    assert cli("eval", "--classes", "bees", "--json").json()["roc_auc"] == {"value": None, "low": None, "high": None}


def test_an_unknown_class_is_an_error(cli, trained):
    refused = cli("eval", "--classes", "ants,bee")
    assert refused.code == 2
    assert "--classes bee: no such class in" in refused.err
    assert "did you mean 'bees'? It has: ants, bees, wasps" in refused.err


def test_the_last_lines_name_weights_for_a_run_on_few_photographs(cli, trained):
    file = trained.run / "config.json"
    record = json.loads(file.read_text())
    record["preprocessing"]["image_size"] = 224
    file.write_text(json.dumps(record))
    note, headline, following = cli("eval", "--split", "val").out.splitlines()[-3:]
    assert note.startswith("note    train has 14 images per class, and under 500 a network learns more from ImageNet's weights")
    assert re.fullmatch(r"\d of 9 val images right, \d+ to \d+ %", headline)
    assert following == "next: cnnkit report"
