"""The one decoder: bytes of an image file in, uint8 RGB pixels out.

The rules are the same for training, evaluation, prediction and export checks. EXIF orientation is applied. 16-bit gray is scaled
to 8 bits. Alpha is dropped, as in torchvision and timm. The first frame of an animation is used. A truncated file is an error and
never half an image. A model may ask for JPEGs at a fraction of their size, which libjpeg decodes faster: `draft_side` of its
preprocessing.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from cnnkit.data.store.fast_decoder import jpeg_decoder
from cnnkit.errors import DataError
from cnnkit.files import open_regular
from cnnkit.model.preprocessing import draft_scale

# Pillow knows about fifty formats; photographs and drawings come in these. Crafted files of the others (PSD, DDS, BLP, ...) cost
# memory: see docs/benchmarks/LOG.md, "Formats of an image file". The name of a format that is not loaded is a KeyError.
Image.preinit()  # JPEG, PNG, GIF, BMP, DIB and PPM; loading all formats would take 20 ms longer
for _plugin in ("Avif", "Jpeg2K", "Tiff", "WebP"):
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM", "MPO", "JPEG2000", "DIB") if name in Image.OPEN
)
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".mpo", ".jp2", ".j2k", ".heic", ".heif"}
)
MAX_PIXELS = 100_000_000
"""Limit of an image's pixels: 100 megapixels are above any camera in common use and do not endanger the machine.

Decoding such an image takes 0.74 to 2.0 GB, by format: see docs/benchmarks/LOG.md, "Largest image". Every process that decodes at
the same time needs as much.
"""
STRIP_PIXELS = 1 << 20  # pixels that are converted at a time
MAX_GRAY16 = 65_535  # the white level of 16-bit gray
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")

# Functions from the upright image (H, W) to the stored image, by orientation (CIPA DC-008, tag 0x0112). Views copy nothing.
_STORED_VIEWS: dict[int, Callable[[NDArray[np.void]], NDArray[np.void]]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: upright[:, ::-1].T,
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: upright[::-1].T,
}
_SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)
_DRAFT_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with more images behind it
_FAST_MODES = ("RGB", "L")  # modes of JPEG in which the fast decoder was compared with Pillow on thousands of files

# Pillow leaves HEIC to packages of the same interface; the first installed package is used. pi-heif comes first
# because it only decodes: the wheels of pillow-heif carry an encoder under the GPL.
HEIF_PACKAGES = ("pi_heif", "pillow_heif")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"heif", b"mif1", b"msf1"})

# Damaged metadata beside good pixels is not worth a line per image; undecodable images raise an error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# The luminance table of quality 50 in libjpeg (ITU-T T.81, table K.1), row by row; tables of other qualities are scaled from it.
_LUMINANCE_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112),
    *(100, 103, 99),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """Facts that a file states about its image.

    `width` and `height` are those of the whole upright image in px. `format` and `mode` are Pillow's names. `orientation` is the EXIF
    orientation (1: upright). `animated` images have several frames. `quality` is the JPEG quality on libjpeg's scale 1-100, estimated
    from the quantisation table, and 0 for other formats. `taken` is the time of the exposure in EXIF, in seconds since 1970 in the clock
    of the camera, and 0 if there is none.
    """

    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    orientation: int = 1
    animated: bool = False
    quality: int = 0
    taken: float = 0.0


class UndecodableError(DataError):
    """An error for an image that cannot be read; the message is the reason alone, without the file's name."""


def read_image(path: str | Path, draft_side: int | None = None) -> NDArray[np.uint8]:
    """Decode the image file `path` to uint8 RGB (H, W, 3) as `inspect_image` does.

    Raises a `DataError` that names the file and the reason.
    """
    try:
        return decode_image(read_file(str(path)), draft_side)
    except UndecodableError as error:
        raise DataError(f"{path}: {error}") from None


def read_file(path: str) -> bytes:
    """Return the bytes of a regular file; raises `UndecodableError` for others, since reading a pipe or device might never end."""
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise UndecodableError(error.strerror or str(error)) from None


