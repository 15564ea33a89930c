from __future__ import annotations

import pytest

from cnnkit.metrics.proportion import wilson
from cnnkit.report.page.curves import course, curves, curves_of_runs
from cnnkit.report.page.facts import (
    about,
    command_line,
    duration,
    limits,
    model_facts,
    repeat_facts,
    settings_rows,
    started_by_command,
    timing_facts,
)
from cnnkit.report.page.metrics import ClassRow


def test_the_command_can_be_pasted_and_has_no_path_of_the_program(run_page):
    record = run_page().record
    assert command_line(record) == "cnnkit train --data 'my images'"
    assert started_by_command(record)
    assert not started_by_command(record.model_copy(update={"command": ("/home/me/my_training.py",)}))
    assert command_line(record.model_copy(update={"command": ()})) == ""


def test_the_line_below_the_headline_names_architecture_and_data(run_page):
    record = run_page().record
    moved = record.data.model_copy(update={"name": "/somewhere/birds"})
    assert about(record) == "fast-cnn, trained on 900 images of my images"
    assert about(record.model_copy(update={"data": moved})) == "fast-cnn, trained on 900 images of birds"


def test_the_facts_of_a_repetition_come_from_the_record(run_page):
    page = run_page()
    facts = dict(repeat_facts(page.record, course(page.history)))
    assert facts["epochs"] == "12, kept epoch 10"
    assert facts["device"] == "cpu, fp32, channels last, 2 replicas"
    assert facts["fingerprint of the data"] == f"SHA-256 {'cd' * 32}"
    assert facts["images"] == "900 train, 90 val, 300 test"
    model = dict(model_facts(page.record, page.model))
    assert model["parameters"] == "301,234"
    assert model["input"] == "RGB, 32 × 32 px by crop, bilinear"
    augment = dict(dict(settings_rows(page.record))["augment"])
    assert (augment["zoom"], augment["flip"]) == ("0.9 / 1.1", "not set")


def test_the_time_and_speed_of_the_training(run_page):
    facts = dict(timing_facts(course(run_page().history)))
    assert facts == {"training": "30.0 s in 12 epochs", "time per epoch": "2.5 s", "speed": "360 images/s"}
    assert timing_facts([]) == []


@pytest.mark.parametrize(("seconds", "expected"), [(4.25, "4.2 s"), (185, "3 min 5 s"), (4800, "1 h 20 min")])
def test_a_duration_has_its_largest_units(seconds, expected):
    assert duration(seconds) == expected


def test_limits_are_sentences(run_page, make_metrics):
    known = make_metrics().model_dump(by_alias=True)["baselines"][0]
    beaten = known | {"summary": "colours alone", "beaten": True}
    baseline = known | {"summary": "always predicting ant", "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}, "beaten": False}
    unreadable = [{"path": "broken.jpg", "error": "truncated"}]
    metrics = make_metrics(split="val", opened=3, unreadable=unreadable, baselines=[beaten, baseline])
    rows = [
        ClassRow(0, "ant", 0, "-", "-", "-", wilson(0, 0), few=True, missed=0, false_alarms=0),
        ClassRow(1, "bee", 40, "-", "0.0", "-", wilson(0, 40), few=False, missed=40, false_alarms=0),
    ]
    assert limits(run_page().record, metrics, rows, ["tiny: 2 images"]) == [
        "The model is not clearly better than always predicting ant, which is right for 50.0 %.",
        "Classes with fewer than 30 val images, whose scores are uncertain: ant.",
        "Classes without a val image: ant.",
        "Classes that the model never predicts: bee.",
        "The metrics are measured on val, which also chose the epoch, so they are a little too good.",
        "Test has been opened 3 times. If its results led to a choice, its metrics are too good.",
        "1 unreadable image was left out, such as broken.jpg.",
        "tiny: 2 images",
        "3 test images have a copy in train",
    ]
    assert limits(run_page().record.model_copy(update={"notes": ()}), None, [], []) == []
    assert limits(run_page().record, None, [], ["leak: 2 copies"]) == ["leak: 2 copies"]  # the note on the copies would repeat the finding


def test_only_the_kept_epoch_is_marked(run_page):
    epochs = course(run_page().history)
    assert [epoch.epoch for epoch in epochs if epoch.best] == [10]
    loss, accuracy = curves(epochs)
    assert loss.mark
    assert loss.mark[1] == "kept: epoch 10"
    assert [stroke.name for stroke in accuracy.strokes] == ["train", "val"]
    assert loss.description.startswith("train 1.867 to 0.400; val ")


def test_several_runs_share_a_chart(run_page):
    epochs = course(run_page().history)
    charts = curves_of_runs({"a": epochs, "b": epochs[:5]})
    assert [chart.title for chart in charts] == ["val loss by epoch", "val accuracy by epoch"]
    assert [stroke.name for stroke in charts[0].strokes] == ["a", "b"]


def test_the_line_of_val_joins_the_evaluated_epochs(run_page):
    history = run_page().history
    loss, _ = curves(course([row.model_copy(update={"val_loss": None} if index % 2 else {}) for index, row in enumerate(history)]))
    train, val = loss.strokes
    assert (len(train.dots), len(val.dots)) == (len(history), (len(history) + 1) // 2)
    assert val.path.count("M") == 1


def test_a_quantity_without_a_value_has_no_line(run_page):
    rows = [row.model_copy(update={"val_loss": None}) for row in run_page().history]
    loss, _ = curves(course(rows))
    assert [stroke.name for stroke in loss.strokes] == ["train"]
