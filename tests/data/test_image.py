from __future__ import annotations

import io
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from cnnkit.data import image as decoder
from cnnkit.data.image import (
    FORMATS,
    SUFFIXES,
    UndecodableError,
    decode_image,
    drafts_differ,
    image_pixels,
    image_size,
    inspect_image,
    read_image,
)
from cnnkit.errors import DataError

Array = NDArray[Any]
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 100, 50], [255, 255, 255]]], np.uint8)  # 2 x 3


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_an_rgb_png_keeps_its_pixels() -> None:
    pixels = decode_image(encoded(Image.fromarray(COLOURS)))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_16_bit_gray_is_scaled_and_not_clipped(kind: str, byte_order: str) -> None:
    wide = np.array([[0, 128, 129, 256], [257, 32768, 65407, 65535]], byte_order)
    data = encoded(Image.fromarray(wide), kind)
    expected = np.rint(wide.astype(np.float64) / 257).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 1], [1, 128, 255, 255]]
    np.testing.assert_array_equal(decode_image(data), np.repeat(expected[:, :, None], 3, axis=2))


def test_16_bit_gray_of_a_pgm_is_scaled() -> None:
    data = b"P5 2 1 65535\n" + np.array([257 * 7, 257 * 200], ">u2").tobytes()
    assert decode_image(data).tolist() == [[[7] * 3, [200] * 3]]


def test_a_32_bit_image_is_refused_because_its_white_is_unknown() -> None:
    data = encoded(Image.fromarray(np.array([[0, 70_000]], np.int32)), "TIFF")
    with pytest.raises(UndecodableError, match="32-bit image has no known white point; save it with 8 or 16 bits"):
        decode_image(data)


def test_negative_levels_are_refused() -> None:
    data = encoded(Image.fromarray(np.array([[0, -1]], np.int32)), "TIFF")
    with pytest.raises(UndecodableError, match="no known white point"):
        decode_image(data)


def test_a_floating_point_image_is_refused_because_its_white_is_unknown() -> None:
    data = encoded(Image.fromarray(np.array([[0.0, 0.5]], np.float32)), "TIFF")
    with pytest.raises(UndecodableError, match="floating-point image has no known white point; save it with 8 or 16 bits"):
        decode_image(data)


# Functions from an upright image to the stored image, for the eight orientations of EXIF (CIPA DC-008, tag 0x0112).
STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(STORED[orientation](COLOURS))), kind, exif=exif)
    np.testing.assert_array_equal(decode_image(data), COLOURS)


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    blocks = np.repeat(np.repeat(COLOURS, 16, axis=0), 16, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](blocks)))
    pixels = decode_image(encoded(stored, "JPEG", exif=exif, quality=95, subsampling=0))
    assert pixels.shape == blocks.shape
    assert np.abs(pixels.astype(int) - blocks).mean() < 6  # a wrong turn would give 90 or more


def test_exif_orientation_of_16_bit_gray_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(Image.fromarray(np.array([[0, 257, 514]], np.uint16)), "PNG", exif=exif)
    assert decode_image(data)[0, :, 0].tolist() == [2, 1, 0]


def test_cmyk_becomes_rgb() -> None:
    ink = np.zeros((1, 4, 4), np.uint8)
    ink[0, [0, 1, 2, 3], [0, 1, 2, 3]] = 255  # one pixel of each ink
    pixels = decode_image(encoded(Image.fromarray(ink, "CMYK"), "TIFF"))
    assert pixels.tolist() == [[[0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]]


def test_cmyk_jpeg_is_not_inverted() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, :, 0] = 255
    np.testing.assert_allclose(decode_image(encoded(Image.fromarray(ink, "CMYK"), "JPEG"))[8, 8], [0, 255, 255], atol=3)


def test_alpha_is_dropped_and_not_blended() -> None:
    rgba = np.dstack([COLOURS, np.array([[0, 1, 128], [254, 255, 0]], np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(rgba))), COLOURS)


