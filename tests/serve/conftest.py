"""Small exported files that no training made, and running servers of them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from cnnkit.api.inference.target import Target
from cnnkit.config.serving import ServeLimits
from cnnkit.serve import server as serving
from cnnkit.serve.app import Service
from cnnkit.serve.model import ServedModel

CLASSES = ("red", "green", "blue")
CANVAS = {"image_size": 8, "resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}
SHARES = {"threshold": 0.5, "risk": 0.1, "bound": 0.2, "confidence": 0.95, "coverage": 0.9}
RULES = {
    "abstention": {**SHARES, "answered": 9, "errors": 0, "n": 10, "split": "val"},
    "label_sets": {"threshold": 0.2, "coverage": 0.9, "n": 10, "split": "val"},
}
START_SECONDS = 120  # long, so that a busy machine does not fail the test


def write_colour_model(path: Path, *, canvas: bool = True, rules: bool = True) -> Path:
    """Write a graph whose probabilities follow from the mean colour of an image; with `canvas`, of its canvas of 8 px."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["labels"], axis=1, keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]),
    ]
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [1], [32.0])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {"classes": json.dumps(CLASSES)} | ({"preprocessing": json.dumps(CANVAS)} if canvas else {})
    helper.set_model_props(model, metadata | ({name: json.dumps(value) for name, value in RULES.items()} if rules else {}))
    onnx.save(model, path)
    return path


@dataclass
class Response:
    code: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A client of a running server: each request has a connection of its own."""

    def __init__(self, port: int, service: Service) -> None:
        self.port = port
        self.service = service

    def connect(self) -> socket.socket:
        opened = socket.socket()
        opened.settimeout(START_SECONDS)
        opened.connect(("127.0.0.1", self.port))
        return opened

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """Send one request; underscores in the names of `headers` stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.sock = self.connect()
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        found = connection.getresponse()
        result = Response(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        connection.close()
        return result

    def predict(self, body: bytes, query: str = "", **headers: str) -> Response:
        return self.ask("POST", f"/predict{query}", body, **headers)

    def send(self, data: bytes) -> bytes:
        """Send raw bytes and return all that comes back until the server closes the connection."""
        with self.connect() as opened:
            opened.sendall(data)
            found = b""
            while part := opened.recv(1 << 16):
                found += part
        return found


@contextmanager
def running(path: Path, limits: ServeLimits | None = None) -> Generator[Client]:
    service = Service(ServedModel(Target(path, None)), limits or ServeLimits())
    listening = serving._listen("127.0.0.1", 0)
    started = threading.Event()
    server = serving._Server(serving._configuration(service), service, (), started.set)
    thread = threading.Thread(target=server.run, args=([listening],))
    port = listening.getsockname()[1]
    thread.start()
    try:
        assert started.wait(START_SECONDS)
        yield Client(port, service)
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `write_colour_model`."""
    return write_colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture(scope="module")
def client(colour_model: Path) -> Generator[Client]:
    """A client of a server of `colour_model`."""
    with running(colour_model) as found:
        yield found


@pytest.fixture
def serve_model() -> Callable[..., Any]:
    """Return the context manager ``serve_model(path, limits)``, which runs a server and yields its client."""
    return running


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Return the function `write_colour_model`."""
    return write_colour_model
