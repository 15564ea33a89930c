"""Speed of decoding on one core by Pillow alone and with torchcodec of the extra ``fast``, and a check that both agree.

    python docs/benchmarks/decoding.py FOLDER [FILES]

Decodes up to FILES (default 200) JPEGs of FOLDER and of its subfolders, spread evenly over them, and the first of them once
more at 12 megapixels, each several times, by turns; the best time of every file counts, so that other work on the machine
matters little. ``open + convert`` is Pillow without any rule of cnnkit (orientation, 16 bits, header). Exits with 1 if the
two decoders differ in one bit of one file, or if one refuses what the other decodes.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from document import add_option, save
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data import image
from cnnkit.data.store import fast_decoder

REPEATS = 7
LARGE = (4000, 3000)  # px: a photo of a telephone


def by_pillow_alone(data: bytes) -> NDArray[np.uint8]:
    """Decode without cnnkit."""
    return np.asarray(Image.open(io.BytesIO(data), formats=("JPEG",)).convert("RGB"))


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """Decode as cnnkit does without the extra."""
    image.jpeg_decoder = lambda _: None
    return image.inspect_image(data)[0]


def by_torchcodec(data: bytes) -> NDArray[np.uint8]:
    """Decode as cnnkit does with the extra, whatever the size of the file."""
    image.jpeg_decoder = lambda _: fast_decoder.jpeg_decoder(fast_decoder.MIN_BYTES)
    return image.inspect_image(data)[0]


def seconds(decode: Sequence[Callable[[bytes], NDArray[np.uint8]]], files: Sequence[bytes]) -> list[float]:
    """Return the time of every way to decode, summed over the best of each file."""
    best = np.full((len(decode), len(files)), np.inf)
    for column, data in enumerate(files):
        for _ in range(REPEATS):
            for row, way in enumerate(decode):
                started = time.perf_counter()
                way(data)
                best[row, column] = min(best[row, column], time.perf_counter() - started)
    return [float(total) for total in best.sum(1)]


def outcome(decode: Callable[[bytes], NDArray[np.uint8]], data: bytes) -> tuple[object, ...]:
    """Return what can be compared of the image, or of the refusal."""
    try:
        pixels = decode(data)
    except image.UndecodableError as error:
        return (str(error),)
    return pixels.shape, pixels.tobytes()


def differences(files: Sequence[bytes]) -> int:
    """Count the files, whole and cut in half, of which the two decoders make something different."""
    halves = [data[: len(data) // 2] for data in files]
    return sum(outcome(by_pillow, data) != outcome(by_torchcodec, data) for data in (*files, *halves))


def enlarged(data: bytes) -> bytes:
    """Return the photo at 12 megapixels."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize(LARGE).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=int, nargs="?", default=200, help="JPEGs to decode at most")
    add_option(parser)
    given = parser.parse_args()
    folder, most = given.folder, given.files
    torch.set_num_threads(1)
    names = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    if not names:
        sys.exit(f"{folder}: no JPEGs")
    files = [path.read_bytes() for path in names[:: -(-len(names) // most)]]
    ways: dict[str, Callable[[bytes], NDArray[np.uint8]]] = {"Pillow, open + convert": by_pillow_alone, "cnnkit": by_pillow}
    if fast_decoder.jpeg_decoder(fast_decoder.MIN_BYTES):
        ways["cnnkit[fast]"] = by_torchcodec
    sizes = {f"{len(files)} of {folder.name}": files, f"{LARGE[0]} x {LARGE[1]}": [enlarged(files[0])]}
    rows: list[tuple[str, ...]] = []
    for name, group in sizes.items():
        for way, spent in zip(ways, seconds(list(ways.values()), group), strict=True):
            rows.append((name, way, f"{1000 * spent / len(group):.2f}", f"{len(group) / spent:.0f}"))
            print(f"{name:24} {way:24} {1000 * spent / len(group):8.2f} ms  {len(group) / spent:8.0f} images/s")
    claim = f"{rows[-1][1]} decodes a JPEG of {LARGE[0]} x {LARGE[1]} px in {rows[-1][2]} ms on one core."
    save(given.json, "The decoder", claim, ("files", "decoder", "ms a file", "images/s"), rows)
    if len(ways) == 2:  # noqa: PLR2004 (the two without torchcodec)
        print("torchcodec is not installed, or differs from this Pillow: pip install 'cnnkit[fast]'")
        return 0
    different = differences([data for group in sizes.values() for data in group])
    print(f"{different} files come out different")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
