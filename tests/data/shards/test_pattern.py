from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.data.shards.pattern import expand
from cnnkit.errors import DataError


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("a.tar", ["a.tar"]),
        ("{0008..0010}.tar", ["0008.tar", "0009.tar", "0010.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
        ("{a,{b,c}}", ["a", "b", "a", "c"]),
        ("s3://x/{a,a}.tar", ["s3://x/a.tar"]),
    ],
)
def test_braces_name_files(pattern: str, files: list[str]) -> None:
    assert expand(pattern) == list(dict.fromkeys(files))


def test_a_star_names_the_files_that_exist_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.tar", "9.tar", "a.txt", "x.tar/inside"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert expand(f"{tmp_path}/*.tar") == [f"{tmp_path}/9.tar", f"{tmp_path}/10.tar"]
    with pytest.raises(DataError, match=r"no file fits .*\?\?\?\.tar; list the folder with: ls "):
        expand(f"{tmp_path}/???.tar")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{9..1}.tar", r"--data \{9\.\.1\}\.tar: the range \{9\.\.1\} runs backwards; write the smaller number first"),
        ("{0..99999999}.tar", "names more than 1,000,000 files; name fewer and larger ones"),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        expand(pattern)
