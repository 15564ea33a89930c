from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from cnnkit.errors import ModelFileError
from cnnkit.serve.batching import Batcher, ModelFailedError, QueueFullError
from cnnkit.serve.metrics import ServerMetrics

DARK, LIGHT = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 9, np.uint8)


class FakePreparation:
    """Prepares at once, except images of the given `slow` level, which wait for `release`."""

    workers = 2

    def __init__(self) -> None:
        self.started: list[Future[Any]] = []
        self.slow: set[int] = set()
        self.errors: dict[int, str | Exception] = {}

    def start(self, image):
        done: Future[Any] = Future()
        level = int(image.flat[0])
        if level in self.slow:
            self.started.append(done)
        elif isinstance(found := self.errors.get(level), Exception):
            done.set_exception(found)
        else:
            done.set_result(found or image)
        return done

    def reason(self, error):
        return f"reason: {type(error).__name__}"

    def close(self):
        pass


class FakeModel:
    """Predicts the first level of an image; `gate` holds the network."""

    spec = object()
    max_batch = 4

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def probabilities(self, prepared):
        self.gate.wait(30)
        self.batches.append(len(prepared))
        if self.error:
            raise self.error
        return np.array([[image.flat[0]] for image in prepared], np.float32)


@pytest.fixture
def parts():
    return FakeModel(), FakePreparation()


def run(parts, scenario, queue: int = 3):
    async def main():
        model, preparation = parts
        batcher = Batcher(model, preparation, queue, ServerMetrics())
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher), 30)
        finally:
            parts[0].gate.set()
            await batcher.close()

    return asyncio.run(main())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.005)


def test_requests_beyond_the_queue_are_refused_at_once_and_the_others_keep_their_order(parts):
    model, _ = parts

    async def scenario(batcher):
        model.gate.clear()
        first = asyncio.ensure_future(batcher.probabilities([DARK]))
        await settle()
        assert not batcher.is_full  # the first is in the network
        waiting = [asyncio.ensure_future(batcher.probabilities([np.full((2, 2, 3), level, np.uint8)])) for level in (1, 2, 3)]
        await settle()
        assert batcher.is_full
        with pytest.raises(QueueFullError):
            await batcher.probabilities([LIGHT])
        model.gate.set()
        return [float(rows[0][0]) for rows in await asyncio.gather(first, *waiting)]

    assert run(parts, scenario) == [0, 1, 2, 3]
    assert model.batches == [1, 3]


def test_a_slow_decoding_holds_up_no_other_request(parts):
    _, preparation = parts
    preparation.slow = {9}

    async def scenario(batcher):
        slow = asyncio.ensure_future(batcher.probabilities([LIGHT, DARK]))
        await settle()
        (fast,) = await batcher.probabilities([DARK])
        assert not slow.done()
        preparation.started[0].set_result(LIGHT)
        return fast, await slow

    fast, slow = run(parts, scenario)
    assert [fast[0], *(row[0] for row in slow)] == [0, 9, 0]


def test_an_image_without_pixels_has_its_reason_and_leaves_the_queue(parts):
    _, preparation = parts
    preparation.errors = {9: "no image", 8: TimeoutError()}

    async def scenario(batcher):
        found = await batcher.probabilities([LIGHT, DARK, np.full((2, 2, 3), 8, np.uint8)])
        assert batcher._waiting == 0
        return found

    found = run(parts, scenario)
    assert (found[0], found[2]) == ("no image", "reason: TimeoutError")
    assert found[1][0] == 0


@pytest.mark.parametrize("error", [ModelFileError("model.onnx: its process has ended"), MemoryError("its process has ended")])
def test_a_network_that_fails_ends_all_requests(parts, caplog, error):
    model, _ = parts
    model.error = error

    async def scenario(batcher):
        for _ in range(2):
            with pytest.raises(ModelFailedError):
                await batcher.probabilities([DARK, LIGHT])
        return batcher.failed

    assert run(parts, scenario)
    assert "its process has ended" in caplog.text


def test_processes_that_cannot_start_end_all_requests(parts):
    _, preparation = parts
    preparation.errors = {0: RuntimeError("the pool has ended")}

    async def scenario(batcher):
        with pytest.raises(ModelFailedError):
            await batcher.probabilities([DARK])
        return batcher.failed

    assert run(parts, scenario)


def test_few_images_are_prepared_ahead(parts):
    model, preparation = parts
    preparation.slow = {9}

    async def scenario(batcher):
        request = asyncio.ensure_future(batcher.probabilities([LIGHT] * 64))
        await settle()
        assert len(preparation.started) == 2 + 2 * model.max_batch
        while not request.done():
            while preparation.started:
                preparation.started.pop().set_result(LIGHT)
            await settle()
        return await request

    assert len(run(parts, scenario)) == 64
