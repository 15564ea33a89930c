"""The programs of docs/deploy print the golden probabilities of an exported file. Each is skipped where its runtime is not installed.

CNNKIT_NODE_MODULES names a folder with onnxruntime-node and onnxruntime-web; by default it is ``node_modules`` of the checkout.
CNNKIT_CSHARP_PROJECT names a folder with a project of .NET that refers to Microsoft.ML.OnnxRuntime.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "docs" / "deploy"
NODE_MODULES = Path(os.environ.get("CNNKIT_NODE_MODULES", CHECKOUT / "node_modules")).resolve()
CSHARP_PROJECT = os.environ.get("CNNKIT_CSHARP_PROJECT", "")
DIFFERENCE = 1e-5  # of a probability
SECONDS = 120
OTHERS = {"node_modules", "__pycache__"}  # that a reader may have made
EXAMPLES = {path.relative_to(DEPLOY).as_posix() for path in DEPLOY.glob("*/*") if path.name not in OTHERS}


def needs_module(name: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{package} is not installed")


def needs_node_module(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (NODE_MODULES / name).is_dir(), reason=f"CNNKIT_NODE_MODULES has no {name}")


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
needs_csharp = pytest.mark.skipif(
    shutil.which("dotnet") is None or not CSHARP_PROJECT, reason="the SDK of .NET is not installed, or CNNKIT_CSHARP_PROJECT is not set"
)


@pytest.fixture(scope="session")
def export_once(made_once, trained_once):
    """Return a function that exports the small network once with an input kind, and returns the folder of the file."""

    def export(kind: str) -> Path:
        def make(folder: Path) -> None:
            from cnnkit.api.exports.export import export

            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CNNKIT_CACHE", str(trained_once.cache))
                export(trained_once.run, input=kind, out=folder / "model.onnx", device="cpu")

        return made_once(f"deploy-{kind}", make)

    return export


def run(command: list[object], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False)


def check_golden(text: str, folder: Path) -> None:
    """Compare rows of an image, its class and the probabilities with golden.json, and the last line with the rows."""
    golden = json.loads((folder / "golden" / "golden.json").read_text("utf-8"))["images"]
    *rows, last = text.strip().splitlines()
    assert [row.split()[:2] for row in rows] == [[image["file"], image["label"]] for image in golden]
    found = np.array([[float(word) for word in row.split()[2:]] for row in rows])
    expected = np.array([image["probabilities"] for image in golden])
    assert found.shape == expected.shape
    assert abs(found - expected).max() < DIFFERENCE
    largest = re.fullmatch(r"largest difference from golden\.json: (\S+)", last)
    assert largest, last
    assert float(largest[1]) < DIFFERENCE


def damaged(folder: Path, copy: Path) -> Path:
    """Return a copy of an export whose golden.json has another probability."""
    shutil.copytree(folder, copy)
    file = copy / "golden" / "golden.json"
    golden = json.loads(file.read_text("utf-8"))
    golden["images"][1]["probabilities"][0] += 0.1
    file.write_text(json.dumps(golden), "utf-8")
    return copy


def commands(name: str, folder: Path) -> list[object]:
    """Return the command of an example, in a `folder` where it finds its modules."""
    if name.endswith(".py"):
        return [sys.executable, "-W", "error", DEPLOY / name]
    if name.endswith(".cs"):
        project = shutil.copytree(CSHARP_PROJECT, folder / "project")
        shutil.copy(DEPLOY / name, project / "Program.cs")
        return ["dotnet", "run", "--project", project, "--"]
    shutil.copy(DEPLOY / name, folder / "predict.mjs")  # Node looks for modules beside the file
    (folder / "node_modules").symlink_to(NODE_MODULES)
    return ["node", folder / "predict.mjs"]


PROGRAMS = [
    pytest.param("node/predict.mjs", "images", marks=[needs_node, needs_node_module("onnxruntime-node")]),
    pytest.param("csharp/Program.cs", "images", marks=needs_csharp),
    pytest.param("openvino/predict.py", "images", marks=needs_module("openvino", "openvino")),
    pytest.param("opencv/predict.py", "images", marks=needs_module("cv2", "opencv-python-headless")),
    pytest.param("opencv/predict.py", "canvas", marks=needs_module("cv2", "opencv-python-headless")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), PROGRAMS)
def test_a_program_prints_the_golden_probabilities(name, kind, export_once, tmp_path):
    folder, command = export_once(kind), commands(name, tmp_path)
    done = run([*command, folder])
    if kind == "images" and "cannot run a file for images of any size" in done.stderr:
        pytest.skip(done.stderr.strip())  # OpenCV 4
    assert done.returncode == 0, done.stderr
    check_golden(done.stdout, folder)
    other = run([*command, damaged(folder, tmp_path / "damaged")])
    assert other.returncode == 1
    assert "largest difference from golden.json: 1.0" in other.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        pytest.param("node/predict.mjs", "sharp", marks=[needs_node, needs_node_module("onnxruntime-node"), needs_node_module("sharp")]),
        pytest.param("openvino/predict.py", "PIL", marks=needs_module("openvino", "openvino")),
        pytest.param("opencv/predict.py", "cv2", marks=needs_module("cv2", "opencv-python-headless")),
    ],
)
def test_a_program_decodes_photographs(name, module, export_once, tmp_path):
    folder, command = export_once("images"), commands(name, tmp_path)
    files = json.loads((folder / "golden" / "golden.json").read_text("utf-8"))["images"]
    done = run([*command, folder, *(folder / "golden" / image["file"] for image in files)])
    if "cannot run a file for images of any size" in done.stderr:
        pytest.skip(done.stderr.strip())  # OpenCV 4
    assert done.returncode == 0, done.stderr
    for row, image in zip(done.stdout.splitlines(), files, strict=True):
        found = np.array([float(word) for word in row.removeprefix(str(folder / "golden" / image["file"])).split()[1:]])
        assert abs(found - image["probabilities"]).max() < DIFFERENCE, f"{image['file']} by {module}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param(
            "node/predict.mjs",
            "model.onnx takes float and returns probabilities",
            marks=[needs_node, needs_node_module("onnxruntime-node")],
        ),
        pytest.param("csharp/Program.cs", "model.onnx takes float and returns probabilities", marks=needs_csharp),
        pytest.param("openvino/predict.py", "model.onnx takes float and returns probabilities", marks=needs_module("openvino", "openvino")),
        pytest.param("opencv/predict.py", "model.onnx takes float and returns", marks=needs_module("cv2", "opencv-python-headless")),
    ],
)
def test_a_program_names_an_input_that_it_does_not_take(name, complaint, export_once, tmp_path):
    done = run([*commands(name, tmp_path), export_once("float")])
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "--input images" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


class Quiet(SimpleHTTPRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name in the standard library)
        """Log nothing."""


@pytest.fixture
def site(tmp_path):
    """Serve a folder on the loopback: its path and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(SECONDS)


