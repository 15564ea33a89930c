from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data import image
from cnnkit.data.store import fast_decoder
from cnnkit.data.store.fast_decoder import MIN_BYTES, jpeg_decoder


def encoded(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def photo(orientation: int = 1) -> bytes:
    """Return a JPEG of (H, W) = (240, 320), large enough for the fast decoder."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(3).integers(0, 256, (240, 320, 3), np.uint8)
    data = encoded(pixels, quality=98, exif=exif)
    assert len(data) >= MIN_BYTES
    return data


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that installs a fake torchcodec, which decodes with Pillow; `install.seen` holds the decoded files."""

    def decode(source: torch.Tensor, *, spoil: int = 0, error: Exception | None = None) -> torch.Tensor:
        if error:
            raise error
        data = source.numpy().tobytes()
        seen.append(data)
        return torch.from_numpy(by_pillow(data) ^ np.uint8(spoil)).permute(2, 0, 1)

    def run(**options: Any) -> None:
        package = ModuleType("torchcodec.decoders")
        package.__dict__["decode_jpeg"] = lambda source: decode(source, **options)
        monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", package)
        fast_decoder._checked.cache_clear()

    seen: list[bytes] = []
    run.seen = seen  # type: ignore[attr-defined]
    yield run
    fast_decoder._checked.cache_clear()


def test_an_installed_decoder_decodes_large_jpegs(install: Any) -> None:
    install()
    data = photo()
    decode = jpeg_decoder(len(data))
    assert decode is not None
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    assert jpeg_decoder(MIN_BYTES - 1) is None


def test_the_decoder_is_not_loaded_without_torch(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.delitem(sys.modules, "torch")
    assert jpeg_decoder(MIN_BYTES) is None


def test_the_decoder_is_not_used_if_a_bit_of_a_sample_differs(install: Any) -> None:
    install(spoil=1)
    assert jpeg_decoder(MIN_BYTES) is None


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_a_package_made_for_another_torch_is_not_used(install: Any, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def explode(_: str) -> None:
        raise error("undefined symbol")

    install()
    monkeypatch.setattr(fast_decoder.importlib, "import_module", explode)
    assert jpeg_decoder(MIN_BYTES) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_once(install: Any, orientation: int) -> None:
    data = photo(orientation)
    expected = image.decode_image(data)
    install()
    pixels, header = image.inspect_image(data)
    np.testing.assert_array_equal(pixels, expected)
    assert header.orientation == orientation
    assert len(install.seen[-1]) == len(data)
    assert Image.open(io.BytesIO(install.seen[-1])).getexif().get(0x0112) is None  # torchcodec itself would turn it too


def test_a_decoder_that_refuses_the_samples_is_not_used(install: Any) -> None:
    install(error=RuntimeError("Image is incomplete or truncated"))
    assert jpeg_decoder(MIN_BYTES) is None


def test_pillow_decodes_a_refused_file(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo()
    monkeypatch.setattr(image, "jpeg_decoder", lambda _: lambda _: None)
    np.testing.assert_array_equal(image.decode_image(data), by_pillow(data))
    monkeypatch.setattr(image, "jpeg_decoder", lambda _: lambda _: np.zeros((2, 2, 3), np.uint8))  # not the size of the header
    np.testing.assert_array_equal(image.decode_image(data), by_pillow(data))


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "RGB")])
def test_other_files_do_not_reach_the_decoder(monkeypatch: pytest.MonkeyPatch, kind: str, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").convert(mode).save(buffer, kind)
    monkeypatch.setattr(image, "jpeg_decoder", lambda _: pytest.fail("the decoder was called"))
    assert image.decode_image(buffer.getvalue()).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1\0\x01\xff\xda\0\x02",
        b"\xff\xd8\xff\xd0\0\x08\xff\xda\0\x02",
        b"\xff\xd8\xff\xe1\xff\xffEx",
    ],
    ids=["empty", "start", "half a marker", "too short", "restart", "cut"],
)
def test_an_unknown_structure_is_left_to_pillow(data: bytes) -> None:
    assert not fast_decoder._hide_metadata(bytearray(data))


def test_torchcodec_gives_the_pixels_of_pillow() -> None:
    pytest.importorskip("torchcodec", reason="the extra fast is not installed", exc_type=ImportError)
    fast_decoder._checked.cache_clear()
    decode = jpeg_decoder(MIN_BYTES)
    assert decode, "torchcodec is installed, but its pixels differ from Pillow's"
    pixels = np.random.default_rng(4).integers(0, 256, (61, 83, 3), np.uint8)
    for quality in (30, 75, 95):
        for subsampling in (0, 1, 2):
            data = encoded(pixels, quality=quality, subsampling=subsampling, progressive=quality == 75)
            np.testing.assert_array_equal(decode(data), by_pillow(data))
            assert decode(data[: len(data) // 2]) is None
