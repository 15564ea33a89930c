from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnkit.api.pages.comparison import report_comparison
from cnnkit.errors import ConfigError, DataError
from cnnkit.model.file import read_header, rewrite_header


@pytest.fixture
def two(trained) -> tuple[Path, Path]:
    """Return two runs on the same images; the second is a copy of the first with a temperature of 2."""
    other = trained.run.with_name("002-custom-cnn")
    shutil.copytree(trained.run, other)
    header = read_header(other / "best.safetensors")
    rewrite_header(other / "best.safetensors", header.model_copy(update={"temperature": 2.0}))
    return trained.run, other


def test_the_page_agrees_with_the_returned_facts(two):
    found = report_comparison(two)
    source = (two[0] / "comparison.html").read_text("utf-8")
    assert (found.path, found.names, found.split) == (two[0] / "comparison.html", ("001-custom-cnn", "002-custom-cnn"), "test")
    assert (found.pictures, found.bytes) == (source.count("<img "), len(source.encode()))
    assert [note.partition(":")[0] for note in found.notes] == ["001-custom-cnn", "002-custom-cnn"]  # both were evaluated for it
    for text in ("2 models compared", "002-custom-cnn against 001-custom-cnn", "val loss by epoch"):
        assert text in source
    document = found.to_dict()
    assert (document["report"], document["runs"], document["pictures"]) == (str(found.path), list(found.names), found.pictures)
    again = report_comparison(two, out="deep/page.html")
    assert (again.path, again.notes) == (Path("deep/page.html"), ())


def test_changed_images_are_shown_as_the_first_run_sees_them(two, read_rows):
    assert report_comparison(two).pictures == 0  # a temperature changes no prediction
    file = two[1] / "eval/test/predictions.csv"
    rows = read_rows(file)
    others = {"ants": "bees", "bees": "wasps", "wasps": "ants"}
    changed = [",".join((r["path"], r["true"], others[r["predicted"]], *list(r.values())[3:])) for r in rows]
    file.write_text("\n".join([",".join(rows[0]), *changed]) + "\n")
    found = report_comparison(two)
    assert 0 < found.pictures <= 11
    config = json.loads((two[0] / "config.json").read_text())
    config["data"]["location"] = "gone"
    (two[0] / "config.json").write_text(json.dumps(config))
    without = report_comparison(two)
    assert without.pictures == 0
    (note,) = without.notes
    assert note.startswith("without pictures: the images of")


def test_models_without_a_run_and_other_images_are_errors(two, answered_run):
    lone = shutil.copy(two[0] / "best.safetensors", "lone.safetensors")
    with pytest.raises(ConfigError, match=r"lone\.safetensors lies in no run directory, which a page needs; to compare without a page: "):
        report_comparison([two[0], lone])
    with pytest.raises(ConfigError, match="a comparison needs at least two runs"):
        report_comparison([two[0]])
    with pytest.raises(DataError, match="the runs have different test images"):
        report_comparison([two[0], answered_run("003-other", [True, False])])
    assert not (two[0] / "comparison.html").exists()
