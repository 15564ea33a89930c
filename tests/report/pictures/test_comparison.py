from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnkit.metrics.comparison import Entrant, ModelPredictions, compare_pairs, score
from cnnkit.metrics.comparison_report import Comparison, Contender
from cnnkit.report.pictures import comparison as comparison_plot
from cnnkit.report.pictures.comparison import plot_differences


def compared(*counts_right: int, names: str = "run-{}") -> Comparison:
    labels = np.arange(100) % 2
    entrants = []
    for number, count in enumerate(counts_right):
        right = np.arange(100) < count
        entrants.append(
            Entrant(
                names.format(number),
                str(number),
                ModelPredictions(np.where(right, labels, 1 - labels), np.full(100, 0.75), np.where(right, 0.2, 1.2)),
            )
        )
    contenders = tuple(Contender(each, score(labels, each.predictions, 2), "best.safetensors", evaluated=False) for each in entrants)
    pairs = compare_pairs(labels, ("ants", "bees"), entrants)
    return Comparison("test", "images", ("ants", "bees"), tuple(map(str, range(100))), labels, 100, contenders, pairs, (), (), None)


def test_every_pair_has_its_differences_around_zero(tmp_path: Path, drawn: list[Figure]) -> None:
    comparison = compared(60, 95, 61)
    plot_differences(comparison, tmp_path / "compare.png")
    accuracy, macro_f1, loss = drawn[0].axes
    dots = [line for line in accuracy.lines if line.get_marker() == "o"]
    assert [float(np.asarray(dot.get_xdata())[0]) for dot in dots] == pytest.approx([35, 1, -34])
    assert [dot.get_markerfacecolor() for dot in dots] == [comparison_plot._BETTER, "white", comparison_plot._WORSE]
    first = comparison.pairs[0].accuracy
    spans = [np.asarray(line.get_xdata(), dtype=float) for line in accuracy.lines if line.get_marker() != "o"]
    np.testing.assert_allclose(spans[0], [100 * first.low, 100 * first.high])
    low, high = accuracy.get_xlim()
    assert low == -high
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["run-0 → run-1", "run-0 → run-2", "run-1 → run-2"]
    assert "better → " not in macro_f1.get_xlabel()
    assert loss.get_xlabel() == "nats: better ← 0 → worse"
    with Image.open(tmp_path / "compare.png") as image:
        assert image.format == "PNG"


def test_equal_models_and_unusual_names_can_be_drawn(tmp_path: Path) -> None:
    plot_differences(compared(60, 60, names="猫 $x$ {}" + 50 * "y"), tmp_path / "equal.png")
    assert (tmp_path / "equal.png").is_file()


def test_the_picture_grows_with_the_number_of_pairs(tmp_path: Path) -> None:
    heights = []
    for count in (2, 8):
        plot_differences(compared(*range(60, 60 + count)), tmp_path / "compare.png")
        with Image.open(tmp_path / "compare.png") as image:
            heights.append(image.height)
    assert heights[1] > heights[0] + 27 * 30