@pytest.mark.parametrize("transparency", [1, bytes([255, 128, 0])], ids=["one colour", "alpha per colour"])
def test_transparency_of_a_palette_is_dropped(transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    data = encoded(image, transparency=transparency)
    assert decode_image(data).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_the_first_frame_of_an_animation_is_used() -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "PNG", "WEBP"):
        data = encoded(red, kind, save_all=True, append_images=[blue], duration=10)
        np.testing.assert_allclose(decode_image(data), np.broadcast_to([255, 0, 0], (4, 4, 3)), atol=2, err_msg=kind)


def test_1_bit_becomes_black_and_white() -> None:
    data = encoded(Image.fromarray(np.array([[True, False, True]])))
    assert decode_image(data)[0].tolist() == [[255] * 3, [0] * 3, [255] * 3]


def test_gray_with_alpha_becomes_three_equal_channels() -> None:
    data = encoded(Image.fromarray(np.array([[[7, 0], [200, 255]]], np.uint8), "LA"))
    assert decode_image(data).tolist() == [[[7] * 3, [200] * 3]]


@pytest.mark.parametrize("kind", ["BMP", "DIB", "TIFF", "PPM"])
def test_lossless_formats_keep_the_pixels(kind: str) -> None:
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(COLOURS), kind)), COLOURS)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000"])
def test_formats_in_lossless_mode_keep_the_pixels(kind: str) -> None:
    pixels = noise(32, 32)
    options = {"lossless": True} if kind == "WEBP" else {"irreversible": False}
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(pixels), kind, **options)), pixels)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG", "MPO", "GIF"])
def test_lossy_formats_nearly_keep_the_pixels(kind: str) -> None:
    gray = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    np.testing.assert_allclose(decode_image(encoded(Image.fromarray(gray), kind)), gray, atol=6)


