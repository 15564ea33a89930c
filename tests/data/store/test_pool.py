from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnkit.data.image import UndecodableError
from cnnkit.data.store import decoding
from cnnkit.data.store import pool as pooling
from cnnkit.data.store.decoding import Block, decode_block
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.pool import CHUNKS_PER_WORKER, FIRST_CHUNK_IMAGES, MAX_CHUNK_IMAGES, DecodingPool


def rows(pool: DecodingPool, source) -> list[Facts]:
    return [item for block in pool.blocks(source.records) for item in block.facts]


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_blocks_come_in_the_order_of_the_records(noise_source, geometry, encoded: bool, workers: int) -> None:
    source = noise_source(3 * MAX_CHUNK_IMAGES + 5, encoded=encoded)
    with DecodingPool(source, (geometry,), workers) as pool:
        canvases = np.concatenate([block.canvases[0] for block in pool.blocks(source.records)])
    assert canvases.shape == (len(source.records), 3, 16, 16)
    for index in range(len(source.records)):
        np.testing.assert_array_equal(canvases[index].transpose(1, 2, 0), source.image(index))


def test_without_a_geometry_there_are_no_canvases(noise_source) -> None:
    source = noise_source(3, encoded=True)
    with DecodingPool(source) as pool:
        (block,) = pool.blocks(source.records)
    assert block.canvases == ()
    assert block.thumbnails.any()


def test_unmeasured_facts_have_only_the_hash(noise_source, geometry) -> None:
    source = noise_source(2)
    with DecodingPool(source, (geometry,), measured=False) as pool:
        (block,) = pool.blocks(source.records)
    assert [(item.width, len(item.sha256)) for item in block.facts] == [(0, 64), (0, 64)]
    assert not block.thumbnails.any()


def test_unreadable_images_have_their_reason_and_do_not_affect_others(noise_source) -> None:
    def lose(index: int) -> None:
        if index == 1:
            raise UndecodableError("gone")

    source = noise_source(4, lose, encoded=True, spoil=lambda index, file: b"no image" if index == 2 else file)
    with DecodingPool(source) as pool:
        found = rows(pool, source)
    assert [bool(item.error) for item in found] == [False, True, True, False]
    assert found[1].error == "gone"
    assert "not an image" in found[2].error
    assert found[2].bytes == 8


# A decoder that sleeps on one image and dies on another; workers import its module by name.
DANGEROUS = """
import os, time
from cnnkit.data.store import decoding

def decode_block(stored, geometries=(), *, measured=True):
    for item in stored:
        if isinstance(item, bytes) and b"SLEEP" in item:
            time.sleep(60)
        if isinstance(item, bytes) and b"CRASH" in item:
            os._exit(11)
    return decoding.decode_block(stored, geometries, measured=measured)
"""


