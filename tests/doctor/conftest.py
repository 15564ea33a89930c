"""Fixtures of evidence for the checks: made by hand, or collected from a real folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.source import Record
from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.store.decoding import decode_block, read_all
from cnnkit.data.store.facts import Facts
from cnnkit.doctor.evidence import Evidence

Image = tuple[Record, Facts]
PLAIN = Facts(bytes=40_000, width=500, height=375, mean=120.0, std=50.0, sharpness=0.7, format="JPEG", mode="RGB", quality=85)


@pytest.fixture
def image() -> Callable[..., Image]:
    """Return a function that makes the record and facts of an ordinary photograph; facts may be given by name, the hash as `content`."""
    made = 0

    def make(
        label: str = "ants", *, path: str = "", split: str | None = None, group: str | None = None, content: str = "", **facts
    ) -> Image:
        nonlocal made
        made += 1
        name = path or "/".join(filter(None, [split, label, f"{made:04d}.jpg"]))
        return Record(name, label, split, group), PLAIN._replace(sha256=content or f"content-{made}", **facts)

    return make


@pytest.fixture
def evidence() -> Callable[..., Evidence]:
    """Return a function that makes evidence of images; without `thumbnails` they are black."""

    def make(images: Iterable[Image], *, near=(), image_size: int | None = None, thumbnails=None) -> Evidence:
        records, facts = zip(*images, strict=True)
        pictures = np.zeros((len(records), 16, 16, 3), np.uint8) if thumbnails is None else thumbnails
        return Evidence(records, facts, pictures, np.array(near, np.int64).reshape(-1, 2), image_size)

    return make


@pytest.fixture
def collect() -> Callable[[Path], Evidence]:
    """Return a function that collects the evidence of a folder of class folders."""

    def make(folder: Path) -> Evidence:
        source = FolderSource(folder)
        facts, thumbnails, _ = decode_block(read_all(source, source.records), None)
        return Evidence(source.records, facts, thumbnails, np.zeros((0, 2), np.int64))

    return make
