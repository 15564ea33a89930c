from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnkit.api.inference.samples import evaluated_split, other_samples, run_samples, run_source, spread
from cnnkit.data.source import Record
from cnnkit.errors import DataError
from cnnkit.run_dir import RunDir

CLASSES = ("ants", "bees", "wasps")


@pytest.fixture
def run(trained) -> RunDir:
    return RunDir(trained.run)


def point_at(run: RunDir, folder: Path | str) -> None:
    """Make `folder` the recorded location of the images of `run`."""
    file = run.path / "config.json"
    config = json.loads(file.read_text())
    config["data"]["location"] = str(folder)
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(("splits", "chosen"), [("train val test", "test"), ("train val", "val"), ("train", "val")])
def test_the_default_split_is_test_or_else_val(splits, chosen):
    assert evaluated_split([{"split": split} for split in splits.split()]) == chosen


def test_samples_of_a_run_have_scope_hashes_and_training_images(run, trained):
    rows = run.read_split()
    found = run_samples(run, None)
    assert (found.split, found.source.name) == ("test", str(trained.data))
    assert {record.path for record in found.records} == {row["path"] for row in rows if row["split"] == "test"}
    assert found.hashes == {row["path"]: row["sha256"] for row in rows if row["split"] == "test"}
    assert {record.path for record in found.trained} == {row["path"] for row in rows if row["split"] == "train"}
    assert len(found.scope) == 61  # with the unreadable image, as in the run's store
    assert run_samples(run, "val").split == "val"


def test_samples_of_a_run_may_be_restricted_to_classes(run):
    found = run_samples(run, "train", ["wasps", "ants"])
    assert {record.label for record in found.records} == {"ants", "wasps"}
    assert len(found.scope) == 61
    with pytest.raises(DataError, match=rf"--classes bee: no such class in {run.path}; did you mean 'bees'\? It has: ants, bees, wasps"):
        run_samples(run, None, ["bee"])


def test_a_class_without_images_in_the_split_is_an_error(run):
    rows = [row for row in run.split_file.read_text().splitlines() if not (row.startswith("bees/") and ",test," in row)]
    run.split_file.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"--classes bees: .* has no test images of these classes; leave out --classes for all classes"):
        run_samples(run, None, ["bees"])


def test_a_missing_split_is_an_error_that_lists_the_splits_of_the_run(run):
    run.split_file.write_text("\n".join(row for row in run.split_file.read_text().splitlines() if ",test," not in row))
    assert run_samples(run, None).split == "val"
    with pytest.raises(DataError, match=rf"--split test: {run.path} has no test images; it has train, val$"):
        run_samples(run, "test")


def test_missing_images_are_counted_with_one_example(run, trained, tmp_path):
    shutil.copytree(trained.data, tmp_path / "copy")
    point_at(run, tmp_path / "copy")
    gone = sorted(row["path"] for row in run.read_split() if row["split"] == "test")[:2]
    for path in gone:
        (tmp_path / "copy" / path).unlink()
    with pytest.raises(
        DataError, match=rf"2 of 9 test images are missing, such as {gone[0]}; restore them, or name other data with --data"
    ):
        run_samples(run, None)


def test_data_that_moved_are_an_error_that_names_the_data_flag(run):
    point_at(run, "gone")
    with pytest.raises(DataError, match=rf"the images of {run.path} are not at their recorded location .*; name their folder with --data"):
        run_source(run, run.read_record())


def test_other_data_are_used_whole_or_by_their_test_or_val_split(image_folder):
    plain = other_samples(str(image_folder(images=2)), None, CLASSES)
    assert (plain.split, len(plain.records), plain.hashes, plain.trained) == ("all", 6, {}, ())
    for split in ("train", "val"):
        divided = image_folder(images=2, folder=f"divided/{split}").parent
    assert other_samples(str(divided), None, CLASSES).split == "val"
    assert {record.split for record in other_samples(str(divided), "train", CLASSES).records} == {"train"}
    with pytest.raises(DataError, match=r"--split test: .*divided has no folder named test; it has train, val$"):
        other_samples(str(divided), "test", CLASSES)
    with pytest.raises(DataError, match="it has none: its class folders are evaluated as a whole"):
        other_samples(str(image_folder(images=2)), "test", CLASSES)


def test_unknown_classes_are_an_error_that_offers_the_common_classes(image_folder):
    data = str(image_folder(classes=["bees", "hornets", "wasps"], images=2))
    with pytest.raises(DataError) as refused:
        other_samples(data, None, CLASSES)
    assert str(refused.value) == (
        f"{data} has classes that the model does not have: hornets; the model has: ants, bees, wasps; "
        "both have: bees, wasps; to evaluate these classes alone, add --classes bees,wasps"
    )
    assert len(other_samples(data, None, CLASSES, ["bees", "wasps"]).records) == 4
    with pytest.raises(DataError, match="they share no class, so nothing can be measured"):
        other_samples(data, None, ("cats", "dogs"))


def test_a_message_names_at_most_ten_classes(image_folder):
    data = str(image_folder(classes=["ants", "bees"], images=1))
    many = [f"class {number}" for number in range(60)]
    with pytest.raises(DataError, match=r"the model has: class 0, .*, class 9 and 50 more; they share no class"):
        other_samples(data, None, many)


def test_records_are_evenly_spread_from_the_first_to_the_last():
    records = [Record(f"{number}.jpg", "ants") for number in range(10)]
    assert spread(records, 4) == [records[number] for number in (0, 3, 6, 9)]
    assert spread(records, 9) == [record for record in records if record.path != "5.jpg"]
    assert spread(records, 20) == records
    assert spread([], 4) == []


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_other_data_match_the_classes_of_a_model_in_any_unicode_form(image_folder):
    data = str(image_folder([NFD, "tea"], 2))
    for name in (NFC, NFD):  # a model of an old version may have the decomposed form
        found = other_samples(data, None, (name, "tea"), [NFC])
        assert {record.label for record in found.records} == {name}
        assert len(other_samples(data, None, (name, "tea")).records) == 4


def test_the_images_of_a_run_are_found_where_paths_have_another_unicode_form(run, image_folder):
    data = image_folder([NFD, "bees", "wasps"], 2)
    point_at(run, data)
    config = json.loads((run.path / "config.json").read_text())
    config["classes"] = [NFC, "bees", "wasps"]
    (run.path / "config.json").write_text(json.dumps(config))
    rows = ["path,label,split,sha256", f"{NFC}/{NFD}-000.jpg,{NFC},test,x", f"{NFC}/{NFC}-001.jpg,{NFC},train,y"]
    run.split_file.write_text("\n".join(rows), "utf-8")
    found = run_samples(run, None)
    assert [record.path for record in found.records] == [f"{NFD}/{NFD}-000.jpg"]
    assert found.hashes == {f"{NFD}/{NFD}-000.jpg": "x"}
    assert [record.path for record in found.trained] == [f"{NFD}/{NFD}-001.jpg"]
