from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import load_dataset
from cnnkit.data.prefetch import prefetch
from cnnkit.data.source import open_source

# A new process has not imported torch; this process has.
LOOK = """
import json, os, sys
from cnnkit.config.settings import DataConfig
from cnnkit.data.prefetch import DERIVED_PROPERTIES, prefetch
forks = []
os.register_at_fork(before=lambda: forks.append(1))
found = prefetch(DataConfig(**json.loads(sys.argv[1])), seed=3)
started = len(forks)
result = found()
told = result and [result[0].name, [*result[1].samples], result[1].notes, {name: vars(result[1])[name] for name in DERIVED_PROPERTIES}]
print(json.dumps([started, told, "torch" in sys.modules], default=bytes.decode))
"""

forks = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not fork cheaply")


def look(**config: Any) -> list[Any]:
    ended = subprocess.run([sys.executable, "-c", LOOK, json.dumps(config)], check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    return json.loads(ended.stdout)


@forks
def test_another_process_reads_the_cached_dataset(image_folder) -> None:
    root: Path = image_folder({"ants": 20, "bees": 20})
    (root / "ants/ants-001.jpg").write_bytes(b"")
    assert look(data=str(root)) == [1, None, False]  # nothing has been decoded yet
    dataset = load_dataset(open_source(str(root)), DataConfig(data=str(root)), None, 3)
    started, result, imported_torch = look(data=str(root))
    assert (started, imported_torch) == (1, False)
    derived = {"split_csv": dataset.split_csv.decode(), "fingerprint": dataset.fingerprint}
    assert result == [str(root), [[*sample] for sample in dataset.samples], [*dataset.notes], derived]


@forks
def test_no_second_copy_of_many_records_is_made(image_folder) -> None:
    root: Path = image_folder({"ants": 20, "bees": 20})
    load_dataset(open_source(str(root)), DataConfig(data=str(root)), None, 3)
    assert look(data=str(root))[1] is not None
    limited = LOOK.replace("forks = []", "from cnnkit.data import prefetch as module\nmodule.MAX_RECORDS = 39\nforks = []")
    ended = subprocess.run([sys.executable, "-c", limited, json.dumps({"data": str(root)})], check=True, capture_output=True, text=True)
    assert json.loads(ended.stdout) == [1, None, False]


@forks
def test_refused_data_gives_none(image_folder) -> None:
    root: Path = image_folder({"ants": 2, "bees": 20})  # three are needed, one for every split
    load_dataset(open_source(str(root)), DataConfig(data=str(root), split=(0.8, 0.2, 0.0)), None, 3)
    assert look(data=str(root), split=(0.8, 0.2, 0.0))[1] is not None
    assert look(data=str(root)) == [1, None, False]
    assert look(data=str(root), classes=["wasps"]) == [1, None, False]


@forks
@pytest.mark.parametrize("config", [{"cache": "ram"}, {"cache": "none"}, {"data": "digits"}, {"data": "nowhere"}])
def test_no_process_is_started_if_nothing_can_be_cached(image_folder, config) -> None:
    assert look(**{"data": str(image_folder()), **config}) == [0, None, False]


@forks
def test_no_process_is_started_after_the_import_of_torch(image_folder) -> None:
    import_module("torch")
    root: Path = image_folder()
    load_dataset(open_source(str(root)), DataConfig(data=str(root)), None, 3)
    assert prefetch(DataConfig(data=str(root)), 3)() is None
