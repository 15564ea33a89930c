from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnkit.metrics.classification import classification_report
from cnnkit.metrics.counts import Counts
from cnnkit.report.pictures import confusion as confusion_plot
from cnnkit.report.pictures import fonts
from cnnkit.report.pictures.confusion import confusion_title, plot_confusion


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG" and image.width > 300


def cells(figure: Figure) -> np.ma.MaskedArray:
    return np.ma.asarray(figure.axes[0].images[0].get_array())


def labels(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def grouped(num_classes: int, group: int = 5) -> tuple[Counts, np.ndarray]:
    """Return a table in which the classes of a group are confused but not neighbours, and the group of each class."""
    random = np.random.default_rng(0)
    groups = random.permutation(np.arange(num_classes) // group)
    table = (groups[:, None] == groups) * 5 + np.eye(num_classes, dtype=np.int64) * 40
    table[random.integers(num_classes, size=num_classes), random.integers(num_classes, size=num_classes)] += 1
    return table, groups


def test_a_small_matrix_has_counts_and_names_of_axes(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.array([[7, 0], [2, 1234]]), ["ant", "bee"], tmp_path / "confusion.png")
    axes, bar = drawn[0].axes
    assert is_png(tmp_path / "confusion.png")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert bar.get_ylabel() == "share of the true class"
    assert {text.get_text(): text.get_position() for text in axes.texts} == {"7": (0, 0), "2": (0, 1), "1234": (1, 1)}
    assert labels(drawn[0]) == ["ant", "bee"]


@pytest.mark.parametrize(
    ("normalize", "written", "meaning"),
    [
        ("none", ["1", "3", "4"], "the true class"),
        ("true", ["25.0", "75.0", "100.0"], "the true class"),
        ("pred", ["20.0", "100.0", "80.0"], "the predicted class"),
        ("all", ["12.5", "37.5", "50.0"], "all images"),
    ],
)
def test_numbers_and_colours_are_shares_of_the_requested_whole(
    normalize: confusion_plot.Normalize, written: list[str], meaning: str, tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_confusion(np.array([[1, 3], [4, 0]]), ["ant", "bee"], tmp_path / "confusion.png", normalize)
    assert [text.get_text() for text in drawn[0].axes[0].texts] == written
    assert drawn[0].axes[1].get_ylabel() == f"share of {meaning}"
    shares = cells(drawn[0]).filled(0).ravel()
    expected = [0.25, 0.75, 1] if normalize == "none" else [float(cell) / 100 for cell in written]
    assert shares[shares > 0].tolist() == expected


def test_a_class_without_images_stays_white(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.array([[1, 3], [0, 0]]), ["ant", "bee"], tmp_path / "confusion.png")
    assert np.ma.getmaskarray(cells(drawn[0])).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("num_classes", [40, 100])
def test_many_classes_form_blocks_with_every_name(num_classes: int, tmp_path: Path, drawn: list[Figure]) -> None:
    table, groups = grouped(num_classes)
    plot_confusion(table, [str(i) for i in range(num_classes)], tmp_path / "confusion.png")
    order = [int(name) for name in labels(drawn[0])]
    assert sorted(order) == list(range(num_classes))
    assert (np.diff(groups[order]) != 0).sum() == num_classes // 5 - 1, "every group must be one block"
    shown = cells(drawn[0]).filled(0)
    np.testing.assert_allclose(shown, (table / table.sum(axis=1, keepdims=True))[np.ix_(order, order)])
    assert list(drawn[0].axes[0].texts) == []
    assert "confused classes are neighbours" in drawn[0].axes[0].get_ylabel()
    assert drawn[0].axes[1].get_ylabel() == "share of the true class"


def test_enlarged_parts_of_very_many_classes_have_names(tmp_path: Path, drawn: list[Figure]) -> None:
    table, _ = grouped(130)
    plot_confusion(table, [str(i) for i in range(130)], tmp_path / "confusion.png")
    assert len(labels(drawn[0])) == 65
    assert "one class in 2 has a label" in drawn[0].axes[0].get_xlabel()
    assert drawn[0].axes[0].get_title(loc="left") == "rows: true class; confused classes are neighbours"
    parts = drawn[0].axes[2:]
    assert [len(axes.get_yticklabels()) for axes in parts] == [15] * 6
    assert len(drawn[0].axes[0].patches) == 6, "the whole matrix must frame each part"
    assert is_png(tmp_path / "confusion.png")


@pytest.mark.parametrize("num_classes", [2, 10, 40])
def test_the_names_of_the_axes_are_inside_the_picture(num_classes: int, tmp_path: Path, drawn: list[Figure]) -> None:
    table, _ = grouped(num_classes)
    plot_confusion(table, [f"a long name of class {i}" for i in range(num_classes)], tmp_path / "confusion.png")
    left, bottom = drawn[0].axes[0].yaxis.label.get_window_extent().x0, drawn[0].axes[0].xaxis.label.get_window_extent().y0
    assert min(left, bottom) >= 0


@pytest.mark.parametrize("table", [np.zeros((40, 40), np.int64), np.eye(130, dtype=np.int64), np.eye(1, dtype=np.int64)])
def test_tables_without_a_mistake_can_be_drawn(table: Counts, tmp_path: Path) -> None:
    plot_confusion(table, [str(i) for i in range(len(table))], tmp_path / "confusion.png")
    assert is_png(tmp_path / "confusion.png")


def test_the_title_has_model_images_and_accuracy(tmp_path: Path, drawn: list[Figure]) -> None:
    probabilities = np.array([[0.9, 0.1]] * 30 + [[0.2, 0.8]] * 10)
    report = classification_report(np.repeat([0, 1], [31, 9]), probabilities, ["ant", "bee"], split="test")
    lines = confusion_title("001-custom-cnn", report, "4 views")
    assert lines == ["001-custom-cnn: 40 test images", "accuracy 97.5 % [87.1, 99.9], 95 % interval", "4 views"]
    plot_confusion(report.confusion, report.classes, tmp_path / "confusion.png", title=lines)
    assert drawn[0].get_suptitle() == "\n".join(lines)


@pytest.mark.parametrize("num_classes", [2, 40])
def test_a_long_title_stays_inside_and_is_no_formula(num_classes: int, tmp_path: Path, drawn: list[Figure]) -> None:
    name = "$x$ " + "with a name " * 40 + "\x1b end"
    plot_confusion(np.eye(num_classes, dtype=np.int64), [str(i) for i in range(num_classes)], tmp_path / "confusion.png", title=[name])
    shown = drawn[0].texts[-1]
    assert shown.get_text().startswith("$x$ with a name")
    assert shown.get_text().endswith(r"\x1b end")
    box = shown.get_window_extent()
    assert (box.x0 >= 0, box.x1 <= drawn[0].bbox.x1) == (True, True)


@pytest.mark.parametrize("names", [["ant", "bee"], ["ant" * 20, "bee" * 20]])
def test_a_matrix_keeps_its_size_beside_long_names(names: list[str], tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.eye(2, dtype=np.int64), names, tmp_path / "confusion.png", title=["model", "accuracy"])
    box = drawn[0].axes[0].get_window_extent()
    assert min(box.width, box.height) > 300, "pixels: numbers need room"


def test_any_name_can_be_drawn(tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "families", lambda: ("DejaVu Sans",))
    fonts._letters.cache_clear()
    names = ["猫", "$x$", r"$\frac$", "a\nb", "Жук", "\udcff", "long " * 20, "[red]"]
    plot_confusion(np.eye(8, dtype=np.int64), names, tmp_path / "confusion.png")
    fonts._letters.cache_clear()
    assert labels(drawn[0]) == ["class 0", r"\$x\$", r"\$\frac\$", "class 3", "Жук", "class 5", "long long l… long long ", "[red]"]
    assert is_png(tmp_path / "confusion.png")