def decode_image(data: bytes, draft_side: int | None = None) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to uint8 RGB (H, W, 3) as `inspect_image` does; raises `UndecodableError`."""
    return inspect_image(data, draft_side)[0]


def inspect_image(data: bytes, draft_side: int | None = None) -> tuple[NDArray[np.uint8], Header]:
    """Decode the bytes of an image file to uint8 RGB (H, W, 3) and its `Header`; raises `UndecodableError`.

    The pixels are those of the whole image. With a `draft_side`, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that leaves at
    least `draft_side` px of the shorter side (`draft_scale`).
    """
    with _undecodable_errors(data), _open(data) as image:
        kind, mode = image.format or "", image.mode  # read before loading, which changes the mode of some formats
        orientation = _orientation(image)
        width, height = image.size
        drafted = _draft(image, draft_side)
        pixels = None if drafted else _decode_fast(data, image, orientation)
        if pixels is None:
            image.load()
            pixels = _upright(image, _orientation(image))  # read again: Pillow turns a TIFF itself
        if not drafted:
            height, width = pixels.shape[:2]
        elif orientation in _SIDEWAYS_ORIENTATIONS:
            height, width = width, height
        return pixels, Header(width, height, kind, mode, orientation, _is_animated(image), _quality(image), _taken(image))


def drafts_differ(header: Header, one: int | None, other: int | None) -> bool:
    """Return whether the image of `header` has other pixels with the `draft_side` `one` than with `other`."""
    scales = (draft_scale(header.height, header.width, side) for side in (one, other))
    return header.format in _DRAFT_FORMATS and len(set(scales)) > 1


def image_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image as uint8 RGB (H, W, 3), by the rules for files; raises `UndecodableError`."""
    with _undecodable_errors(b""):  # Pillow may have opened a broken file
        image.load()
        return _upright(image.copy(), _orientation(image))


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) from the header alone, before orientation; raises `UndecodableError`."""
    with _undecodable_errors(data), _open(data) as image:
        return image.height, image.width


@contextmanager
def _undecodable_errors(data: bytes) -> Generator[None]:
    """Turn every exception raised while `data` is decoded into an `UndecodableError` with the reason."""
    try:
        yield
    except UndecodableError:
        raise
    except MemoryError:
        raise UndecodableError("decoding needs more memory than is available") from None
    except Exception as error:  # noqa: BLE001 (one in ten broken files raises an exception that is no OSError)
        raise UndecodableError(_reason(data, error)) from None


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UndecodableError("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        if not (_is_heif(data) and _can_decode_heif()):
            raise
        image = Image.open(io.BytesIO(data), formats=("HEIF",))
    if image.width * image.height > MAX_PIXELS:
        raise UndecodableError(f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS // 1_000_000} megapixels")
    return image


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


@cache
def _can_decode_heif() -> bool:
    """Return True if one of `HEIF_PACKAGES` is installed, after registering it with Pillow."""
    for name in HEIF_PACKAGES:
        with suppress(ImportError, OSError):  # OSError: a package made for another system
            importlib.import_module(name).register_heif_opener(decode_threads=1)  # images are decoded in parallel already
            return True
    return False


def _orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF or XMP, 1-8; any other value is damage and counts as upright."""
    tag = image.getexif().get(ExifTags.Base.Orientation, 1)
    return next((known for known in _STORED_VIEWS if known == tag), 1)  # a tag may be of any type, hashable or not


def _taken(image: Image.Image) -> float:
    """Return the time of the exposure in EXIF in seconds, or 0; damaged metadata count as none."""
    with suppress(Exception):  # Pillow parses whatever the tag of the EXIF table points at
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif) if exif else {}
        text = details.get(ExifTags.Base.DateTimeOriginal)
        if isinstance(text, str):
            taken = datetime.strptime(text.strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
            fraction = str(details.get(ExifTags.Base.SubsecTimeOriginal, "")).strip("\0 ")
            return max(0.0, taken + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0))
    return 0.0


