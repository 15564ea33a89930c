from __future__ import annotations

import shutil

import numpy as np
import pytest

from cnnkit.api.evaluation import fit_rules
from cnnkit.api.evaluation.fit_rules import decide
from cnnkit.api.inference.split_predictions import SplitPredictions
from cnnkit.data.source import Record
from cnnkit.errors import CheckFailedError, ConfigError, DataError, ModelFileError
from cnnkit.metrics.abstention import Shortfall, find_threshold
from cnnkit.metrics.conformal import fit_label_sets
from cnnkit.model.file import load_model, read_header

CLASSES = ("ants", "bees", "wasps")


@pytest.fixture
def val(monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Give every model the predictions for 400 val images, 30 of them wrong; return their labels and probabilities."""
    random = np.random.default_rng(0)
    labels = np.arange(400) % 3
    probabilities = np.full((400, 3), 0.02)
    predicted = np.where(np.arange(400) < 30, (labels + 1) % 3, labels)
    probabilities[np.arange(400), predicted] = random.uniform(0.4, 0.7, 400) + 0.25 * (predicted == labels)
    probabilities = (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)
    records = [Record(f"{CLASSES[label]}/{number}.jpg", CLASSES[label]) for number, label in enumerate(labels)]

    def predict_split(classifier: object, samples: object, progress: object) -> SplitPredictions:
        assert samples.split == "val"  # pyright: ignore[reportAttributeAccessIssue]
        return SplitPredictions(records, probabilities, [record.path for record in records], (), ())

    monkeypatch.setattr(fit_rules, "predict_split", predict_split)
    monkeypatch.setattr(fit_rules, "units_of", lambda _, predictions: list(map(str, range(len(predictions.records)))))
    return labels, probabilities


def test_both_rules_are_fitted_on_val_and_the_rest_of_the_file_stays(trained, val):
    labels, probabilities = val
    file = trained.run / "best.safetensors"
    before, weights = read_header(file), load_model(file).module.state_dict()
    found = decide(trained.run, abstain_risk=0.05, sets=0.9)
    header = read_header(file)
    wrong = probabilities.argmax(1) != labels
    assert header.abstention == find_threshold(probabilities.max(1), wrong, 0.05, split="val")
    assert header.label_sets == fit_label_sets(labels, probabilities, 0.9, split="val")
    assert found.rules == header
    assert (found.target.path, found.outdated) == (file, ())
    assert header.model_copy(update={"abstention": None, "label_sets": None}) == before
    assert all((value == weights[name]).all() for name, value in load_model(file).module.state_dict().items())


def test_none_removes_a_rule_and_an_unnamed_rule_stays(trained, val, monkeypatch):
    decide(trained.run, abstain_risk=0.05, sets=0.9)
    monkeypatch.delattr(fit_rules, "predict_split")  # removing a rule needs no image
    assert decide(trained.run, abstain_risk="none").rules.abstention is None
    header = read_header(trained.run / "best.safetensors")
    assert (header.abstention, header.label_sets is None) == (None, False)
    decide(trained.run, sets="none")
    assert read_header(trained.run / "best.safetensors").label_sets is None


def test_an_impossible_risk_names_a_possible_one_and_changes_nothing(trained, val):
    labels, probabilities = val
    shortfall = find_threshold(probabilities.max(1), probabilities.argmax(1) != labels, 0.001, split="val")
    assert isinstance(shortfall, Shortfall)
    assert shortfall.best is not None
    before = (trained.run / "best.safetensors").read_bytes()
    with pytest.raises(CheckFailedError) as refused:
        decide(trained.run, abstain_risk=0.001, sets=0.9)
    message = str(refused.value)
    assert message.startswith(
        "--abstain-risk 0.001: 400 independent val images cannot guarantee, with 95 % confidence, at most 0.1 % wrong predictions; "
    )
    risk, coverage = shortfall.best.risk, shortfall.best.coverage
    assert f"is {100 * risk:.1f} %, with predictions for {100 * coverage:.0f} % of them: --abstain-risk {risk:g}; " in message
    assert message.endswith(f"about {shortfall.needed:,} similar val images would guarantee 0.1 %. The model file is unchanged")
    assert (trained.run / "best.safetensors").read_bytes() == before


def test_one_image_of_each_unit_takes_part(trained, val, monkeypatch):
    labels, probabilities = val
    monkeypatch.setattr(fit_rules, "units_of", lambda _, predictions: [str(row // 2) for row in range(len(predictions.records))])
    decide(trained.run, abstain_risk=0.1, sets=0.9)
    header = read_header(trained.run / "best.safetensors")
    assert header.abstention == find_threshold(probabilities[::2].max(1), (probabilities.argmax(1) != labels)[::2], 0.1, split="val")
    assert header.label_sets == fit_label_sets(labels[::2], probabilities[::2], 0.9, split="val")


def test_wrong_surest_predictions_need_a_better_model(trained, val, monkeypatch):
    labels, probabilities = val
    records = [Record("x.jpg", CLASSES[(label + 1) % 3]) for label in labels]
    monkeypatch.setattr(
        fit_rules, "predict_split", lambda *_: SplitPredictions(records, probabilities, [record.path for record in records], (), ())
    )
    with pytest.raises(CheckFailedError, match=r"they cannot guarantee even 50 %; more images would not help, .*train a better model"):
        decide(trained.run, abstain_risk=0.1)


def test_the_rules_are_fitted_on_the_val_images_of_the_run(trained):
    decide(trained.run, abstain_risk=0.6, sets=0.8)
    header = read_header(trained.run / "best.safetensors")
    assert header.abstention is not None
    assert header.label_sets is not None
    assert (header.abstention.n, header.label_sets.n, header.label_sets.split) == (9, 9, "val")


def test_exported_files_are_outdated_and_keep_their_rules(trained):
    for name in ("model.onnx", "parity.json", "model.other"):
        (trained.run / "export").mkdir(exist_ok=True)
        (trained.run / "export" / name).touch()
    found = decide(trained.run, sets="none")
    assert [path.name for path in found.outdated] == ["model.onnx", "model.other"]
    with pytest.raises(ModelFileError, match="an exported file keeps the rules it was exported with; set the rules in the original"):
        decide(trained.run / "export/model.onnx", sets=0.9)


def test_rules_need_readable_val_images(trained, tmp_path, monkeypatch):
    lone = shutil.copy(trained.run / "best.safetensors", tmp_path / "lone.safetensors")
    with pytest.raises(ConfigError, match=r"lone\.safetensors lies in no run directory, .*name the run: --model RUN"):
        decide(lone, sets=0.9)
    nothing = SplitPredictions([], np.empty((0, 3), np.float32), [], (("a.jpg", "truncated"),), ())
    monkeypatch.setattr(fit_rules, "predict_split", lambda *_: nothing)
    with pytest.raises(DataError, match=r"none of its val images can be read, such as a\.jpg: truncated"):
        decide(trained.run, sets=0.9)
