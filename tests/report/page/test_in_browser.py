"""The page in a real browser: keys, clicks and network requests. Skipped without Chromium."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from cnnkit.report.page.run import run_html

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions")
TIMEOUT = 300  # seconds; long, so that a busy machine does not fail the test
LAUNCH = """
import fcntl, os, sys
hears, says = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(hears, 3)
os.dup2(says, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads from file descriptor 3 and writes to 4
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None or os.name != "posix", reason="Chromium is not installed"),
]


class Browser:
    """A Chromium that is controlled through two pipes (DevTools protocol: JSON documents, each with a zero byte at its end)."""

    def __init__(self, profile: Path) -> None:
        (hears, self._to), (self._from, says) = os.pipe(), os.pipe()
        flags = (*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCH, str(hears), str(says), str(CHROMIUM), *flags],
            pass_fds=(hears, says),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(says)
        self._heard = bytearray()
        self._number, self._session = 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call `method` and return its result; events that arrive meanwhile are added to `events`."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        request = json.dumps({"id": self._number, "method": method, "params": params, **session}).encode() + b"\0"
        while request:
            request = request[os.write(self._to, request) :]
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, page: Path) -> None:
        """Open a file and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def run(self, script: str) -> Any:
        """Return the value of `script`, which DevTools evaluates outside the page's policy."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key of the keyboard."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40}[key]
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **(text if kind == "keyDown" else {})
            )

    def click(self, selector: str) -> None:
        """Click the middle of the element that `selector` finds."""
        point = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], button="left", clickCount=1)

    def requests(self) -> list[str]:
        """Return the requested addresses since the page was opened, without data URIs."""
        urls = (event["params"]["request"]["url"] for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Return the messages that the browser logged: refusals of the policy and errors of the script."""
        logged = [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]
        return logged + [str(event["params"]) for event in self.events if event.get("method") == "Runtime.exceptionThrown"]

    def close(self) -> None:
        """Close the pipes and wait for the end of the process."""
        os.close(self._to)
        os.close(self._from)
        self.process.wait(timeout=TIMEOUT)

    def _message(self) -> dict[str, Any]:
        while (end := self._heard.find(0)) < 0:
            ready, _, _ = select.select([self._from], [], [], TIMEOUT)
            part = os.read(self._from, 1 << 16) if ready else b""
            assert part, "Chromium has ended" if ready else f"Chromium has sent nothing for {TIMEOUT} s"
            self._heard += part
        text = self._heard[:end]
        del self._heard[: end + 1]
        return json.loads(text)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


SHOWN = "[...document.querySelectorAll('#gallery > li:not([hidden])')].map(e => [e.dataset.true, e.dataset.predicted])"


@pytest.fixture
def page(run_page, browser, tmp_path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(run_html(run_page()), "utf-8")
    browser.open(file)
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
