from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnkit.errors import DataError
from cnnkit.report.pictures import plots
from cnnkit.report.pictures.plots import plot_curves
from cnnkit.run_dir import HistoryRow


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG" and image.width > 300


def test_curves_show_both_splits_and_the_best_epoch(make_row: Callable[..., HistoryRow], tmp_path: Path, drawn: list[Figure]) -> None:
    history = [make_row(epoch=epoch, val_loss=1 / epoch, is_best=epoch < 3) for epoch in (1, 2, 3)]
    plot_curves(history, tmp_path / "curves.png")
    loss, accuracy = drawn[0].axes
    assert is_png(tmp_path / "curves.png")
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy")
    for axes in (loss, accuracy):
        assert [line.get_label() for line in axes.lines] == ["train", "val", "best: epoch 2"]
    np.testing.assert_allclose(np.asarray(loss.lines[1].get_ydata(), dtype=float), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(np.asarray(accuracy.lines[0].get_ydata(), dtype=float), [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"val_loss": None, "val_accuracy": None},
        {"train_loss": float("nan"), "val_loss": float("inf"), "is_best": False},
    ],
)
def test_one_epoch_of_any_kind_is_drawn(
    values: dict[str, Any], make_row: Callable[..., HistoryRow], tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_curves([make_row(**values)], tmp_path / "curves.png")
    assert is_png(tmp_path / "curves.png")
    assert drawn[0].axes[1].get_ylim()[0] == 0.0
    assert drawn[0].axes[0].lines[0].get_marker() == "o", "a single point needs a marker to be visible"


def test_the_line_of_val_connects_the_evaluated_epochs(make_row: Callable[..., HistoryRow], tmp_path: Path, drawn: list[Figure]) -> None:
    history = [make_row(epoch=epoch, val_loss=1 / epoch if epoch != 2 else None) for epoch in (1, 2, 3)]
    plot_curves(history, tmp_path / "curves.png")
    train, val = drawn[0].axes[0].lines[:2]
    assert list(np.asarray(train.get_xdata())) == [1, 2, 3]
    assert list(np.asarray(val.get_xdata())) == [1, 3]


def test_a_history_without_a_best_epoch_marks_none(make_row: Callable[..., HistoryRow], tmp_path: Path, drawn: list[Figure]) -> None:
    plot_curves([make_row(is_best=False)], tmp_path / "curves.png")
    assert len(drawn[0].axes[0].lines) == 2


def test_no_epoch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"curves\.png: no epoch to plot, because the training stopped before the end of its first epoch"):
        plot_curves([], tmp_path / "curves.png")


def test_a_failed_write_leaves_the_old_picture(
    make_row: Callable[..., HistoryRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(plots.FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_curves([make_row()], path)
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    assert path.read_bytes() == b"old"


def test_pictures_need_no_pyplot_and_tables_no_matplotlib() -> None:
    code = (
        "import sys, cnnkit.report.terminal.tables, cnnkit.report.terminal.confusion; before = 'matplotlib' in sys.modules;"
        "import cnnkit.report.pictures.plots; print(before, {'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False set()"
