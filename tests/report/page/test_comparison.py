from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnkit.report.page.comparison import MAX_SHOWN, ComparedRun, ComparisonPage, changed_paths, comparison_html

EVIL = "<script>alert(1)</script>"


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def change(path: str, kind: str) -> dict[str, Any]:
    predictions = {"first_predicted": "ant", "first_probability": 0.6, "second_predicted": "bee", "second_probability": 0.7}
    return {"path": path, "true": "bee", "change": kind, **predictions}


RESULT: dict[str, Any] = {
    "split": "test",
    "data": "my images",
    "n": 1200,
    "runs": [
        {"name": name, "accuracy": estimate(share), "macro_f1": estimate(share), "loss": estimate(0.4)}
        for name, share in (("a", 0.8), ("b", 0.9))
    ],
    "pairs": [
        {
            "first": "a",
            "second": "b",
            "verdict": "b is better than a: +10.0 points",
            "p_corrected": 0.0012,
            "both_right": 900,
            "fixed": 30,
            "broken": 1,
            "both_wrong": 269,
            "accuracy": estimate(0.1),
            "macro_f1": estimate(0.1),
            "loss": estimate(-0.1),
            "per_class": [
                {"class": "bee", "clear": True, "fixed": 9, "broken": 0, "recall": estimate(0.2)},
                {"class": "ant", "clear": False, "fixed": 1, "broken": 1, "recall": estimate(0.0)},
            ],
            "changes": [*(change(f"f{row}", "fixed") for row in range(30)), change("x", "broken")],
        }
    ],
    "notes": ["a note"],
}


@pytest.fixture
def page(run_page) -> ComparisonPage:
    run = run_page()
    pictures = {path: np.zeros((8, 8, 3), np.uint8) for path in changed_paths(RESULT)}
    return ComparisonPage(RESULT, [ComparedRun(name, run.record, run.history) for name in "ab"], pictures, ("another note",))


def test_the_page_has_scores_verdict_changes_and_curves(page, parsed):
    read = parsed(comparison_html(page))
    assert {"2 models compared", "On the same 1,200 test images of my images", "a note", "another note"} <= set(read.texts)
    assert {"80.0 %", "90.0 %", "+10.0 points", "-0.100", "b is better than a: +10.0 points"} <= set(read.texts)
    assert f"b is right, a is wrong: {MAX_SHOWN} of 30 images shown" in read.texts
    assert "a is right, b is wrong: 1 image" in read.texts
    assert read.tags.count("img") == MAX_SHOWN + 1
    described = re.findall('aria-label="(.*?)"', comparison_html(page))
    assert {"val loss by epoch", "val accuracy by epoch"} <= {label.partition(".")[0] for label in described}


def test_only_classes_that_differ_clearly_are_named(page, parsed):
    texts = parsed(comparison_html(replace(page, runs=(), pictures={}))).texts
    assert "+20.0 points" in texts
    assert "ant" not in texts
    assert "How to repeat it" not in texts


def test_the_page_is_self_contained_and_escaped(page, parsed):
    evil = {**RESULT, "data": EVIL, "pairs": [{**RESULT["pairs"][0], "verdict": EVIL, "changes": [change(EVIL, "fixed")]}]}
    source = comparison_html(replace(page, result=evil, pictures={EVIL: np.zeros((8, 8, 3), np.uint8)}))
    assert "<script" not in source
    assert "script-src 'none'" in source
    assert all(address.startswith(("data:image/", "#")) for address in parsed(source).addresses)
