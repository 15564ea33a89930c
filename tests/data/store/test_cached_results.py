from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnkit.data.store.cached_results import cached_result


def test_the_same_question_is_worked_out_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> dict[str, float]:
        calls.append(1)
        return {"mean": 0.1 + 0.2}

    assert [cached_result(tmp_path, "sum", (1, "a"), work) for _ in range(2)] == [{"mean": 0.1 + 0.2}] * 2
    assert len(calls) == 1
    for folder, kind, asked in [(tmp_path, "sum", (1, "b")), (tmp_path, "other", (1, "a")), (None, "sum", (1, "a"))]:
        cached_result(folder, kind, asked, work)
    assert len(calls) == 4


@pytest.mark.parametrize("damaged", [b"", b'{"mean": ', b"\xff", b"[1]"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damaged: bytes) -> None:
    cached_result(tmp_path, "sum", 1, lambda: {"mean": 1})
    (file,) = tmp_path.iterdir()
    file.write_bytes(damaged)
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 2}) == {"mean": 2}
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 3}) == {"mean": 2}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_nothing_costs_only_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 1}) == {"mean": 1}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_costs_only_the_work(tmp_path: Path) -> None:
    assert cached_result(tmp_path / "gone", "sum", 1, lambda: {"mean": 1}) == {"mean": 1}


def test_what_is_not_to_be_kept_is_worked_out_again(tmp_path: Path) -> None:
    assert cached_result(tmp_path, "sum", 1, lambda: {"mean": 1}, should_keep=lambda: False) == {"mean": 1}
    assert not list(tmp_path.iterdir())
