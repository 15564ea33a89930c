"""The page of a running server in a real browser: mouse, keyboard, paste, drop, phone width. Skipped without Chromium."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

VERDICT = "document.getElementById('verdict').textContent"
ROWS = "[...document.querySelectorAll('#rows tbody tr')].map(row => [...row.cells].slice(1).map(cell => cell.textContent))"


@pytest.fixture
def page(client, browser):
    """Open the page of the server."""
    browser.open(f"http://127.0.0.1:{client.port}/")
    return browser


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """A red and a green image, a gray one of which the model is not sure, and a broken one."""
    levels = {"red.png": (250, 20, 20), "green.png": (20, 250, 20), "gray, 1.png": (90, 90, 90)}
    for name, level in levels.items():
        Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "red.png").read_bytes()[:50])
    return {name.partition(".")[0]: tmp_path / name for name in (*levels, "broken.png")}


def choose(browser, *paths: Path) -> None:
    """Choose files, as the dialogue of the system does."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def test_one_image_shows_class_probability_and_label_set(page, client, files):
    assert page.run("document.activeElement === document.body")
    page.press("Tab")
    assert page.run("document.activeElement.id") == "files"
    choose(page, files["red"])
    page.wait("document.querySelector('#bars tbody tr')")
    assert page.run(VERDICT) == "red"
    assert page.run("document.getElementById('sure').textContent").endswith(" %")
    assert page.run("document.getElementById('set').textContent") == "One of: red"
    assert page.run("document.getElementById('status').textContent") == "red.png: red"
    assert page.run("document.getElementById('many').hidden")
    own = f"http://127.0.0.1:{client.port}/"
    assert {url.partition("?")[0] for url in page.requests() if not url.startswith(("blob:", "chrome"))} == {own, f"{own}predict"}
    assert page.complaints() == []
    page.run("fetch('https://example.org/').catch(() => 0)")
    assert any("Content Security Policy" in text for text in page.complaints())


def test_a_batch_is_a_table_for_mouse_and_keyboard_and_a_csv(page, files, cli, colour_model, read_rows, tmp_path):
    choose(page, *files.values())
    page.wait("!document.getElementById('csv').disabled && document.querySelectorAll('#rows tbody tr').length === 4")
    rows = page.run(ROWS)
    assert [row[:2] for row in rows] == [
        ["red.png", "red"], ["green.png", "green"], ["gray, 1.png", "don't know (red)"], ["broken.png", "error: the file is truncated"],
    ]  # fmt: skip
    page.click("#rows tbody tr:nth-child(3) td:nth-child(3)")
    assert page.run(VERDICT) == "don't know"
    assert "below the model's threshold" in page.run("document.getElementById('sure').textContent")
    page.run("document.querySelector('#rows tbody button').focus()")
    page.press("ArrowDown")
    assert page.run(VERDICT) == "green"
    assert page.run("document.activeElement.textContent") == "green.png"
    page.run(
        "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return 'blob:x'; }; window.saved = ''"
    )
    page.click("#csv")
    page.wait("window.saved")
    assert cli("predict", *files.values(), "--model", colour_model, "--out", tmp_path / "rows.csv").code == 0
    (tmp_path / "page.csv").write_text(page.run("window.saved"), "utf-8")
    saved, expected = read_rows(tmp_path / "page.csv"), read_rows(tmp_path / "rows.csv")
    assert saved[0].keys() == expected[0].keys()
    for found, row in zip(saved, expected, strict=True):
        assert json.loads(found.pop("label_set")) == json.loads(row.pop("label_set"))
        assert float(found.pop("probability") or -1) == float(row.pop("probability") or -1)
        assert found == {**row, "path": Path(row["path"]).name}


def test_images_are_pasted_and_dropped_and_cleared(page, files):
    data = base64.b64encode(files["green"].read_bytes()).decode()
    page.run(
        f"const file = new File([Uint8Array.from(atob('{data}'), (c) => c.charCodeAt(0))], 'x.png', {{type: 'image/png'}});"
        "const both = new DataTransfer(); both.items.add(file);"
        "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: both, bubbles: true, cancelable: true}));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: both, bubbles: true, cancelable: true}))"
    )
    page.wait(f"{ROWS}.filter((row) => row[1] === 'green').length === 2")
    page.run("document.getElementById('clear').focus()")
    page.press("Enter")
    assert page.run(ROWS) == []
    assert page.run("document.activeElement.id") == "files"


def test_a_full_queue_is_waited_for(page, client, files, monkeypatch):
    monkeypatch.setattr("cnnkit.serve.gate.REFUSAL_SECONDS", 0.01)
    monkeypatch.setattr(client.service.batcher, "_limit", 0)
    choose(page, files["red"])
    while not any(event.get("params", {}).get("response", {}).get("status") == 503 for event in page.events):
        page.run("0")
    monkeypatch.undo()
    page.wait(f"{VERDICT} === 'red'")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_screen(page, files, width):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=740, deviceScaleFactor=1, mobile=width < 500)
    choose(page, *files.values())
    page.wait("!document.getElementById('csv').disabled && document.querySelectorAll('#rows tbody tr').length === 4")
    assert page.run("document.documentElement.scrollWidth") <= width
    picture = base64.b64decode(page.call("Page.captureScreenshot")["data"])
    assert Image.open(io.BytesIO(picture)).width == width
    page.call("Emulation.clearDeviceMetricsOverride")
