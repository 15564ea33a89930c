"""The one decoder: bytes of an image file in, uint8 RGB pixels out.

Rules, the same for training, evaluation, prediction and export checks: EXIF orientation is applied; 16-bit gray is scaled
to 8 bits; alpha is dropped, as torchvision and timm do; the first frame of an animation is used; a truncated file is
an error and never half an image.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cnnkit.errors import DataError

# Pillow knows some fifty formats; these are the ones people keep photographs and drawings in. The rest (PSD, DDS, BLP, ...)
# are where crafted files cost memory: one 284-byte BLP took 640 MB (measured on a collection of fuzzer findings).
Image.init()  # formats are loaded on demand otherwise, and one asked for by name before that is a KeyError
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM", "MPO", "JPEG2000", "DIB") if name in Image.OPEN
)
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".mpo", ".jp2", ".j2k", ".heic", ".heif"}
)
# 100 megapixels are 300 MB of RGB; above any camera in common use and below what endangers the machine.
MAX_PIXELS = 100_000_000
WHITE = 65_535  # of 16-bit gray
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")

# Damaged metadata beside good pixels is not worth a line per image; what cannot be decoded raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UndecodableError(DataError):
    """An image that cannot be read; the message is the reason alone, without the file's name."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Decode the image file `path` to uint8 RGB (H, W, 3).

    Raises `DataError` that names the file and the reason.
    """
    try:
        return decode_image(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UndecodableError as error:
        raise DataError(f"{path}: {error}") from None


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to uint8 RGB (H, W, 3); raises `UndecodableError`."""
    try:
        with _open(data) as image:
            return _to_rgb(image)
    except UndecodableError:
        raise
    except MemoryError:
        raise UndecodableError("needs more memory than there is") from None
    except Exception as error:  # noqa: BLE001 (of broken files, one in ten raises something that is no OSError)
        raise UndecodableError(_reason(data, error)) from None


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) from the header alone, before orientation; raises `UndecodableError`."""
    try:
        with _open(data) as image:
            return image.height, image.width
    except UndecodableError:
        raise
    except Exception as error:  # noqa: BLE001 (as above)
        raise UndecodableError(_reason(data, error)) from None


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UndecodableError("the file is empty")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise UndecodableError(f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS // 1_000_000} megapixels")
    return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _WIDE_MODES:
        wide = np.asarray(upright).astype(np.int32)
        if wide.min() < 0 or wide.max() > WHITE:
            raise UndecodableError("a 32-bit image has no known white point; save it with 8 or 16 bits")
        wide += 128
        wide //= 257  # 65535 -> 255, rounded; Pillow's own conversion would clip at 255
        return np.repeat(wide.astype(np.uint8)[:, :, None], 3, axis=2)
    if upright.mode == "F":
        raise UndecodableError("a floating-point image has no known white point; save it with 8 or 16 bits")
    return np.asarray(upright.convert("RGB"))


def _reason(data: bytes, error: Exception) -> str:
    if data[4:12] in {b"ftypheic", b"ftypheix", b"ftypheif", b"ftypmif1", b"ftypmsf1", b"ftyphevc"}:
        return "HEIC/HEIF is not supported; convert it to JPEG or PNG (for instance with the package pillow-heif)"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image in a supported format ({', '.join(FORMATS[:7])}, ...)"
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return f"cannot be decoded: {str(error) or type(error).__name__}"
