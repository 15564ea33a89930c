"""Fixtures of evidence for the checks: made by hand, or collected from a real folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.columns import RecordColumns
from cnnkit.data.source import Record
from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.split.duplicates import NO_COPIES, Copies
from cnnkit.data.store.decoding import decode_block, read_all
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.index import FactColumns
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
        digest = hashlib.sha256((content or f"content-{made}").encode()).hexdigest()
        return Record(name, label, split, group), PLAIN._replace(sha256=digest, **facts)

    return make


@pytest.fixture
def evidence() -> Callable[..., Evidence]:
    """Return a function that makes evidence of images; without `thumbnails` they are black.

    `near` are pairs of copies that differ in crop, light or orientation, `same` pairs of the same picture, `alike` look-alikes.
    """

    def make(images: Iterable[Image], *, near=(), same=(), alike=(), image_size: int | None = None, thumbnails=None) -> Evidence:
        records, facts = zip(*images, strict=True)
        pictures = np.zeros((len(records), 16, 16, 3), np.uint8) if thumbnails is None else thumbnails
        pairs = np.array([*near, *same], np.int64).reshape(-1, 2)
        alike_pairs = np.array(alike, np.int64).reshape(-1, 2)
        shown = np.arange(len(pairs)) >= len(near)
        copies = Copies(pairs, shown, alike_pairs, np.zeros(len(alike_pairs), np.bool_), 0.0)
        return Evidence(RecordColumns.of(records), FactColumns.of(facts), pictures, copies, image_size)

    return make


@pytest.fixture
def collect() -> Callable[[Path], Evidence]:
    """Return a function that collects the evidence of a folder of class folders."""

    def make(folder: Path) -> Evidence:
        source = FolderSource(folder)
        block = decode_block(read_all(source, source.records))
        return Evidence(source.records, FactColumns.of(block.facts), block.thumbnails, NO_COPIES)

    return make
