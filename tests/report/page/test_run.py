from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from cnnkit.doctor.finding import Finding, Health, Severity
from cnnkit.report.page import run as pages
from cnnkit.report.page.html import add_content_policy
from cnnkit.report.page.run import run_html

EVIL = "<script>alert('x')</script>\"&\udcff\x1b"
ESCAPED = r"<script>alert('x')</script>\"&\udcff\x1b".replace(r"\"", '"')


def test_the_page_is_self_contained_and_its_policy_allows_nothing_else(run_page, parsed):
    source = run_html(run_page())
    page = parsed(source)
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    text = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", source)
    assert re.search(r"https?:|[\"'(]//|@import|url\(| style=", text) is None
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', source)
    assert policy
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    for tag in ("style", "script"):
        for text in re.findall(f"<{tag}>(.*?)</{tag}>", source, re.DOTALL):
            assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy[1]
    assert source.index("Content-Security-Policy") < source.index("<style>")


def test_a_page_without_script_allows_none():
    assert "script-src 'none'" in add_content_policy('<meta charset="utf-8"><style>a{}</style>')


def test_everything_from_the_data_is_escaped(run_page, parsed):
    page = run_page([EVIL, "dog"])
    finding = Finding("unreadable", Severity.ERROR, ((EVIL,),), EVIL)
    record = page.record.model_copy(update={"notes": (f"copy {EVIL}",), "command": ("cnnkit", "train", "--data", EVIL)})
    shown = replace(page, name=EVIL, notes=(EVIL,), record=record, health=Health(9, {EVIL: 9}, (finding,), ()))
    source = run_html(shown)
    source.encode("utf-8")
    assert source.count("<script>") == 1  # the page's own script
    read = parsed(source)
    assert sum(ESCAPED in text for text in read.texts) > 10
    assert {tag for tag in read.tags if tag in {"script", "iframe", "object", "link"}} == {"script"}


def test_cells_are_buttons_with_a_label(run_page):
    page = run_page()
    source = run_html(page)
    count = sum(prediction.true == 0 and prediction.predicted == 1 for prediction in page.predictions)
    label = f'aria-label="true cat, predicted dog: {count} image{"s" * (count != 1)}"'
    assert re.search(rf'<button type="button" [^>]*data-true="0" data-predicted="1" [^>]*{label}', source)
    assert 'aria-pressed="true"' not in source
    hidden = re.findall(r'<li data-true="(\d)" data-predicted="(\d)" hidden>', source)
    assert len(hidden) == len(page.choice.gallery), "the page opens with the worst mistakes"


def mistakes_of(part: str) -> int:
    return len(re.findall(r"<p>true \w+, predicted \w+, ", part))


def test_the_first_screen_has_the_matrix_and_the_worst_mistakes_and_scores_are_folded(run_page):
    page = run_page()
    source = run_html(page)
    first, _, others = source.partition('<h2 id="result">')
    assert first.index('class="headline"') < first.index('id="matrix"') < first.index('id="looks"')
    unfolded, _, folded = first.partition('<details class="print">')
    assert (mistakes_of(unfolded), mistakes_of(folded)) == (pages.FIRST_PICTURES, len(page.choice.worst) - pages.FIRST_PICTURES)
    worst = page.choice.worst[0]
    assert f"true {page.classes[worst.true]}, predicted {page.classes[worst.predicted]}" in unfolded
    assert "scores with their 95 % intervals</summary>" in others.partition("<h3>Limits</h3>")[0]
    assert "fast-cnn, trained on 900 images of my images" in first


def test_least_confident_predictions_fill_the_rest_of_the_first_screen(run_page):
    page = run_page()
    worst = page.choice.worst[:2]
    kept = replace(page.choice, worst=worst)
    first, _, others = run_html(replace(page, choice=kept)).partition('<h2 id="result">')
    assert first.count('<div class="two">') == pages.FIRST_PICTURES
    filled = [one for one in page.choice.unsure if one not in worst][: pages.FIRST_PICTURES - 2]
    assert all(f"{one.path}</span>" in first for one in filled)
    listed = others.partition('<h2 id="unsure">')[2].partition("</section>")[0]
    assert listed.count('<div class="two">') == len(page.choice.unsure) - len(filled)
    assert "More of the least confident predictions" in others


