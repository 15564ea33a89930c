from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnkit.api.inference.drift import take_fingerprint
from cnnkit.data.appearance import appearance
from cnnkit.data.image import read_image
from cnnkit.exporters.opening import open_classifier
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.model.file import read_header, rewrite_header
from cnnkit.model.torch_classifier import TorchClassifier


def store_rules(run: Path, **rules: object) -> None:
    """Write `rules` into the model file of a run."""
    rewrite_header(run / "best.safetensors", read_header(run / "best.safetensors").model_copy(update=rules))


def median_confidence(run: Path, cli) -> float:
    """Return the median of the highest probabilities on the run's test images."""
    assert cli("eval").code == 0
    with (run / "eval/test/predictions.csv").open() as file:
        confidences = sorted(float(line.rsplit(",", 2)[1]) for line in file.readlines()[1:])
    middle = len(confidences) // 2
    return (confidences[middle - 1] + confidences[middle]) / 2


def rule(threshold: float) -> Abstention:
    return Abstention(threshold, 0.02, 0.01, 0.95, 0.5, 500, 1, 1000, "val")


def test_eval_finds_rules_on_val_stores_and_removes_them(cli, trained):
    before = read_header(trained.run / "best.safetensors")
    result = cli("eval", "--abstain-risk", 0.6, "--sets", 0.8)
    assert result.code == 0, result.err
    assert "with 95 % confidence at most 60 % of its predictions are wrong. It accepted" in " ".join(result.err.split())
    assert "it holds the true class with a probability of at least 80 % (threshold from " in " ".join(result.err.split())
    assert "the model's own threshold" in result.out
    assert "label sets of coverage 80.0 %: " in result.out
    header = read_header(trained.run / "best.safetensors")
    assert header.abstention is not None
    assert header.label_sets is not None
    assert (header.abstention.risk, header.abstention.split, header.label_sets.coverage) == (0.6, "val", 0.8)
    assert header.model_copy(update={"abstention": None, "label_sets": None}) == before
    metrics = json.loads((trained.run / "eval/test/metrics.json").read_text())
    assert metrics["abstention"]["threshold"] == header.abstention.threshold
    assert metrics["abstention"]["evaluated"]["answered"] + 0 == round(metrics["abstention"]["evaluated"]["coverage"] * metrics["n"])
    assert metrics["label_sets"]["evaluated"]["coverage"]["high"] <= 1
    removed = cli("eval", "--abstain-risk", "none", "--sets", "none", "--json")
    assert "threshold removed: the model predicts every image" in removed.err
    assert read_header(trained.run / "best.safetensors") == before
    assert {"abstention", "label_sets"}.isdisjoint(removed.json())


def test_a_risk_that_val_cannot_show_is_an_error_with_the_possible_risk(cli, trained):
    before = (trained.run / "best.safetensors").read_bytes()
    result = cli("eval", "--abstain-risk", 0.02)
    assert result.code == 1
    said = " ".join(result.err.split())
    assert "val images cannot guarantee, with 95 % confidence, at most 2 % wrong predictions" in said
    assert "similar val images would guarantee 2 %" in said or "train a better model" in said
    assert (trained.run / "best.safetensors").read_bytes() == before
    assert not (trained.run / "eval").exists()


def test_json_and_file_have_the_same_table(cli, trained):
    result = cli("eval", "--json")
    rows = result.json()["risk_coverage"]
    assert [row["answered"] for row in rows] == [9, 9, 9, 8, 7, 5]
    assert rows[0]["risk"]["value"] == pytest.approx(1 - result.json()["accuracy"]["value"])
    assert json.loads((trained.run / "eval/test/metrics.json").read_text())["risk_coverage"] == rows
    assert "Predictions for the surest images alone" in (trained.run / "eval/test/report.txt").read_text()


def test_predict_abstains_and_still_shows_the_class(cli, trained, read_rows):
    threshold = median_confidence(trained.run, cli)
    store_rules(trained.run, abstention=rule(threshold), label_sets=LabelSets(0.2, 0.95, 1000, "val"))
    folder = trained.data / "wasps"
    assert cli("predict", folder, trained.data / "bees/broken.jpg", "--out", "rows.csv", "--probabilities").code == 0
    rows = read_rows("rows.csv")
    assert list(rows[0]) == ["path", "predicted", "probability", "abstained", "error", "ants", "bees", "wasps", "label_set"]
    for row in rows[:-1]:
        assert row["abstained"] == ("true" if float(row["probability"]) < threshold else "false")
        members = json.loads(row["label_set"])
        assert members[0] == row["predicted"]
        assert set(members) == {name for name in ("ants", "bees", "wasps") if float(row[name]) >= 0.2} | {row["predicted"]}
    assert (rows[-1]["abstained"], rows[-1]["label_set"]) == ("false", "[]")
    shown = cli("predict", folder).out.splitlines()
    for line, row in zip(shown, rows, strict=False):
        assert ("don't know (" in line) == (row["abstained"] == "true")
        assert f"{row['predicted']} {100 * float(row['probability']):.1f} %" in line
    assert any("don't know (" in line for line in cli("predict", trained.data).out.splitlines())


def test_without_rules_the_columns_stay(cli, trained, read_rows):
    cli("predict", trained.data / "ants", "--out", "rows.csv")
    assert list(read_rows("rows.csv")[0]) == ["path", "predicted", "probability", "abstained", "error"]


def test_an_exported_file_takes_no_rules_and_is_reported_as_outdated(cli, trained):
    exported = trained.run / "export/model.onnx"
    exported.parent.mkdir()
    exported.write_bytes(b"any content: the file is not opened")
    refused = cli("eval", "--model", exported, "--abstain-risk", 0.1)
    assert refused.code == 2
    assert "an exported file keeps the rules it was exported with" in " ".join(refused.err.split())
    later = cli("eval", "--abstain-risk", "none")
    assert "these exported files have other rules: model.onnx; export the model again: cnnkit export --onnx" in " ".join(later.err.split())