def test_a_file_that_hangs_or_crashes_the_decoder_does_not_affect_others(
    noise_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dangerous_decoder.py").write_text(DANGEROUS)
    monkeypatch.syspath_prepend(tmp_path)
    import dangerous_decoder  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(pooling, "decode_block", dangerous_decoder.decode_block)

    source = noise_source(6, encoded=True, spoil=lambda index, file: file + {1: b"SLEEP", 3: b"CRASH"}.get(index, b""))
    started = time.monotonic()
    with DecodingPool(source, (), 2, timeout=1.5) as pool:
        found = rows(pool, source)
    assert [item.error for item in found] == [
        "", "decoding took more than 1.5 s and was stopped", "", "the decoder crashed or ran out of memory", "", "",
    ]  # fmt: skip
    assert time.monotonic() - started < 50


def test_without_processes_threads_decode_the_same_images_one_by_one(noise_source, geometry, monkeypatch) -> None:
    source = noise_source(9, encoded=True, spoil=lambda index, file: b"no image" if index == 2 else file)
    with DecodingPool(source, (geometry,), 2) as pool:
        whole = Block.join(list(pool.blocks(source.records)))
    monkeypatch.setattr(pooling.DecodingProcesses, "schedule", None)
    with DecodingPool(source, (geometry,), 2, processes=False) as pool:
        blocks = list(pool.blocks(source.records))
    assert [len(block.facts) for block in blocks] == [1] * 9
    joined = Block.join(blocks)
    assert joined.facts == whole.facts
    np.testing.assert_array_equal(joined.canvases[0], whole.canvases[0])


def test_few_chunks_are_decoded_ahead(noise_source) -> None:
    seen: list[int] = []
    source = noise_source(100 * MAX_CHUNK_IMAGES, seen.append)
    with DecodingPool(source, (), 2) as pool:
        blocks = pool.blocks(source.records)
        next(blocks)
        time.sleep(0.2)
        assert len(seen) <= CHUNKS_PER_WORKER * 2 * FIRST_CHUNK_IMAGES + MAX_CHUNK_IMAGES
        blocks.close()
    assert len(seen) <= CHUNKS_PER_WORKER * 2 * FIRST_CHUNK_IMAGES + 2 * MAX_CHUNK_IMAGES


def test_large_images_make_small_chunks(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "MAX_CHUNK_BYTES", 3 * (2 * 16 * 16 * 3 + 64 * 64))  # thumbnail, pixels and look of three images
    source = noise_source(60)
    with DecodingPool(source, (), 1) as pool:
        lengths = [len(block.facts) for block in pool.blocks(source.records)]
    assert lengths[:CHUNKS_PER_WORKER] == [FIRST_CHUNK_IMAGES] * CHUNKS_PER_WORKER
    assert set(lengths[CHUNKS_PER_WORKER:-1]) == {3}
    assert sum(lengths) == 60


def test_closing_leaves_no_thread_and_no_process(noise_source) -> None:
    before = threading.active_count()
    source = noise_source(40, encoded=True)
    with DecodingPool(source, (), 2) as pool:
        next(pool.blocks(source.records))
    assert threading.active_count() == before


def test_an_error_of_the_source_itself_is_not_hidden(noise_source) -> None:
    def explode(index: int) -> None:
        raise ZeroDivisionError(index)

    source = noise_source(2, explode)
    with pytest.raises(ZeroDivisionError), DecodingPool(source) as pool:
        rows(pool, source)


# A usual script without `if __name__ == "__main__"`. If workers imported it, it would start again.
SCRIPT = """
print("main runs")
from pathlib import Path
from cnnkit.data.store.scan import scan
from cnnkit.data.sources.folder import FolderSource
source = FolderSource(Path("images"))
print(len(scan(source, source.records).facts), "scanned")
"""


def test_a_script_without_main_guard_is_not_run_again_by_the_workers(image_folder, tmp_path: Path) -> None:
    image_folder()
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=100, check=False, env={**os.environ})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:2] == ["main runs", "24 scanned"]


def test_messages_of_libtiff_do_not_reach_stderr(capfd: pytest.CaptureFixture[str], noise_source) -> None:
    """libtiff prints its messages to stderr."""
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "TIFF", compression="tiff_deflate")
    broken = file.getvalue()[:-40] + bytes(40)

    source = noise_source(1, encoded=True, spoil=lambda *_: broken)
    with DecodingPool(source, (), 1) as pool:
        rows(pool, source)
    assert capfd.readouterr().err == ""


def test_joined_blocks_equal_one_block() -> None:
    images = [np.full((4, 4, 3), level, np.uint8) for level in (1, 2, 3)]
    whole = decode_block(images)
    joined = Block.join([decode_block(images[:1]), decode_block(images[1:])])
    assert joined.facts == whole.facts
    np.testing.assert_array_equal(joined.thumbnails, whole.thumbnails)
    np.testing.assert_array_equal(joined.looks, whole.looks)
    assert whole.looks.shape == (3, 64, 64)


def test_few_decoded_bytes_are_held_at_a_time(noise_source, geometry, monkeypatch) -> None:
    source = noise_source(7, encoded=True, spoil=lambda index, file: b"no image" if index == 2 else file)
    stored = decoding.read_all(source, source.records)
    whole = decode_block(stored, (geometry,))
    held: list[int] = []
    make = decoding.make_canvases
    monkeypatch.setattr(decoding, "make_canvases", lambda images, spec: held.append(len(images)) or make(images, spec))
    monkeypatch.setattr(decoding, "MAX_DECODED_BYTES", 2 * source.image(0).nbytes)
    parted = decode_block(stored, (geometry,))
    assert held == [2, 2, 2]
    assert parted.facts == whole.facts
    for one, other in zip(
        (whole.thumbnails, whole.looks, *whole.canvases), (parted.thumbnails, parted.looks, *parted.canvases), strict=True
    ):
        np.testing.assert_array_equal(one, other)
