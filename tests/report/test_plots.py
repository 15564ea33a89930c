from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnkit.errors import DataError
from cnnkit.report import fonts, plots
from cnnkit.report.plots import plot_confusion, plot_curves

ROW = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.2, "val_accuracy": 0.4, "is_best": True}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while the test runs."""
    figures: list[Figure] = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG" and image.width > 300


def labels(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_small_matrix_carries_its_counts_and_names_its_axes(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.array([[7, 0], [2, 1234]]), ["ant", "bee"], tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    assert is_png(tmp_path / "confusion.png")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert {text.get_text(): text.get_position() for text in axes.texts} == {"7": (0, 0), "2": (0, 1), "1234": (1, 1)}
    assert labels(drawn[0]) == ["ant", "bee"]


def test_colour_is_the_share_of_the_row(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.array([[1, 3], [0, 0]]), ["ant", "bee"], tmp_path / "confusion.png")
    np.testing.assert_array_equal(drawn[0].axes[0].images[0].get_array(), [[0.25, 0.75], [0, 0]])


@pytest.mark.parametrize(("count", "named"), [(1, 1), (60, 60), (100, 50), (300, 60)])
def test_many_classes_thin_the_labels_out(count: int, named: int, tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.eye(count, dtype=np.int64), [f"class_{i}" for i in range(count)], tmp_path / "confusion.png")
    assert len(labels(drawn[0])) == named
    assert len(drawn[0].axes[0].texts) == (1 if count == 1 else 0)
    assert ("is named" in drawn[0].axes[0].get_ylabel()) == (named < count)


def test_any_name_can_be_drawn(tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "families", lambda: ("DejaVu Sans",))
    fonts._letters.cache_clear()
    names = ["猫", "$x$", r"$\frac$", "a\nb", "Жук", "\udcff", "long " * 20, "[red]"]
    plot_confusion(np.eye(8, dtype=np.int64), names, tmp_path / "confusion.png")
    fonts._letters.cache_clear()
    assert labels(drawn[0]) == ["class 0", r"\$x\$", r"\$\frac\$", "class 3", "Жук", "class 5", "long long l… long long ", "[red]"]
    assert is_png(tmp_path / "confusion.png")


def test_curves_show_both_splits_and_the_best_epoch(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [ROW | {"epoch": epoch, "val_loss": 1 / epoch, "is_best": epoch < 3} for epoch in (1, 2, 3)]
    plot_curves(history, tmp_path / "curves.png")
    loss, accuracy = drawn[0].axes
    assert is_png(tmp_path / "curves.png")
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy")
    for axes in (loss, accuracy):
        assert [line.get_label() for line in axes.lines] == ["train", "val", "best: epoch 2"]
    np.testing.assert_allclose(np.asarray(loss.lines[1].get_ydata(), dtype=float), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(np.asarray(accuracy.lines[0].get_ydata(), dtype=float), [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        SimpleNamespace(**ROW),
        {name: str(value) for name, value in ROW.items()},
        ROW | {"val_loss": None, "val_accuracy": ""},
        ROW | {"train_loss": float("nan"), "val_loss": float("inf"), "is_best": False},
    ],
)
def test_one_epoch_of_any_kind_is_drawn(row: Any, tmp_path: Path, drawn: list[Figure]) -> None:
    plot_curves([row], tmp_path / "curves.png")
    assert is_png(tmp_path / "curves.png")
    assert drawn[0].axes[1].get_ylim()[0] == 0.0
    assert drawn[0].axes[0].lines[0].get_marker() == "o", "a lone point has no line to be seen by"


def test_text_false_is_not_best(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_curves([ROW | {"is_best": "False"}], tmp_path / "curves.png")
    assert len(drawn[0].axes[0].lines) == 2


def test_no_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no epoch to plot in .*curves\.png"):
        plot_curves([], tmp_path / "curves.png")


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(plots.FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_curves([ROW], path)
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    assert path.read_bytes() == b"old"


def test_pictures_need_no_pyplot_and_tables_no_matplotlib() -> None:
    code = (
        "import sys, cnnkit.report.tables, cnnkit.report.confusion; before = 'matplotlib' in sys.modules;"
        "import cnnkit.report.plots; print(before, {'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False set()"