def visit(browser: Any, address: str) -> str:
    """Open the page, and return its state after the golden images."""
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    browser.call("Page.navigate", url="about:blank")  # the title of the page before would end the wait
    browser.call("Page.navigate", url=address)
    browser.wait("['Ready', 'Failed'].includes(document.title)")
    return browser.run("document.getElementById('state').textContent")


@pytest.mark.slow
@needs_node_module("onnxruntime-web")
def test_the_page_shows_the_golden_probabilities(export_once, site, browser, tmp_path):
    (root, address), folder = site, export_once("images")
    shutil.copy(DEPLOY / "browser" / "index.html", root)
    (root / "ort").symlink_to(NODE_MODULES / "onnxruntime-web" / "dist")
    (root / "model").symlink_to(folder)
    rows = "document.getElementById('rows').textContent"
    state = visit(browser, address)
    check_golden(browser.run(rows) + state, folder)
    assert all(url.startswith(address) for url in browser.requests() if not url.startswith(("about:", "blob:")))

    before = len(browser.run(rows))
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=document, selector="#photos")["nodeId"]
    files = ["photo.jpg", "photo.png", "small.png"]
    (root / "broken.png").write_bytes(b"no image")
    chosen = [*(folder / "golden" / name for name in files), root / "broken.png"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in chosen])
    browser.wait(f"{rows}.includes('broken.png')")
    *shown, broken = browser.run(rows)[before:].strip().splitlines()
    check_golden("\n".join([*shown, state]), folder)
    assert broken.startswith("broken.png: ")

    (root / "model").unlink()
    damaged(folder, root / "model")
    assert visit(browser, address).startswith("largest difference from golden.json: 1.0")
    assert browser.run("document.title") == "Failed"
    shutil.rmtree(root / "model")
    (root / "model").symlink_to(export_once("float"))
    assert "model.onnx takes float and returns probabilities; export with --input images" in visit(browser, address)
    (root / "ort").unlink()
    assert "ort.wasm.min.mjs" in visit(browser, address)


def test_the_page_names_every_example():
    page = (CHECKOUT / "docs" / "deploying.md").read_text("utf-8")
    assert {"node/predict.mjs", "browser/index.html", "csharp/Program.cs", "openvino/predict.py", "opencv/predict.py"} == EXAMPLES
    assert not {name for name in EXAMPLES if f"(deploy/{name})" not in page}
