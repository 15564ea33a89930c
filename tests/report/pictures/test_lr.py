from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnkit.errors import DataError
from cnnkit.report.pictures.lr import plot_range_test

RATES = list(np.geomspace(1e-6, 1, 60))
LOSSES = list(np.interp(np.arange(60), [0, 20, 50, 59], [2.0, 2.0, 0.5, 4000.0]))


def test_curve_suggestion_and_divergence_are_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    path = tmp_path / "lr.png"
    plot_range_test(RATES, LOSSES, LOSSES, path, suggestion=3e-3, diverged_at=1.0, title="custom-cnn on $x$ \n猫")
    axes = drawn[0].axes[0]
    assert [line.get_label() for line in axes.lines] == ["loss of the batch", "smoothed", "suggestion: 0.003", "diverged at 1"]
    np.testing.assert_allclose(np.asarray(axes.lines[1].get_xdata(), dtype=float), RATES)
    assert list(np.asarray(axes.lines[2].get_xdata())) == [3e-3, 3e-3]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "learning rate", "loss (nats)")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 300


def test_divergence_does_not_flatten_the_curve(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_range_test(RATES, LOSSES, LOSSES, tmp_path / "lr.png")
    low, high = drawn[0].axes[0].get_ylim()
    assert 0 <= low < 0.5
    assert 2.0 < high < 3.0
    assert len(drawn[0].axes[0].lines) == 2


def test_one_update_and_a_loss_of_zero_can_be_drawn(tmp_path: Path) -> None:
    plot_range_test([1e-6], [1.0], [1.0], tmp_path / "one.png")
    plot_range_test([1e-6, 1e-5], [0.0, 0.0], [0.0, 0.0], tmp_path / "zero.png")
    assert (tmp_path / "zero.png").is_file()


def test_no_update_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lr\.png: no update to plot, because the first loss was not finite; check"):
        plot_range_test([], [], [], tmp_path / "lr.png")
