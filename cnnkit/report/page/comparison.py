"""The page on several runs: their scores on the same images, their curves, and the images that one run fixes or breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cnnkit.report.page.curves import course, curves_of_runs
from cnnkit.report.page.facts import command_line, repeat_facts, timing_facts
from cnnkit.report.page.html import render
from cnnkit.report.page.metrics import NAMES, PLAIN, estimate, interval_text, score_text
from cnnkit.report.page.run import MAX_PIXEL_SIZE
from cnnkit.report.pictures.thumbnail import data_uri, webp

if TYPE_CHECKING:
    from cnnkit.run_dir import HistoryRow, RunRecord

MAX_SHOWN = 24  # images of each pair of runs that are fixed, and as many that are broken
MAX_LINES = 8  # runs in one chart, the number of styles of a line


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison: its name on the page, its record and its epochs."""

    name: str
    record: RunRecord
    history: Sequence[HistoryRow]


@dataclass(frozen=True, eq=False)
class ComparisonPage:
    """The contents of the page: compare.json as `result`, its runs in the same order, pictures by path, and notes."""

    result: Mapping[str, Any]
    runs: Sequence[ComparedRun]
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict[str, NDArray[np.uint8]])
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Changes:
    """The images on which only one of two runs is right: a title, the images that are `shown`, and their total number."""

    title: str
    shown: list[Mapping[str, Any]]
    total: int


def changed_paths(result: Mapping[str, Any]) -> list[str]:
    """Return the paths of the changed images, each once; the page shows those of which it has a picture."""
    return list(dict.fromkeys(change["path"] for pair in result["pairs"] for changes in _changes(pair) for change in changes.shown))


def comparison_html(page: ComparisonPage) -> str:
    """Return the page on a comparison."""
    result, runs = page.result, page.runs
    epochs = {run.name: course(run.history) for run in runs[:MAX_LINES]}
    keys = [key for key in NAMES if _is_estimate(result["runs"][0].get(key))]
    columns = [dict(repeat_facts(run.record, course(run.history)) + timing_facts(course(run.history))) for run in runs]
    facts = list(dict.fromkeys(name for column in columns for name in column))
    return render(
        "comparison.html",
        title=f"{len(result['runs'])} models compared",
        headline=f"On the same {result['n']:,} {result['split']} images of {result['data']}",
        notes=(*result["notes"], *page.notes),
        names=[run["name"] for run in result["runs"]],
        scores=[(NAMES[key], [_score(key, run[key]) for run in result["runs"]]) for key in keys],
        pairs=[_pair(pair) for pair in result["pairs"]],
        charts=curves_of_runs({name: rows for name, rows in epochs.items() if rows}),
        runs=[(run.name, command_line(run.record)) for run in runs],
        facts=[(name, [column.get(name, "") for column in columns]) for name in facts],
        thumbs={path: data_uri(webp(image), "webp") for path, image in page.pictures.items()},
        pixels={path for path, image in page.pictures.items() if max(image.shape[:2]) <= MAX_PIXEL_SIZE},
    )


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the page's section on two models."""
    differences = [(key, NAMES[key], pair[key]) for key in NAMES if _is_estimate(pair.get(key))]
    clear = sorted((one for one in pair.get("per_class", ()) if one["clear"]), key=lambda one: -abs(one["recall"]["value"]))
    return {
        "first": pair["first"],
        "second": pair["second"],
        "verdict": pair["verdict"],
        "counts": [
            ("both right", pair["both_right"]),
            (f"only {pair['second']} right", pair["fixed"]),
            (f"only {pair['first']} right", pair["broken"]),
            ("both wrong", pair["both_wrong"]),
        ],
        "differences": [(name, *_difference(key, score)) for key, name, score in differences],
        "p": f"{pair['p_corrected']:.2g}",
        "classes": [(one["class"], *_difference("recall", one["recall"]), one["fixed"], one["broken"]) for one in clear],
        "changes": _changes(pair),
    }


def _changes(pair: Mapping[str, Any]) -> list[Changes]:
    first, second = pair["first"], pair["second"]
    found = []
    for kind, title in (
        ("fixed", f"{second} is right, {first} is wrong"),
        ("broken", f"{first} is right, {second} is wrong"),
    ):
        rows = [change for change in pair["changes"] if change["change"] == kind]
        found.append(Changes(title, rows[:MAX_SHOWN], len(rows)))
    return found


def _is_estimate(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return True if a value of compare.json is a score with an interval."""
    return isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys()


def _score(key: str, score: Mapping[str, Any]) -> tuple[str, str]:
    """Return a score and its interval as text."""
    found = estimate(score["value"], score["low"], score["high"])
    return score_text(key, found), interval_text(key, found)


def _difference(key: str, score: Mapping[str, Any]) -> tuple[str, str]:
    """Return a difference with its sign, in points or in the unit of the score, and its interval."""
    value, interval = score["value"], _score(key, score)[1]
    if value is None:
        return "", interval
    return f"{value:+.3f}" if key in PLAIN else f"{100 * value:+.1f} points", interval
