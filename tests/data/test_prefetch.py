from __future__ import annotations

import json
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.prefetch import _ColumnPickle, prefetch
from cnnkit.data.source import Record, open_source

# In a process that has no torch yet: this one has.
LOOK = """
import json, os, sys
from cnnkit.config.settings import DataConfig
from cnnkit.data.prefetch import DERIVED_PROPERTIES, prefetch
forks = []
os.register_at_fork(before=lambda: forks.append(1))
found = prefetch(DataConfig(**json.loads(sys.argv[1])), seed=3)
started = len(forks)
answer = found()
told = answer and [answer[0].name, answer[1].samples, answer[1].notes, {name: vars(answer[1])[name] for name in DERIVED_PROPERTIES}]
print(json.dumps([started, told, "torch" in sys.modules]))
"""

forks = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process is forked")


def look(**config: Any) -> list[Any]:
    ended = subprocess.run([sys.executable, "-c", LOOK, json.dumps(config)], check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    return json.loads(ended.stdout)


@forks
def test_what_the_cache_knows_is_read_by_another_process(image_folder) -> None:
    root: Path = image_folder({"ants": 20, "bees": 20})
    (root / "ants/ants-001.jpg").write_bytes(b"")
    assert look(data=str(root)) == [1, None, False]  # nothing has been decoded yet
    dataset = load_dataset(open_source(str(root)), DataConfig(data=str(root)), None, 3)
    started, answer, torch_is_there = look(data=str(root))
    assert (started, torch_is_there) == (1, False)
    derived = {"split_text": dataset.split_text, "fingerprint": dataset.fingerprint}
    assert answer == [str(root), [[*sample] for sample in dataset.samples], [*dataset.notes], derived]


@forks
def test_what_is_refused_is_left_to_be_told_later(image_folder) -> None:
    root: Path = image_folder({"ants": 2, "bees": 20})  # three are needed, one for every split
    load_dataset(open_source(str(root)), DataConfig(data=str(root), split=(0.8, 0.2, 0.0)), None, 3)
    assert look(data=str(root), split=(0.8, 0.2, 0.0))[1] is not None
    assert look(data=str(root)) == [1, None, False]
    assert look(data=str(root), classes=["wasps"]) == [1, None, False]


@forks
@pytest.mark.parametrize("config", [{"cache": "ram"}, {"cache": "none"}, {"data": "digits"}, {"data": "nowhere"}])
def test_no_process_is_started_where_nothing_can_be_found(image_folder, config) -> None:
    assert look(**{"data": str(image_folder()), **config}) == [0, None, False]


@forks
def test_no_process_is_started_beside_torch(image_folder) -> None:
    import_module("torch")
    root: Path = image_folder()
    load_dataset(open_source(str(root)), DataConfig(data=str(root)), None, 3)
    assert prefetch(DataConfig(data=str(root)), 3)() is None


def test_rows_arrive_as_they_left():
    records = (Record("a/1.jpg", "a", "train"), Record("b/2.jpg", "b", group="g"))
    rows = _ColumnPickle(records)
    assert rows == records
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        arrived = pickle.loads(pickle.dumps(rows, protocol))  # noqa: S301 (our own)
        assert (type(arrived), arrived) == (tuple, records)
        assert all(isinstance(record, Record) for record in arrived)
    assert pickle.loads(pickle.dumps(_ColumnPickle())) == ()  # noqa: S301


def test_rows_are_smaller_than_what_they_stand_for():
    records = tuple(Record(f"a/{number}.jpg", "a") for number in range(1000))
    assert len(pickle.dumps(_ColumnPickle(records))) < 0.9 * len(pickle.dumps(records))
