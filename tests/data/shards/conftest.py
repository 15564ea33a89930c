"""Fixtures for the tests of shards: tars in WebDataset's layout, written from members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def make_jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def put_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def jpeg() -> Callable[[int], bytes]:
    """Return a function from a number to the bytes of a JPEG of noise."""
    return make_jpeg


@pytest.fixture
def write_tar() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Return a function that writes a tar of members and returns its path."""
    return put_tar


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes `number` shards of 4 labelled images each into the folder ``s``, and returns their pattern."""

    def write(number: int = 3, folder: str = "s") -> str:
        for shard in range(number):
            members: dict[str, bytes] = {}
            for image in range(4 * shard, 4 * shard + 4):
                members |= {f"k{image:04d}.jpg": make_jpeg(image), f"k{image:04d}.cls": b"01"[image % 2 : image % 2 + 1]}
            put_tar(tmp_path / folder / f"{shard:04d}.tar", members)
        return f"{tmp_path}/{folder}/{{0000..{number - 1:04d}}}.tar"

    return write