def _draft(image: Image.Image, draft_side: int | None) -> bool:
    """Let Pillow decode a JPEG at a fraction of its size, if `draft_side` allows; return whether it will."""
    whole = image.size
    scale = draft_scale(image.height, image.width, draft_side) if image.format in _DRAFT_FORMATS else 1
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    return image.size != whole


def _decode_fast(data: bytes, image: Image.Image, orientation: int) -> NDArray[np.uint8] | None:
    """Return the upright pixels of a JPEG, decoded by the extra ``fast``; None if that decoder cannot be used."""
    decode = jpeg_decoder(len(data)) if image.format == "JPEG" and image.mode in _FAST_MODES else None
    stored = decode(data) if decode else None
    if stored is None or stored.shape != (image.height, image.width, 3):
        return None
    if orientation == 1:
        return stored
    upright, target = _upright_buffer(image, orientation)
    target[:] = _as_pixels(stored)
    return upright


def _upright(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    """Return the pixels of a loaded image, turned upright; raises `UndecodableError`."""
    image.info.pop("transparency", None)  # alpha is dropped; converting it costs time and warns
    if orientation == 1 and image.width * image.height <= STRIP_PIXELS:
        return _rgb(image)
    # Strips go straight to their target: converting, turning and copying the whole image would each need its memory once more.
    upright, target = _upright_buffer(image, orientation)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        target[top:bottom] = _as_pixels(_rgb(image.crop((0, top, image.width, bottom))))
    return upright


def _upright_buffer(image: Image.Image, orientation: int) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    """Return an empty upright image, uint8 (H, W, 3), and a view of it in the stored orientation, (rows, columns) of pixels."""
    shape = (image.width, image.height, 3) if orientation in _SIDEWAYS_ORIENTATIONS else (image.height, image.width, 3)
    upright = np.empty(shape, np.uint8)
    return upright, _STORED_VIEWS[orientation](_as_pixels(upright))


def _as_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.void]:
    """View (H, W, 3) bytes as (H, W) pixels, which NumPy turns almost twice as fast."""
    return np.ascontiguousarray(pixels).view("V3")[:, :, 0]


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WIDE_MODES:
        wide = np.asarray(image).astype(np.int32)
        if wide.min() < 0 or wide.max() > MAX_GRAY16:
            raise UndecodableError("a 32-bit image has no known white point; save it with 8 or 16 bits")
        wide += 128
        wide //= 257  # 65535 -> 255, rounded; Pillow's own conversion would clip at 255
        return np.repeat(wide.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UndecodableError("a floating-point image has no known white point; save it with 8 or 16 bits")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _is_animated(image: Image.Image) -> bool:
    """Return True if there is a second frame. Call it after decoding: for a GIF, Pillow reads on, perhaps into damage."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 (some truncated GIFs raise IndexError)
        return True


def _quality(image: Image.Image) -> int:
    table = (getattr(image, "quantization", None) or {}).get(0)
    return _quality_of(sum(table)) if table else 0


@cache
def _quality_of(total: int) -> int:
    """Return the quality whose luminance table has the sum nearest to `total`."""
    return min(range(1, 101), key=lambda quality: abs(_table_sum(quality) - total))


def _table_sum(quality: int) -> int:
    """Return the sum of libjpeg's table for `quality`: one-byte values, scaled by 5000 / q percent below 50, else by 200 - 2 q."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality  # noqa: PLR2004 (libjpeg's limit)
    return sum(max(1, min(255, (value * percent + 50) // 100)) for value in _LUMINANCE_TABLE)


def _reason(data: bytes, error: Exception) -> str:
    text = str(error).strip()
    if isinstance(error, Image.UnidentifiedImageError):
        if _is_heif(data) and not _can_decode_heif():
            return "HEIC needs another package; type: pip install 'cnnkit[heic]', or convert the image to JPEG or PNG"
        return f"not an image in a supported format ({', '.join(FORMATS[:7])}, ...)"
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit, above ours
        return f"its pixels are more than the limit of {MAX_PIXELS // 1_000_000} megapixels"
    if any(sign in text.lower() for sign in ("truncated", "unexpected end of file")):
        return "the file is truncated"
    return f"cannot be decoded: {text or type(error).__name__}"
