"""The process of a session holds nothing of the program that it is a copy of."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnkit.exporters import session_process
from cnnkit.exporters.session_process import Runtime, SessionProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="sessions run in this process")


class Node:
    def __init__(self, name: str, kind: str, shape: Sequence[int]) -> None:
        self.name, self.type, self.shape = name, kind, shape


class MeanSession:
    """A session whose probabilities are the mean levels of each image."""

    def get_inputs(self) -> list[Node]:
        return [Node("images", "tensor(float)", (1, 2))]

    def get_outputs(self) -> list[Node]:
        return [Node("probabilities", "tensor(float)", (1, 2))]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def get_modelmeta(self) -> Any:
        return type("Meta", (), {"custom_metadata_map": {"classes": "[]"}})

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
        assert outputs == ["probabilities"]
        return [inputs["images"] * 2]


def model_file(size: int = 0) -> Path:
    """Return a file of `size` bytes that a session may pretend to open."""
    path = Path("model.onnx")
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_pipe_of_the_program_ends_while_a_session_is_open() -> None:
    reading, writing = os.pipe()
    runtime = Runtime("mean", "mean", "a file", "cnnkit export", lambda _: MeanSession())
    session = SessionProcess(model_file(), runtime)
    os.close(writing)
    try:
        assert select.select([reading], [], [], 10)[0], "the process of the session holds the other end of the pipe"
        assert os.read(reading, 1) == b""
        images = np.array([[1, 2], [3, 4]], np.float32)
        assert session.run(images).tolist() == (2 * images).tolist()
    finally:
        os.close(reading)


def test_a_session_on_a_gpu_has_no_limit_of_memory_and_more_time_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(size: int) -> None:
        Path("limited").write_text(str(size), "utf-8")

    monkeypatch.setattr(session_process, "limit_memory", limit)
    for on_gpu in (True, False):
        runtime = Runtime("mean", "mean", "a file", "cnnkit export", lambda _: MeanSession(), on_gpu)
        session = SessionProcess(model_file(50_000_000), runtime)
        assert Path("limited").exists() is not on_gpu
        expected = session_process.MAX_GPU_START_SECONDS if on_gpu else session_process.MAX_SECONDS
        assert session._start_seconds == expected + 5, "a large file has more time"
        assert session.interface.provider == "CPUExecutionProvider"
