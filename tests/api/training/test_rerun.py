from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.rerun import Difference, compare_repetition, rerun
from cnnkit.errors import DataError, ModelFileError
from cnnkit.files import fingerprint
from cnnkit.run_dir import RunDir
from cnnkit.run_dir.history import write_history


@pytest.fixture
def first(trained) -> RunDir:
    return RunDir(trained.run)


@pytest.fixture
def copy(first, tmp_path) -> RunDir:
    """Return a copy of the run whose files a test may change."""
    return RunDir(Path(shutil.copytree(first.path, tmp_path / "runs" / "002-custom-cnn")))


def test_a_repetition_is_bit_equal_and_stands_beside_the_first_run(first):
    job = rerun(first.path)
    assert list(job.epochs())
    assert job.run is not None
    assert job.run.path == Path("runs/002-custom-cnn")
    found = compare_repetition(first, job.run)
    assert (found.same_figures, found.same_model, found.differences, found.deterministic) == (True, True, (), False)
    assert found.verdict == f"the repetition has the same figures in all {found.epochs[0]} epochs, and the model files are bit-equal"
    one, other = first.read_record(), job.run.read_record()
    assert one.config.model_copy(update={"run": other.config.run}) == other.config
    assert (one.runtime, one.data, one.result) == (other.runtime, other.data, other.result)


def test_a_fine_tuning_is_repeated_with_the_fit_of_its_last_layer(trained, image_folder, small_config):
    data = image_folder(classes=["hornets", "ladybirds"], images=10, folder="other")
    job = prepare(small_config(data, weights=str(trained.run / "best.safetensors"), epochs=1, batch_size=8))
    list(job.epochs())
    assert job.run is not None
    again = rerun(job.run.path)
    assert [epoch.epoch for epoch in again.epochs()] == [0, 1]
    assert again.run is not None
    assert compare_repetition(job.run, again.run).same_model


def test_differences_beyond_rounding_are_named_by_epoch_and_figure(first, copy):
    rows = first.read_history()
    changed = rows[1].model_copy(update={"val_loss": rows[1].val_loss * 1.01, "train_loss": rows[1].train_loss * (1 + 1e-9)})
    write_history(copy.history, [rows[0], changed, *rows[2:]])
    found = compare_repetition(first, copy)
    assert found.differences == (Difference(2, "val_loss", rows[1].val_loss, changed.val_loss),)
    assert found.verdict == f"the figures differ in 1 of {len(rows)} epochs, and the model files are bit-equal"
    assert found.to_dict()["differences"] == [{"epoch": 2, "figure": "val_loss", "first": rows[1].val_loss, "again": changed.val_loss}]


def test_a_nan_equals_a_nan_and_a_shorter_run_is_named(first, copy):
    rows = first.read_history()
    for run, kept in ((first, rows), (copy, rows[:-1])):
        write_history(run.history, [kept[0].model_copy(update={"train_loss": math.nan}), *kept[1:]])
    write = first.read_record().model_copy
    copy.write_record(write(update={"result": first.read_record().result.model_copy(update={"best_epoch": 1})}))
    found = compare_repetition(first, copy)
    assert not found.same_figures
    assert found.verdict == (
        f"the repetition has {len(rows) - 1} epochs, the first run {len(rows)}; the figures of the common epochs are the same, and the "
        "model files are bit-equal"
    )


def test_another_model_file_is_told(first, copy):
    copy.best.write_bytes(copy.best.read_bytes() + b"\0")
    assert fingerprint(copy.best) != fingerprint(first.best)
    assert compare_repetition(first, copy).verdict.endswith("the model files differ")


def test_a_run_that_is_not_finished_or_has_other_images_is_refused(first, copy):
    copy.write_record(copy.read_record().model_copy(update={"status": "stopped"}))
    with pytest.raises(ModelFileError) as refused:
        rerun(copy.path)
    assert str(refused.value) == f"{copy.path}: this run is not finished; finish it before it is repeated: cnnkit resume {copy.path}"
    record = first.read_record()
    first.write_record(record.model_copy(update={"data": record.data.model_copy(update={"location": "/gone/images"})}))
    with pytest.raises(DataError, match=r"if the images have moved, name their folder: cnnkit rerun .* --data FOLDER"):
        rerun(first.path)


def test_ranks_that_repeat_the_run_of_one_process_say_so(copy, run_ranks):
    first, _ = run_ranks(2, lambda ranks: rerun(copy.path, ranks=ranks).notes)
    assert any(note.startswith("one process trained the run, and 2 ranks repeat it: dropout") for note in first)


def test_the_repetition_of_several_ranks_by_one_process_has_a_note(copy):
    assert not any("ranks" in note for note in rerun(copy.path).notes)
    copy.write_record(copy.read_record().model_copy(update={"ranks": 4}))
    assert any(note.startswith("4 ranks trained the run, and one process repeats it: dropout") for note in rerun(copy.path).notes)
