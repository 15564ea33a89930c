from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnkit.metrics.growth import forecast
from cnnkit.report.pictures.learning_curve import by_gain, forecast_table, plot_forecast

SHARES = np.array([1 / 8, 1 / 4, 1 / 2, 1])


def outlook(names, support=500, added=200):
    errors = np.outer(SHARES**-0.4, np.linspace(0.02, 0.3, len(names)))
    counts = np.full(len(names), support)
    return forecast(np.outer(SHARES, np.full(len(names), 400.0)), (1 - errors) * counts, counts, names, added)


def shown(found, width=140):
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(forecast_table(found))
    return file.getvalue()


def test_the_table_has_a_row_per_class_by_gain_and_a_row_of_all_images():
    lines = shown(outlook(["ants", "[bold]bees", "wasps"])).splitlines()
    assert lines[0].split() == ["class", "images", "recall", "now", "%", "with", "+200", "%", "gain"]
    assert [line.split()[0] for line in lines[2:5]] == ["wasps", "[bold]bees", "ants"]
    assert lines[2].split()[1:3] == ["400", "70.0"]
    assert "[+" in lines[2]
    assert lines[2].rstrip().endswith("gains")
    assert any(line.startswith("all: accuracy") and "1,200" in line for line in lines)


def test_notes_explain_few_validation_images_and_a_large_add():
    text = shown(outlook(["ants", "bees"], support=20))
    assert ", few" in text
    assert "few: under 30 validation images." in text
    assert "Cannot tell beyond 4 times the images of a class: try a smaller --add." in shown(outlook(["ants", "bees"], added=2000))


def test_a_table_of_many_classes_shows_the_largest_gains():
    found = outlook([f"class {index}" for index in range(60)])
    text = shown(found)
    assert f"The 50 classes of largest gain; all {60} are in learning-curve.json." in text
    assert by_gain(found.per_class)[0].name in text
    assert by_gain(found.per_class)[-1].name not in text


@pytest.mark.parametrize("names", [["$ants$", "ミツバチ"], [f"class {index}" for index in range(40)]])
def test_the_picture_of_any_classes_is_a_png(names):
    plot_forecast(outlook(names), Path("x.png"), title="net on $images$")
    with Image.open("x.png") as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 1000
        assert len(set(np.asarray(picture.convert("RGB")).reshape(-1, 3)[::7].sum(axis=1).tolist())) > 20
