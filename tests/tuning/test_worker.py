from __future__ import annotations

from cnnkit.tuning.worker import Worker


def test_a_worker_survives_the_storage():
    worker = Worker.this_process()
    assert Worker.from_dict(worker.to_dict()) == worker
    assert Worker.this_process() != worker, "each has a token of its own"
    for value in (None, "x", {}, {"pid": "x", "host": 1}):
        assert Worker.from_dict(value) is None
