from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnkit.report.pictures import search
from cnnkit.report.pictures.search import plot_history, plot_importances


@pytest.fixture
def figure(monkeypatch, tmp_path):
    """Return a function that draws and returns the figure, whose file is a PNG."""
    drawn: list[Figure] = []
    whole = search.save
    monkeypatch.setattr(search, "save", lambda figure, path: (drawn.append(figure), whole(figure, path)))

    def draw(plot, *arguments, **options):
        plot(*arguments, tmp_path / "x.png", **options)
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.format == "PNG"
        return drawn[-1]

    return draw


def test_the_history_shows_the_best_so_far_and_clips_pruned_trials(figure):
    points = [(1, 0.5, "complete"), (2, 9.0, "pruned"), (3, 0.7, "complete"), (4, 0.3, "complete")]
    (axes,) = figure(plot_history, points, metric="val_loss", maximize=False, title="$a$").axes
    complete, pruned, best = axes.lines
    assert list(complete.get_ydata()) == [0.5, 0.7, 0.3]
    assert list(best.get_ydata()) == [0.5, 0.5, 0.3]
    assert list(pruned.get_ydata()) == [axes.get_ylim()[1]]
    assert axes.get_ylim()[1] < 1


def test_accuracy_grows(figure):
    (axes,) = figure(plot_history, [(1, 0.5, "complete"), (2, 0.4, "complete")], metric="val_accuracy", maximize=True).axes
    assert list(axes.lines[-1].get_ydata()) == [0.5, 0.5]
    assert axes.get_ylabel() == "val_accuracy"


def test_importances_come_in_their_order(figure):
    (axes,) = figure(plot_importances, {"width": 0.2, "lr": 0.8}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr", "width"]
    assert [bar.get_width() for bar in axes.patches] == [0.8, 0.2]