def test_rules_and_tta_exclude_each_other(cli, trained):
    store_rules(trained.run, abstention=rule(0.5))
    refused = cli("eval", "--tta", "--abstain-risk", 0.1)
    assert (refused.code, "leave out --tta" in refused.err) == (2, True)
    several = cli("eval", "--tta", "--json")
    assert several.code == 0, several.err
    assert "were fitted without --tta" in several.err
    assert "abstention" not in several.json()


@pytest.mark.parametrize(("flag", "text"), [("--abstain-risk", "2"), ("--abstain-risk", "two"), ("--sets", "95"), ("--sets", "0")])
def test_a_value_that_is_not_a_share_is_an_error(cli, trained, flag, text):
    result = cli("eval", flag, text)
    assert result.code == 2
    assert f"{flag} {text}: must be a share between 0 and 1, such as 0." in result.err
    assert "or none, which removes the rule" in " ".join(result.err.split())


def test_a_model_file_without_a_run_has_no_val_images(cli, trained, tmp_path):
    alone = tmp_path / "lone.safetensors"
    alone.write_bytes((trained.run / "best.safetensors").read_bytes())
    result = cli("eval", "--model", alone, "--data", trained.data, "--abstain-risk", 0.5)
    assert result.code == 2
    assert "so its validation images are unknown; name the run: --model RUN" in " ".join(result.err.split())


def test_out_of_distribution_images_are_counted(cli, trained, read_rows, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(6):
        (tmp_path / "noise/deeper").mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(tmp_path / f"noise/deeper/{index}.png")
    (tmp_path / "noise/broken.png").write_bytes(b"no image")
    result = cli("eval", "--ood", tmp_path / "noise", "--json")
    ood = result.json()["ood"]
    assert (ood["n"], ood["stored_threshold"], len(ood["unreadable"])) == (6, False, 1)
    assert json.loads((trained.run / "eval/test/metrics.json").read_text())["ood"] == ood
    rows = read_rows(trained.run / "eval/test/ood.csv")
    assert len(rows) == 7
    answered = [row for row in rows if row["abstained"] == "false" and not row["error"]]
    assert len(answered) == round(ood["accepted"]["value"] * 6)
    store_rules(trained.run, abstention=rule(1.0))
    shown = cli("eval", "--ood", tmp_path / "noise")
    assert "the model accepts 0.0 % [0.0, 39.0] of 6 out-of-distribution images at the model's threshold" in " ".join(shown.out.split())
    assert "out-of-distribution images" in (trained.run / "eval/test/report.txt").read_text()
    cli("eval")
    assert not (trained.run / "eval/test/ood.csv").exists()


def test_images_of_the_run_are_left_out_of_the_out_of_distribution_images(cli, trained, tmp_path):
    shutil.copytree(trained.data / "ants", tmp_path / "odd")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(tmp_path / "odd/noise.png")
    result = cli("eval", "--ood", tmp_path / "odd", "--json")
    assert "--ood: 20 of 21 images are images of 001-custom-cnn; they are left out" in " ".join(result.err.split())
    ood = result.json()["ood"]
    assert (ood["n"], sum(ood["lookup"]["exact"].values()), ood["lookup"]["included"]) == (1, 20, False)
    assert json.loads((trained.run / "eval/test/metrics.json").read_text())["ood"] == ood
    assert cli("eval", "--ood", tmp_path / "odd", "--include-trained", "--json").json()["ood"]["n"] == 21


def test_a_folder_without_out_of_distribution_images_is_an_error(cli, trained, tmp_path):
    (tmp_path / "void").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/broken.png").write_bytes(b"no image")
    assert "does not exist" in cli("eval", "--ood", tmp_path / "gone").err
    assert "no images in this folder" in cli("eval", "--ood", tmp_path / "void").err
    assert "--ood: none of 1 images can be read" in cli("eval", "--ood", tmp_path / "bad").err


def test_a_drift_of_the_images_is_reported_with_its_figures(cli, trained, tmp_path):
    classifier = open_classifier(trained.run / "best.safetensors")
    assert isinstance(classifier, TorchClassifier)
    images = [read_image(path) for path in sorted(trained.data.rglob("*-*.jpg"))]
    known = take_fingerprint(appearance(classifier.canvases(images).numpy()), classifier.probabilities(images), split="val")
    store_rules(trained.run, fingerprint=known)
    same = cli("predict", trained.data, "--out", "same.csv")
    assert "look unlike" not in same.err
    assert json.loads(Path("same.drift.json").read_text())["alarm"] is False
    for index, path in enumerate(sorted(trained.data.rglob("*-*.jpg"))):
        Image.fromarray(read_image(path).mean(axis=2).astype(np.uint8) // 6).save(tmp_path / f"dark-{index:03d}.png")
    dark = cli("predict", *sorted(tmp_path.glob("dark-*.png")), "--out", "dark.csv")
    assert dark.code == 0
    said = " ".join(dark.err.split())
    assert "these 60 images look unlike the training images: " in said
    assert "(distance " in said
    document = json.loads(Path("dark.drift.json").read_text())
    assert document["alarm"] is True
    assert {shift["feature"] for shift in document["features"]} == {
        "brightness", "contrast", "sharpness", "saturation", "warmth", "confidence",
    }  # fmt: skip
    few = cli("predict", *sorted(tmp_path.glob("dark-*.png"))[:29], "--out", "few.csv")
    assert "look unlike" not in few.err
    assert not Path("few.drift.json").exists()
