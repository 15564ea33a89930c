from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cnnkit.api.inference.inputs import as_inputs
from cnnkit.api.inference.prepared import prepared_batches
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.serve.preparation import Preparation, prepare_image

SPEC = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16, draft_side=32)
PIXELS = np.random.default_rng(0).integers(0, 255, (150, 201, 3), np.uint8)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("spec", [SPEC, None])
def test_a_file_is_prepared_as_by_predict(spec):
    ((expected,),) = prepared_batches(as_inputs(jpeg())[0], spec, SPEC.draft_side)
    found = prepare_image(jpeg(), spec, SPEC.draft_side, 10**6)
    np.testing.assert_array_equal(found, expected.pixels)


def test_pixels_are_prepared_without_decoding():
    ((expected,),) = prepared_batches(as_inputs(PIXELS)[0], SPEC, None)
    np.testing.assert_array_equal(prepare_image(PIXELS, SPEC, None, 10**6), expected.pixels)
    assert prepare_image(PIXELS, None, None, 10**6) is PIXELS


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("cnnkit.serve.preparation.decode_image", lambda *_: pytest.fail("decoded"))
    assert prepare_image(jpeg(), SPEC, None, 30_000) == (
        "201 x 150 pixels are more than the limit of 0.03 megapixels of this server; make the image smaller"
    )


def test_a_bad_file_is_a_reason():
    assert prepare_image(b"", SPEC, None, 100) == "the file is empty"
    assert prepare_image(jpeg()[:500], SPEC, None, 10**6) == "the file is truncated"


def test_processes_prepare_and_are_limited(tmp_path, monkeypatch):
    (tmp_path / "slow_preparation.py").write_text(
        "import time, os\n"
        "def sleep(*_): time.sleep(60)\n"
        "def crash(*_): os._exit(1)\n"
        "def fill(*_):\n"
        "    try:\n        bytearray(2**30)\n"
        "    except MemoryError:\n        return 'no memory'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import slow_preparation  # pyright: ignore[reportMissingImports]

    preparation = Preparation(SPEC, SPEC.draft_side, max_pixels=10**6, seconds=2)
    try:
        np.testing.assert_array_equal(preparation.start(jpeg()).result(), prepare_image(jpeg(), SPEC, SPEC.draft_side, 10**6))
        reasons = {"sleep": "decoding took more than 2 s and was stopped", "crash": "the decoder crashed or ran out of memory"}
        for name, reason in reasons.items():
            monkeypatch.setattr("cnnkit.serve.preparation.prepare_image", getattr(slow_preparation, name))
            with pytest.raises(OSError) as caught:  # noqa: PT011 (pebble's error and TimeoutError have this base)
                preparation.start(b"").result()
            assert preparation.reason(caught.value) == reason
        monkeypatch.setattr("cnnkit.serve.preparation.prepare_image", slow_preparation.fill)
        assert preparation.start(b"").result() == "no memory"
    finally:
        preparation.close()
