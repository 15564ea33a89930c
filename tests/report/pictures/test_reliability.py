from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import softmax

from cnnkit.metrics.temperature_effect import TemperatureEffect, temperature_effect
from cnnkit.report.pictures import reliability
from cnnkit.report.pictures.reliability import plot_reliability


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list of figures that the test saves."""
    saved: list[Figure] = []

    def canvas(figure: Figure) -> FigureCanvasAgg:
        saved.append(figure)
        return FigureCanvasAgg(figure)

    monkeypatch.setattr(reliability, "FigureCanvasAgg", canvas)
    return saved


def effect(n: int, temperature: float, spread: float = 3.0) -> TemperatureEffect:
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(0, spread, (n, 5)), axis=1)
    labels = (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=4)
    return temperature_effect(labels, probabilities, temperature)


def test_points_are_the_bins_before_and_after(tmp_path: Path, figures: list[Figure]) -> None:
    shown = effect(600, 1.8)
    plot_reliability(shown, tmp_path / "reliability.png")
    with Image.open(tmp_path / "reliability.png") as image:
        assert (image.format, image.width > image.height) == ("PNG", True)
    upper = figures[0].axes[:2]
    assert [axes.get_title().split("\n")[0] for axes in upper] == ["without temperature", "with temperature 1.80"]
    for axes, measured in zip(upper, (shown.before, shown.after), strict=True):
        assert f"ECE {100 * measured.ece.value:.1f} % [" in axes.get_title()
        points = next(line for line in axes.lines if np.size(line.get_xdata()) == 15)
        np.testing.assert_array_equal(points.get_xdata(), [part.confidence for part in measured.bins])
        np.testing.assert_array_equal(points.get_ydata(), [part.accuracy.value for part in measured.bins])
    (bars,) = figures[0].axes[3].containers
    assert isinstance(bars, BarContainer)
    assert np.array_equal(np.asarray(bars.datavalues), shown.after.histogram)


def test_points_of_a_confident_model_stand_apart_on_stretched_axes(tmp_path: Path, figures: list[Figure]) -> None:
    shown = effect(3000, 1.2, spread=20.0)
    assert np.median([part.confidence for part in shown.after.bins]) > 0.99
    plot_reliability(shown, tmp_path / "reliability.png")
    for axes, measured in zip(figures[0].axes[:2], (shown.before, shown.after), strict=True):
        points = next(line for line in axes.lines if np.size(line.get_xdata()) == len(measured.bins) > 2)
        np.testing.assert_array_equal(points.get_xdata(), [part.confidence for part in measured.bins])
        np.testing.assert_array_equal(points.get_ydata(), [part.accuracy.value for part in measured.bins])
        (width,) = {axes.get_window_extent().width}
        at = axes.transData.transform(np.column_stack([points.get_xdata(), points.get_ydata()]))[:, 0] - axes.get_window_extent().x0
        assert (at < 0.9 * width).sum() > 3, "on plain axes all but one or two points lie in the last tenth"
        low, high = axes.get_ylim()
        assert all(low < part.accuracy.low <= part.accuracy.high < high for part in measured.bins)
        diagonal = axes.transData.transform([(0.7, 0.7), (0.9, 0.9), (0.99, 0.99)])
        (one, other) = np.diff(diagonal, axis=0)
        assert one[1] / one[0] == pytest.approx(other[1] / other[0]), "the diagonal must stay straight"
    assert "stretched" in figures[0].axes[0].get_ylabel()
    (cumulative,) = figures[0].axes[3].lines
    assert np.ptp(np.asarray(cumulative.get_ydata())) == 1


@pytest.mark.parametrize("n", [1, 2, 40])
def test_a_model_without_temperature_has_one_panel_for_any_number_of_images(n: int, tmp_path: Path, figures: list[Figure]) -> None:
    plot_reliability(effect(n, 1.0), tmp_path / "reliability.png")
    assert len(figures[0].axes) == 2
    assert figures[0].axes[0].get_title().startswith("probabilities as given\nECE: too few images")
