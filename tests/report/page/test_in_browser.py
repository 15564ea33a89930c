"""The page in a real browser: keys, clicks and network requests. Skipped without Chromium."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnkit.report.page.run import run_html

SHOWN = "[...document.querySelectorAll('#gallery > li:not([hidden])')].map(e => [e.dataset.true, e.dataset.predicted])"


@pytest.fixture
def page(run_page, browser, tmp_path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(run_html(run_page()), "utf-8")
    browser.open(file.as_uri())
    return file


def test_a_click_on_a_cell_shows_its_images_and_their_number(page, browser):
    browser.click("button[data-true='2'][data-predicted='1']")
    shown = browser.run(SHOWN)
    assert shown
    assert set(map(tuple, shown)) == {("2", "1")}
    count = browser.run("document.querySelector(\"button[data-true='2'][data-predicted='1']\").textContent")
    title = browser.run("document.getElementById('looks').textContent")
    assert title == f"true eel, predicted dog: {count} image{'s' * (count != '1')}"
    assert browser.run("document.querySelectorAll('#matrix [aria-pressed=true]').length") == 1
    assert browser.run("document.getElementById('worst').hidden")


def test_the_worst_mistakes_come_back(page, browser):
    cell = "button[data-true='2'][data-predicted='1']"
    worst = "[document.getElementById('looks').textContent, document.getElementById('worst').hidden]"
    for way in ("#back", cell, "a[href='#looks']"):
        browser.click(cell)
        assert browser.run(worst)[1], way
        browser.click(way)
        assert browser.run(worst) == ["Worst mistakes", False], way
        assert browser.run("document.querySelectorAll('[aria-pressed=true]').length") == 0
    browser.click(cell)
    browser.run("document.getElementById('back').focus()")
    browser.press("Enter")
    assert browser.run(f"document.activeElement === document.querySelector({json.dumps(cell)})")


@pytest.mark.parametrize(("width", "height", "beside"), [(1280, 800, True), (390, 844, False)])
def test_the_first_screen_shows_headline_matrix_and_worst_mistakes(page, browser, width, height, beside):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=not beside)
    box = "(() => {{ const r = document.querySelector({}).getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] }})()"
    headline, matrix, worst = (browser.run(box.format(json.dumps(name))) for name in (".headline", "#matrix", "#worst li"))
    last = browser.run(box.format(json.dumps("#worst li:nth-child(6)")))
    browser.call("Emulation.clearDeviceMetricsOverride")
    assert 0 <= headline[1] < matrix[1]
    assert max(matrix[3], worst[3]) <= height
    assert (worst[0] > matrix[2], worst[1] < matrix[3]) == (beside, beside)
    assert last[3] <= height or not beside


def test_folded_parts_are_open_on_paper_and_folded_after(page, browser):
    folded = "[...document.querySelectorAll('details.print')].map((part) => part.open)"
    assert not any(browser.run(folded))
    assert len(browser.run(folded)) == 2
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert all(browser.run(folded))
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert not any(browser.run(folded))


def test_arrow_keys_and_enter_select_a_cell(page, browser):
    browser.run("document.querySelector(\"button[data-true='0'][data-predicted='1']\").focus()")
    browser.press("ArrowDown")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.getAttribute('aria-label')").startswith("true dog, predicted eel: ")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert set(map(tuple, browser.run(SHOWN))) == {("1", "2")}


def test_the_table_of_classes_shows_mistakes_and_sorts(page, browser):
    browser.click("#classes-table button[data-true='1']")
    assert {label for label, _ in browser.run(SHOWN)} == {"1"}
    assert "1" not in {predicted for _, predicted in browser.run(SHOWN)}
    column = "[...document.querySelectorAll('#classes-table tbody tr')].map(row => +row.cells[1].dataset.value)"
    browser.click("#classes-table button[data-column='recall']")
    assert browser.run(column) == sorted(browser.run(column))
    browser.click("#classes-table button[data-column='recall']")
    assert browser.run(column) == sorted(browser.run(column), reverse=True)


def test_the_page_makes_no_request_and_its_policy_refuses_others(page, browser):
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    browser.run("fetch('file:///etc/hostname').catch(() => 0)")
    assert any("Content Security Policy" in text for text in browser.complaints())


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_screen(page, browser, width):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=740, deviceScaleFactor=1, mobile=width < 500)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.call("Emulation.clearDeviceMetricsOverride")
