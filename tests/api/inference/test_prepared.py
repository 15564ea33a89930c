from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.inference import prepared
from cnnkit.api.inference.inputs import as_inputs
from cnnkit.api.inference.prepared import MAX_BATCH_IMAGES, Shard, prepared_batches
from cnnkit.data.image import read_image
from cnnkit.errors import ConfigError
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocessing import Preprocessing

SPEC = Preprocessing(image_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)


def test_images_come_in_order_as_canvases_or_as_pixels(gray_images):
    files = gray_images(*range(0, 200, 10))
    files[3:3] = [Path("missing.png")]
    for spec in (SPEC, None):
        images = [image for batch in prepared_batches(files, spec, None) for image in batch]
        assert [image.given for image in images] == files
        assert [image.error for image in images if image.error] == ["No such file or directory"]
        for image in images[4:]:
            pixels = read_image(str(image.given))
            np.testing.assert_array_equal(image.pixels, pixels if spec is None else make_canvases([pixels], spec)[0])


def test_batches_are_limited_in_images_and_pixels(gray_images, monkeypatch):
    files = gray_images(*range(20))  # of 20 x 16 px
    monkeypatch.setattr(prepared, "MAX_BATCH_IMAGES", 8)
    assert [len(batch) for batch in prepared_batches(files, None, None)] == [8, 8, 4]
    monkeypatch.setattr(prepared, "MAX_BATCH_PIXELS", 3 * 20 * 16)
    assert [len(batch) for batch in prepared_batches(files, None, None)] == [3, 3, 2, 3, 3, 2, 3, 1]
    monkeypatch.setattr(prepared, "MAX_BATCH_PIXELS", 2 * 8 * 8)
    assert [len(batch) for batch in prepared_batches(files, SPEC, None)] == [2] * 10


def test_the_batches_of_a_later_part_are_those_of_the_whole(monkeypatch, image_folder):
    files = [
        *sorted(image_folder(images=5, folder="a").rglob("*.jpg")),
        *sorted(image_folder(images=5, folder="b", size=(9, 9)).rglob("*.jpg")),
    ]
    monkeypatch.setattr(prepared, "MAX_BATCH_IMAGES", 8)
    monkeypatch.setattr(prepared, "MAX_BATCH_PIXELS", 3 * 40 * 32)
    whole, parts = (
        [[image.given for image in batch] for given in lists for batch in prepared_batches(given, None, None)]
        for lists in ([files], [files[:8], files[8:24], files[24:]])
    )
    assert whole == parts


@pytest.mark.parametrize("spec", [None, SPEC])
def test_few_images_are_prepared_ahead_whatever_their_number(gray_images, monkeypatch, spec):
    files = gray_images(1) * 1000
    seen: list[Path] = []
    read = prepared.read_stored
    monkeypatch.setattr(prepared, "read_stored", lambda given: seen.append(given) or read(given))
    monkeypatch.setattr(prepared.os, "cpu_count", lambda: 2)
    batches = prepared_batches(files, spec, None)
    first = next(batches)
    time.sleep(0.2)
    assert len(first) == prepared.MAX_BATCH_IMAGES
    assert len(seen) <= 2 * prepared.MAX_BATCH_IMAGES
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cnnkit-read")]


def test_a_long_list_is_decoded_in_processes_to_the_same_canvases(gray_images, monkeypatch):
    files = [*gray_images(*range(0, 200, 10)), Path("missing.png"), *as_inputs([np.zeros((5, 4, 3), np.uint8)])[0]]
    (in_threads,) = prepared_batches(files, SPEC, None)
    monkeypatch.setattr(prepared, "MIN_PROCESS_IMAGES", len(files))
    modes: list[bool] = []
    pool = prepared.DecodingPool
    monkeypatch.setattr(prepared, "DecodingPool", lambda *args, **kwargs: modes.append(kwargs["processes"]) or pool(*args, **kwargs))
    (in_processes,) = prepared_batches(files, SPEC, None)
    assert modes == [True]
    for one, other in zip(in_threads, in_processes, strict=True):
        assert (one.given, one.error, one.sha256) == (other.given, other.error, other.sha256)
        assert bool(one.error) == (one.pixels is None) == (len(one.sha256) == 0)
        np.testing.assert_array_equal(one.pixels, other.pixels)  # pyright: ignore[reportArgumentType]
    assert [image.error for image in in_processes if image.error] == ["No such file or directory"]


def test_decoded_and_resized_images_have_the_hash_of_their_files(gray_images):
    files = gray_images(3, 4)
    expected = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    for spec in (SPEC, None):
        (batch,) = prepared_batches(files, spec, None)
        assert [image.sha256 for image in batch] == expected


def test_one_image_starts_no_thread(gray_images, monkeypatch):
    monkeypatch.setattr(prepared, "ThreadPoolExecutor", None)
    monkeypatch.setattr(prepared, "DecodingPool", None)
    for spec in (SPEC, None):
        assert [len(batch) for batch in prepared_batches(gray_images(7), spec, None)] == [1]


def test_no_images_give_no_batch():
    assert list(prepared_batches([], SPEC, None)) == list(prepared_batches([], None, None)) == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("images", [0, 1, 10, 64, 65, 1000])
def test_parts_in_order_are_the_whole_in_blocks_of_a_batch(images, count):
    whole = list(range(images))
    parts = [Shard(number, count).part(whole) for number in range(1, count + 1)]
    assert [image for part in parts for image in part] == whole
    assert all(part[0] % MAX_BATCH_IMAGES == 0 for part in parts if part)
    blocks = [-(-len(part) // MAX_BATCH_IMAGES) for part in parts]
    assert max(blocks) - min(blocks) <= 1


def test_the_form_is_a_number_of_a_count():
    assert Shard.parse("2/3") == Shard(2, 3)
    assert Shard.parse(" 02/03") == Shard(2, 3)


@pytest.mark.parametrize(
    "text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/2", "a/b", "1.0/2", "1/2 x", "9999999999/9999999999", "\u0661/2"]
)
def test_other_forms_are_refused_in_one_sentence(text):
    with pytest.raises(ConfigError, match=r"^--shard .*: must be I/N, part I of N with I from 1 to N; .* --shard 1/3$"):
        Shard.parse(text)
