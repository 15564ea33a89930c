from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnkit
from cnnkit.api.evaluation.evaluate import evaluate
from cnnkit.api.evaluation.evaluated_units import units_of
from cnnkit.api.inference.samples import other_samples, run_samples
from cnnkit.api.inference.split_predictions import SplitPredictions
from cnnkit.data.store.scan import scan
from cnnkit.run_dir import RunDir


def predictions_of(samples, found=None) -> SplitPredictions:
    contents = [fact.sha256 for fact in found.facts] if found else ["same", "same", *map(str, range(len(samples.records) - 2))]
    probabilities = np.empty((len(samples.records), 3), np.float32)
    return SplitPredictions(samples.records, probabilities, contents, (), (), samples.records, found)


def test_images_of_a_run_have_the_units_of_its_split(trained) -> None:
    run = RunDir(trained.run)
    samples = run_samples(run, "test")
    recorded = {row["path"]: row["unit"] for row in run.read_split()}
    assert units_of(samples, predictions_of(samples)) == [recorded[record.path] for record in samples.records]


def test_a_run_of_an_older_version_counts_exact_copies_once(trained) -> None:
    run = RunDir(trained.run)
    rows = run.read_split()
    run.split_file.write_text(
        "\n".join(["path,label,split,sha256", *(",".join((r["path"], r["label"], r["split"], "0" * 64)) for r in rows)])
    )
    samples = run_samples(run, "test")
    assert set(units_of(samples, predictions_of(samples))) == {"0" * 64}


def test_copies_in_other_data_are_found(image_folder) -> None:
    root: Path = image_folder({"ants": 6, "bees": 6})
    with Image.open(root / "ants/ants-000.jpg") as image:
        image.resize((64, 64)).save(root / "ants/copy.png")
    (root / "bees/twin.jpg").write_bytes((root / "bees/bees-000.jpg").read_bytes())
    samples = other_samples(str(root), None, ["ants", "bees"])
    names = dict(
        zip(
            [r.path for r in samples.records],
            units_of(samples, predictions_of(samples, scan(samples.source, samples.records, None))),
            strict=True,
        )
    )
    assert names["ants/copy.png"] == names["ants/ants-000.jpg"]
    assert names["bees/twin.jpg"] == names["bees/bees-000.jpg"]
    assert len(set(names.values())) == 12
    by_content = units_of(samples, predictions_of(samples))  # no thumbnails, as for an exported file
    assert by_content[0] == by_content[1]


def test_an_evaluation_counts_the_units_of_its_run(trained) -> None:
    """All test images of a class become one unit: the interval is that of three images."""
    run = RunDir(trained.run)
    lines = run.split_file.read_text().splitlines()
    rows = [line.rsplit(",", 1)[0] for line in lines[1:]]
    run.split_file.write_text("\n".join([lines[0], *(f"{row},{row.split(',')[1]}" for row in rows)]))
    found = evaluate(trained.run)
    assert (found.report.n, found.report.units) == (9, 3)
    stored = json.loads((trained.run / "eval/test/metrics.json").read_text())
    assert (stored["units"], [row["units"] for row in stored["per_class"]]) == (3, [1, 1, 1])
    assert stored["accuracy"]["low"] < 0.5
    assert "9 images of 3 units" in (trained.run / "eval/test/report.txt").read_text()


def test_the_constant_baseline_is_of_the_training_images(trained) -> None:
    found = evaluate(trained.run).report
    assert found.majority_class == "ants"  # the first of three equal classes
    assert found.baselines[0].summary == "always predicting ants"
    assert found.majority_baseline == pytest.approx(1 / 3)


def test_a_model_file_without_a_run_has_no_constant_baseline(trained, tmp_path, image_folder) -> None:
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes((trained.run / "best.safetensors").read_bytes())
    report = cnnkit.evaluate(lone, data=str(image_folder(images=3))).report
    assert (report.majority_class, report.majority_baseline, report.baselines) == (None, None, ())
