from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnkit.data.store.cached_results import MAX_RESULTS, cached_result


def test_a_result_is_computed_once_per_kind_and_key(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"mean": 0.1 + 0.2}

    assert [cached_result(tmp_path, "sum", (1, "a"), compute) for _ in range(2)] == [{"mean": 0.1 + 0.2}] * 2
    assert len(calls) == 1
    for folder, kind, key in [(tmp_path, "sum", (1, "b")), (tmp_path, "other", (1, "a")), (None, "sum", (1, "a"))]:
        cached_result(folder, kind, key, compute)
    assert len(calls) == 4


@pytest.mark.parametrize("damaged", [b"", b'{"mean": ', b"\xff", b"[1]"])
def test_a_damaged_file_is_written_again(tmp_path: Path, damaged: bytes) -> None:
    cached_result(tmp_path, "sum", 1, lambda: {"mean": 1})
    (file,) = tmp_path.iterdir()
    file.write_bytes(damaged)
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 2}) == {"mean": 2}
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 3}) == {"mean": 2}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_only_costs_the_computation(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 1}) == {"mean": 1}
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_only_costs_the_computation(tmp_path: Path) -> None:
    assert cached_result(tmp_path / "gone", "sum", 1, lambda: {"mean": 1}) == {"mean": 1}


def test_a_result_that_should_not_be_kept_is_not_cached(tmp_path: Path) -> None:
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 1}, should_keep=lambda: False) == {"mean": 1}
    assert not list(tmp_path.iterdir())


def test_the_oldest_results_of_a_kind_are_removed(tmp_path: Path) -> None:
    cached_result(tmp_path, "other", 0, dict)
    for key in range(MAX_RESULTS + 2):
        before = set(tmp_path.iterdir())
        cached_result(tmp_path, "sum", key, dict)
        for file in set(tmp_path.iterdir()) - before:
            os.utime(file, (1000 + key, 1000 + key))
    assert len(list(tmp_path.glob("sum-*"))) == MAX_RESULTS
    assert len(list(tmp_path.glob("other-*"))) == 1
    assert cached_result(tmp_path, "sum", 0, lambda: {"again": True}) == {"again": True}
    assert cached_result(tmp_path, "sum", MAX_RESULTS + 1, lambda: {"again": True}) == {}
