from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cnnkit.metrics.comparison import Entrant, ModelPredictions, compare_pairs, score
from cnnkit.metrics.comparison_report import Comparison, Contender
from cnnkit.report.terminal.comparison import comparison_summary, final_sentence


def compared(
    *rights: list[bool], classes: tuple[str, ...] = ("ants", "bees"), paths: str = "images/{}.jpg", runs: str = "run-{}"
) -> Comparison:
    """Return a comparison of models that are right where `rights` is true; every second image has the second class."""
    n = len(rights[0])
    labels = np.arange(n) % 2
    entrants = []
    for number, right in enumerate(rights):
        predicted = np.where(right, labels, 1 - labels)
        entrants.append(Entrant(runs.format(number), str(number), ModelPredictions(predicted, np.full(n, 0.75), np.where(right, 0.2, 1.2))))
    contenders = tuple(Contender(each, score(labels, each.predictions, 2), "best.safetensors", evaluated=False) for each in entrants)
    pairs = compare_pairs(labels, classes, entrants)
    return Comparison("test", "images", classes, tuple(paths.format(row) for row in range(n)), labels, n, contenders, pairs, (), (), None)


def shown(comparison: Comparison, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, highlight=False).print(comparison_summary(comparison))
    return file.getvalue()


BASE, BETTER = [True] * 60 + [False] * 40, [True] * 95 + [False] * 5


def test_one_pair_has_models_difference_and_images() -> None:
    text = shown(compared(BASE, BETTER))
    assert "A   run-0" in text
    assert "B   run-1" in text
    assert "A → B   accuracy   +35.0 points" in text
    assert "verdict: run-1 is better than run-0: +35.0 points" in text
    assert "A → B: 35 fixed, 0 broken; both right on 60, both wrong on 5" in text
    assert text.count("\nfixed ") == 5
    assert "The largest changes of the loss; compare.csv has all images." in text


def test_classes_of_significantly_different_recall_are_listed() -> None:
    text = shown(compared(BASE, BETTER))
    assert "Classes of significantly different recall, in points (p < 0.05 after" in text
    (row,) = [line for line in text.splitlines() if line.split()[3:4] == ["ants"] and line.startswith("A → B")]
    assert row.split()[-2:] == ["18", "0"]
    assert "No class has a significantly different recall" in shown(compared(BASE, [*BASE[:-1], True]))


def test_a_long_list_of_classes_shows_the_smallest_p_values() -> None:
    models = [BASE, BETTER, BASE, BETTER, BASE, BETTER, BASE, BETTER]
    text = shown(compared(*models))
    clear = sum(each.is_clear for pair in compared(*models).pairs for each in pair.per_class)
    assert clear == 32
    assert "The 20 classes of smallest p; all 32 are in compare.json." in text
    assert sum(line.split()[3:4] in (["ants"], ["bees"]) for line in text.splitlines()) == 20


def test_the_images_of_many_pairs_are_only_in_the_file() -> None:
    text = shown(compared(BASE, BETTER, BASE[::-1], BETTER[::-1]))
    assert "The fixed and broken images of all 6 pairs are in compare.csv." in text
    assert "images/" not in text
    assert text.count("verdict:") == 6


def test_the_final_sentence_is_the_verdict_on_two_models_or_counts_the_pairs() -> None:
    assert final_sentence(compared(BASE, BASE)).startswith("run-1 and run-0 are identical on these 100 images")
    assert final_sentence(compared(BASE, BETTER, BASE[::-1])) == "3 pairs of models compared on the same 100 images"


def test_models_that_agree_have_no_table_of_images() -> None:
    text = shown(compared(BASE, BASE))
    assert "A → B: 0 fixed, 0 broken; both right on 60, both wrong on 40" in text
    assert "0.0 points" in text
    assert "image " not in text.partition("A → B: 0 fixed")[2]


@pytest.mark.parametrize("width", [80, 140])
def test_names_are_shown_without_markup_and_fit(width: int) -> None:
    text = shown(compared(BASE, BETTER, classes=("[red]ants", "a\nb"), runs="run-[bold]{}-" + 60 * "x", paths="[b]/{}.jpg"), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "[red]ants" in text
    assert "a\\nb" in text
    assert "[b]/60.jpg" in text
    assert "+35.0 points" in text


def test_more_models_than_letters_are_numbered() -> None:
    two = compared(BASE, BASE)
    many = tuple(replace(two.contenders[0], entrant=replace(two.contenders[0].entrant, name=f"run-{number}")) for number in range(27))
    assert "27   run-26" in shown(replace(two, contenders=many, pairs=()))


def test_everything_shown_is_strict_json(tmp_path: Path) -> None:
    from cnnkit.files import write_json

    write_json(tmp_path / "compare.json", compared(BASE, BASE, BETTER).to_dict())  # refuses NaN
    assert '"low": null' in (tmp_path / "compare.json").read_text()