def test_a_text_called_jpg_is_no_image(tmp_path: Path) -> None:
    file = tmp_path / "notes.jpg"
    file.write_text("To do: label the rest")
    with pytest.raises(DataError, match=r"notes\.jpg: not an image in a supported format \(JPEG, PNG, "):
        read_image(file)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    file = tmp_path / "empty.png"
    file.touch()
    with pytest.raises(DataError, match=r"empty\.png: the file is empty$"):
        read_image(file)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_an_error_and_never_half_an_image(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(UndecodableError, match=r"^the file is truncated$"):
        decode_image(data[: int(share * len(data))])


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_says_which_package_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_can_decode_heif", lambda: False)
    with pytest.raises(UndecodableError, match=r"HEIC needs another package; type: pip install 'cnnkit\[heic\]', or convert"):
        decode_image(HEIC)
    with pytest.raises(UndecodableError, match=r"cnnkit\[heic\]"):
        image_size(HEIC)


@pytest.fixture
def heif_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a fake pi-heif that decodes every HEIC to a red square."""

    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode = (4, 4), "RGB"

        def load(self) -> Any:
            self.load_prepare()
            self.im.paste((255, 0, 0), (0, 0, 4, 4))
            return super().load()

    def register(decode_threads: int) -> None:
        assert decode_threads == 1
        monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
        monkeypatch.setitem(Image.OPEN, "HEIF", (Heif, lambda prefix: prefix[4:12] == b"ftypheic"))

    package = ModuleType("pi_heif")
    package.__dict__["register_heif_opener"] = register
    monkeypatch.setitem(sys.modules, "pi_heif", package)
    decoder._can_decode_heif.cache_clear()
    yield
    decoder._can_decode_heif.cache_clear()


def test_heic_is_decoded_where_its_package_is_installed(heif_package: None) -> None:
    pixels, header = inspect_image(HEIC)
    assert (header.format, pixels.shape, pixels[0, 0].tolist()) == ("HEIF", (4, 4, 3), [255, 0, 0])
    with pytest.raises(UndecodableError, match="not an image in a supported format"):
        decode_image(b"\0\0\0\x18ftypmif1" + bytes(100))  # starts like HEIC but is not


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (3000, 1000)))
    assert decode_image(data).shape == (1000, 3000, 3)
    monkeypatch.setattr(decoder, "MAX_PIXELS", 2_999_999)
    monkeypatch.setattr(decoder, "_upright", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UndecodableError, match=r"3000 x 1000 pixels are more than the limit of 2 megapixels"):
        decode_image(data)


def test_the_limit_is_100_megapixels() -> None:
    assert decoder.MAX_PIXELS == 100_000_000


@pytest.mark.parametrize("kind", ["TGA", "ICO", "SGI", "PCX"])
def test_formats_outside_the_list_are_refused(kind: str) -> None:
    data = encoded(Image.fromarray(noise(16, 16)), kind)
    assert Image.open(io.BytesIO(data)).size == (16, 16)  # Pillow itself reads it
    with pytest.raises(UndecodableError, match="not an image in a supported format"):
        decode_image(data)


def test_pillow_knows_every_format_of_the_list() -> None:
    # Pillow raises a KeyError for an unknown name in `formats=`, for every file that no earlier name fits.
    assert {"JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM", "JPEG2000"} <= set(FORMATS)
    assert all(name in Image.OPEN for name in FORMATS)


def test_every_format_is_found_by_its_usual_suffix() -> None:
    for name in FORMATS:
        assert SUFFIXES & {suffix for suffix, known in Image.EXTENSION.items() if known == name}, name


def test_any_exception_of_a_broken_file_becomes_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise SystemError("tile cannot extend outside image")

    monkeypatch.setattr(decoder, "_upright", explode)
    with pytest.raises(UndecodableError, match="cannot be decoded: tile cannot extend outside image"):
        decode_image(encoded(Image.fromarray(COLOURS)))


def test_too_little_memory_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoder, "_upright", explode)
    with pytest.raises(UndecodableError, match="decoding needs more memory than is available"):
        decode_image(encoded(Image.fromarray(COLOURS)))


def test_ctrl_c_is_not_taken_for_a_broken_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoder, "_upright", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode_image(encoded(Image.fromarray(COLOURS)))


def test_read_image_names_an_unreadable_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: No such file or directory"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="Is a directory"):
        read_image(tmp_path)


def test_read_image_takes_a_path_as_text(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "colours.png")
    np.testing.assert_array_equal(read_image(str(tmp_path / "colours.png")), COLOURS)


def test_image_size_is_read_from_the_header_alone() -> None:
    data = encoded(Image.fromarray(noise(30, 50)), "JPEG")
    assert image_size(data[:700]) == (30, 50)  # half a file has a whole header
    with pytest.raises(UndecodableError, match="not an image"):
        image_size(b"text")
    with pytest.raises(UndecodableError, match="the file is empty"):
        image_size(b"")


def test_pillows_warnings_about_metadata_are_not_passed_on(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "palette.png", transparency=bytes([255, 128]))
    program = "from cnnkit.data.image import read_image; print(read_image('palette.png').tolist())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[[[255, 0, 0], [0, 255, 0]]]\n", "")


@pytest.mark.parametrize(
    ("name", "kind", "options", "expected"),
    [
        ("L", "JPEG", {}, ("JPEG", "L", 1, False, 75)),
        ("RGB", "JPEG", {"progressive": True, "quality": 90}, ("JPEG", "RGB", 1, False, 90)),
        ("CMYK", "JPEG", {"quality": 50}, ("JPEG", "CMYK", 1, False, 50)),
        ("RGBA", "PNG", {}, ("PNG", "RGBA", 1, False, 0)),
        ("LA", "PNG", {}, ("PNG", "LA", 1, False, 0)),
        ("P", "PNG", {}, ("PNG", "P", 1, False, 0)),
        ("1", "PNG", {}, ("PNG", "1", 1, False, 0)),
        ("I;16", "PNG", {}, ("PNG", "I;16", 1, False, 0)),
        ("I;16", "TIFF", {}, ("TIFF", "I;16", 1, False, 0)),
        ("RGB", "WEBP", {}, ("WEBP", "RGB", 1, False, 0)),
        ("RGB", "AVIF", {}, ("AVIF", "RGB", 1, False, 0)),
    ],
)
def test_header_says_how_the_image_is_stored(name: str, kind: str, options: dict[str, Any], expected: tuple[object, ...]) -> None:
    gray = np.full((24, 24), 257 * 100, np.uint16)
    image = Image.fromarray(gray) if name == "I;16" else Image.new("RGB", (24, 24), (100, 100, 100)).convert(name)
    pixels, header = inspect_image(encoded(image, kind, **options))
    assert (header.format, header.mode, header.orientation, header.animated, header.quality) == expected
    mean = pixels.mean((0, 1))
    if name == "1":  # black and white, in the share that looks gray
        np.testing.assert_allclose(mean, [100] * 3, atol=12)
        assert set(np.unique(pixels)) == {0, 255}
    else:
        np.testing.assert_allclose(mean, [100] * 3, atol=3)


@pytest.mark.parametrize("quality", range(10, 96, 5))
def test_quality_of_a_jpeg_is_estimated(quality: int) -> None:
    header = inspect_image(encoded(Image.fromarray(noise(16, 16)), "JPEG", quality=quality))[1]
    assert header.quality == quality


def test_quality_of_odd_quantisation_tables_stays_within_the_scale() -> None:
    for value, expected in ((1, 100), (255, 1)):
        tables = [[value] * 64, [value] * 64]
        assert inspect_image(encoded(Image.fromarray(noise(16, 16)), "JPEG", qtables=tables))[1].quality == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_header_says_that_there_are_more_frames(kind: str) -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    assert inspect_image(encoded(red, kind, save_all=True, append_images=[blue]))[1].animated
    assert not inspect_image(encoded(red, kind))[1].animated


def test_a_gif_that_ends_within_its_second_frame_gives_its_first_or_is_refused() -> None:
    frames = [Image.fromarray(noise(24, 24) // (1 + number)) for number in range(2)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    whole = decode_image(data)
    outcomes: set[str] = set()
    for length in range(1000, len(data), 3):  # behind its header and palette
        try:
            pixels = decode_image(data[:length])
        except UndecodableError as error:
            outcomes.add(str(error))
        else:
            np.testing.assert_array_equal(pixels, whole)
            outcomes.add("decoded")
    assert outcomes == {"decoded", "the file is truncated"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_header_says_how_the_image_was_turned(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert inspect_image(encoded(Image.fromarray(noise(16, 24)), kind, exif=exif))[1].orientation == orientation


@pytest.mark.parametrize("tag", [0, 9, 1000])
def test_an_unknown_orientation_turns_nothing(tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    pixels, header = inspect_image(encoded(Image.fromarray(COLOURS), "PNG", exif=exif))
    assert header.orientation == 1
    np.testing.assert_array_equal(pixels, COLOURS)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # as in use; pytest forgets what a module ignores
def test_broken_exif_beside_good_pixels_is_passed_over() -> None:
    image = Image.fromarray(noise(16, 16))
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01", b"Exif\0\0"):
        np.testing.assert_array_equal(decode_image(encoded(image, "JPEG", exif=exif)), decode_image(encoded(image, "JPEG")))


@pytest.mark.parametrize("strip", [1, 7, 40, 1_000_000])
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK", "I;16"])
def test_an_image_is_the_same_in_strips_of_any_height(monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int, strip: int) -> None:
    monkeypatch.setattr(decoder, "STRIP_PIXELS", strip)
    random = np.random.default_rng(1)
    wide = Image.fromarray(random.integers(0, 65_536, (13, 7), np.uint16))
    image = wide if mode == "I;16" else Image.fromarray(noise(13, 7)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))  # Pillow turns the whole image
    plain = (
        np.rint(np.asarray(turned) / 257).astype(np.uint8)[:, :, None].repeat(3, 2) if mode == "I;16" else np.asarray(turned.convert("RGB"))
    )
    np.testing.assert_array_equal(decode_image(data), plain)


def test_a_32_bit_image_is_refused_if_any_strip_has_large_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "STRIP_PIXELS", 4)
    wide = np.zeros((8, 4), np.int32)
    wide[7, 3] = 70_000
    with pytest.raises(UndecodableError, match="no known white point"):
        decode_image(encoded(Image.fromarray(wide), "TIFF"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as in use; pytest forgets what a module ignores
def test_a_small_file_of_a_huge_image_is_refused() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    for pixels in (12_000, 60_000):  # above our limit, above Pillow's own
        size = pixels.to_bytes(4, "big") * 2
        data = (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        )
        with pytest.raises(UndecodableError, match=r"pixels are more than the limit of 100 megapixels$"):
            decode_image(data)


def test_the_suffix_of_a_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(Image.fromarray(COLOURS), "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / "photo.jpg"), COLOURS)
    assert inspect_image((tmp_path / "photo.jpg").read_bytes())[1].format == "PNG"


def test_a_pillow_image_gives_the_same_pixels_as_its_file() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(noise(9, 5)), exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(image_pixels(image), decode_image(data))


def smooth(height: int, width: int) -> Image.Image:
    """Return a gradient, whose drafts are its area averages."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * rows / height, 255 * columns / width, 128 + 0 * rows], axis=2).astype(np.uint8))


DRAFTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "baseline": ("JPEG", "RGB", {}),
    "progressive": ("JPEG", "RGB", {"progressive": True}),
    "full colour": ("JPEG", "RGB", {"subsampling": 0}),
    "gray": ("JPEG", "L", {}),
    "CMYK": ("JPEG", "CMYK", {}),
    "stereo": ("MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (96, 64))]}),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_is_a_smaller_version_of_the_same_upright_image(name: str, orientation: int) -> None:
    kind, mode, options = DRAFTS[name]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(64, 96).convert(mode), kind, quality=95, exif=exif, **options)
    whole, header = inspect_image(data)
    assert (header.height, header.width) == whole.shape[:2]
    for side, scale in ((33, 1), (32, 2), (17, 2), (16, 4), (8, 8), (1, 8)):
        draft, same = inspect_image(data, side)
        assert same == header
        assert draft.shape == (whole.shape[0] // scale, whole.shape[1] // scale, 3)
        averages = whole.reshape(draft.shape[0], scale, draft.shape[1], scale, 3).mean((1, 3))
        assert np.abs(averages - draft).max() < 4  # a wrong turn or a wrong scale would give 60 or more
        np.testing.assert_array_equal(draft, decode_image(data, side))


def test_a_draft_is_that_of_pillow_with_the_same_side() -> None:
    """Other programs can do the same: see docs/using.md."""
    for height, width in ((50, 77), (333, 500), (31, 97)):
        data = encoded(Image.fromarray(noise(height, width)), "JPEG")
        for side in (1, 4, 11, 25, 60, 400):
            with Image.open(io.BytesIO(data)) as image:
                image.draft("RGB", (side, side))
                np.testing.assert_array_equal(decode_image(data, side), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP"])
def test_only_jpegs_have_drafts(kind: str) -> None:
    data = encoded(smooth(64, 96), kind)
    np.testing.assert_array_equal(decode_image(data, 8), decode_image(data))
    assert not drafts_differ(inspect_image(data)[1], 8, None)


def test_drafts_differ_if_their_scales_do(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(smooth(64, 96), "JPEG"))
    header = inspect_image((tmp_path / "photo.jpg").read_bytes())[1]
    assert [drafts_differ(header, 32, side) for side in (None, 33, 32, 17, 16)] == [True, True, False, False, True]
    assert read_image(tmp_path / "photo.jpg").shape == (64, 96, 3)
    assert read_image(tmp_path / "photo.jpg", 32).shape == (32, 48, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}], ids=str)
def test_a_draft_hides_no_damage(options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(noise(64, 96)), "JPEG", **options)
    random = np.random.default_rng(0)
    for _ in range(60):
        spoiled = bytearray(data[: random.integers(2, len(data))] if random.random() < 0.5 else data)
        spoiled[random.integers(len(spoiled))] = random.integers(256)
        outcomes: set[str] = set()
        for side in (None, 32, 16, 8):
            try:
                outcomes.add(str(inspect_image(bytes(spoiled), side)[1]))
            except UndecodableError as error:
                outcomes.add(str(error))
        assert len(outcomes) == 1