def test_without_a_mistake_the_least_confident_predictions_come_first(run_page, parsed):
    page = run_page()
    right = [replace(one, predicted=one.true) for one in page.predictions]
    chosen = replace(page.choice, worst=(), gallery=(), unsure=tuple(replace(one, predicted=one.true) for one in page.choice.unsure))
    texts = parsed(run_html(replace(page, predictions=right, choice=chosen))).texts
    assert "Worst mistakes" not in texts
    assert texts.count("Least confident predictions") == 2  # in the navigation and as a heading
    assert any(text.startswith("0 mistakes.") for text in texts)
    assert texts[::-1].index("Least confident predictions") > texts[::-1].index("Limits"), "they must come before the scores"


@pytest.mark.parametrize(("count", "size"), [(2, "roomy"), (10, "plain-cells"), (30, "dense")])
def test_the_cells_of_the_matrix_have_a_size_by_the_number_of_classes(run_page, count, size):
    assert f'<div class="first {size}">' in run_html(run_page([f"class {index}" for index in range(count)]))


def test_the_page_has_a_structure_for_screen_readers(run_page, parsed):
    source = run_html(run_page())
    tags = parsed(source).tags
    assert [tags.count(tag) for tag in ("h1", "main", "header", "footer", "nav")] == [1] * 5
    assert '<html lang="en">' in source
    links = re.findall(r'<li><a href="#(.*?)">', source)
    assert links == re.findall(r'<h2 id="(.*?)"', source)
    assert all('alt="' in image for image in re.findall(r"<img [^>]*>", source))
    assert all("aria-label=" in svg or 'aria-hidden="true"' in svg for svg in re.findall(r"<svg [^>]*>", source))


def test_unknown_parts_are_left_out(run_page, parsed):
    page = run_page()
    bare = replace(
        page, metrics=None, predictions=(), choice=type(page.choice)(), pictures={}, heat={}, health=None, history=(), notes=("gone",)
    )
    texts = parsed(run_html(bare)).texts
    assert {"gone", "history.csv has no epoch.", "How to repeat it"} <= set(texts)
    assert not {"Scores", "Confusions", "Worst mistakes", "Least confident predictions", "Findings of the doctor"} & set(texts)


def test_without_pictures_the_page_keeps_its_figures(run_page, parsed):
    texts = parsed(run_html(replace(run_page(), pictures={}, heat={}))).texts
    assert "Confusions" in texts
    assert not any(text.startswith("Press a cell") for text in texts)


def test_many_classes_have_pairs_and_a_picture_instead_of_a_matrix(run_page, parsed):
    page = run_page([f"class {index}" for index in range(1000)], images=3000)
    source = run_html(replace(page, confusion_png=b"png"))
    read = parsed(source)
    assert 'id="matrix"' not in source
    assert "The 100 most frequent mistakes" in read.texts
    assert "All 1000 classes" in read.texts
    assert "data:image/png;base64," + base64.b64encode(b"png").decode() in read.addresses
    assert len(source) < 5_000_000


def test_the_pictures_fit_into_the_size_of_the_page(run_page, monkeypatch):
    random = np.random.default_rng(0)
    page = run_page(images=2000)
    noise = {path: random.integers(0, 256, (64, 64, 3)).astype(np.uint8) for path in page.pictures}
    monkeypatch.setattr(pages, "MAX_BYTES", 1_000_000)
    source = run_html(replace(page, pictures=noise))
    assert 700_000 < len(source) < 1_000_000
    shown = source.partition('id="gallery"')[2].count("<li data-true=")
    assert 0 < shown < len(page.choice.gallery), "the page must leave out pictures of the gallery"


@pytest.mark.parametrize(("risk", "expected"), [(True, True), (False, False)])
def test_charts_of_the_probabilities_need_their_tables(run_page, make_metrics, parsed, risk, expected):
    page = run_page()
    share = {"value": 0.1, "low": 0.05, "high": 0.2}
    rows = [{"coverage": coverage, "answered": 9, "errors": 1, "threshold": 0.5, "risk": share} for coverage in (0.5, 1.0)]
    bins = [{"low": 0.1, "high": 0.9, "count": 9, "confidence": 0.9, "accuracy": share}]
    drawn = {"risk_coverage": rows, "reliability": bins} if risk else {"risk_coverage": [], "reliability": []}
    metrics = make_metrics(**page.metrics.model_dump(by_alias=True) | drawn)
    texts = parsed(run_html(replace(page, metrics=metrics))).texts
    assert ("10.0 % wrong of the most confident 100.0 %, 10.0 % wrong of the most confident 50.0 %" in texts) is expected
    assert ("predictions in 1 group by confidence; the mean confidence is 80.0 points above the accuracy" in texts) is expected
