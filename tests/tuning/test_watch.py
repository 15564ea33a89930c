from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from cnnkit.run_dir.owner import Owner
from cnnkit.tuning.trials import StoredTrial
from cnnkit.tuning.watch import CLAIM_SECONDS, GRACE_SECONDS, Watch, beating
from cnnkit.tuning.worker import Worker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def running(worker: Worker | None, **fields) -> StoredTrial:
    return StoredTrial(1, "running", worker=worker, **fields)


def elsewhere() -> Worker:
    here = Worker.this_process()
    return replace(here, owner=here.owner.model_copy(update={"host": "another-machine"}))


def test_a_process_of_this_machine_is_dead_as_soon_as_it_has_ended(clock):
    script = "from cnnkit.run_dir.owner import Owner; print(Owner.this_process().model_dump_json())"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert Watch(clock).is_dead(running(Worker(Owner.model_validate_json(ended), "t")))
    alive = running(Worker.this_process())
    watch = Watch(clock)
    for clock.now in (0.0, 10 * GRACE_SECONDS):
        assert not watch.is_dead(alive), "a long epoch is no death"


def test_a_worker_elsewhere_is_dead_after_a_long_silence(clock):
    watch, worker = Watch(clock), elsewhere()
    assert not watch.is_dead(running(worker, beat=1))
    clock.now = GRACE_SECONDS - 1
    assert not watch.is_dead(running(worker, beat=1))
    assert not watch.is_dead(running(worker, beat=2))
    clock.now = 2 * GRACE_SECONDS - 2
    assert not watch.is_dead(running(worker, beat=2))
    clock.now += 2
    assert watch.is_dead(running(worker, beat=2))
    assert not watch.is_dead(running(worker, beat=2, values={1: 0.5})), "an epoch is a sign of life"


def test_a_trial_that_lost_its_worker_between_two_writes_is_found_soon(clock):
    watch = Watch(clock)
    assert not watch.is_dead(running(None))
    clock.now = CLAIM_SECONDS + 1
    assert watch.is_dead(running(None))


def test_a_body_gives_signs_of_life_until_its_end():
    beaten = threading.Event()

    def beat():
        beaten.set()
        raise OSError("the storage has gone")

    before = threading.active_count()
    with beating(beat, 0.001):
        assert beaten.wait(5)
    assert threading.active_count() == before
