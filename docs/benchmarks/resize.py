"""CPU time from a JPEG to a canvas of 224 px on one thread, beside decoding it whole and Pillow's shortcut.

    python docs/benchmarks/resize.py

The photograph is scikit-learn's, enlarged or shrunk to each size, with noise so that 12 megapixels take about 4 MB. Pillow's shortcut is
its draft mode, in which libjpeg decodes a photograph at an eighth of its size or more, and a box filter. Every way takes its turn several
times; the least CPU time counts. Exits with 1 if the canvases in blocks and in dense products differ.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from document import add_option, save
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from threadpoolctl import threadpool_limits

from cnnkit.data.image import decode_image
from cnnkit.data.store.decoding import decode_block
from cnnkit.model.canvas import make_canvas
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing, draft_side_for

REPEATS = 9
WHOLE = Preprocessing(image_size=224, mean=(0.5,) * 3, std=(0.25,) * 3)
SPEC = WHOLE.model_copy(update={"draft_side": draft_side_for(224, 1.0)})
SIZES = ((4000, 3000), (3000, 2000), (2000, 1500), (640, 480), (500, 375))
NOISE = 8  # levels of standard deviation


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """Decode in draft mode and resize the centre square by a box filter."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (SPEC.image_size, SPEC.image_size))
    pixels = image.convert("RGB")
    edge = min(pixels.size)
    left, top = (pixels.width - edge) // 2, (pixels.height - edge) // 2
    resized = pixels.resize((SPEC.image_size, SPEC.image_size), Image.Resampling.BOX, box=(left, top, left + edge, top + edge))
    return np.asarray(resized)


def by_dense_products(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize as the exported graph does."""
    with torch.inference_mode():
        return Preprocess(SPEC).resample(torch.from_numpy(image.copy())[None]).to(torch.uint8).numpy()


def photograph(size: tuple[int, int]) -> bytes:
    """Return a JPEG of `size` (width, height)."""
    buffer = io.BytesIO()
    pixels = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize(size, Image.Resampling.BICUBIC))
    noisy = pixels + np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def canvas(data: bytes, spec: Preprocessing) -> NDArray[np.uint8]:
    """Decode and resize as ``cnnkit predict`` does."""
    return make_canvas(decode_image(data, spec.draft_side)[None], spec)


def milliseconds(ways: list[Callable[[], object]]) -> list[float]:
    """Return the least CPU time of each way."""
    best = [float("inf")] * len(ways)
    for _ in range(REPEATS):
        for index, way in enumerate(ways):
            started = time.process_time()
            way()
            best[index] = min(best[index], 1000 * (time.process_time() - started))
    return best


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_option(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    rows: list[tuple[str, ...]] = []
    equal = True
    columns = (
        "photograph, px",
        "file, MB",
        "dense products, ms",
        "decoded whole and blocks, ms",
        "draft and blocks, ms",
        "the same with facts, ms",
        "draft and box, ms",
        "cnnkit / draft and box",
    )
    for size in SIZES:
        data = photograph(size)
        image = decode_image(data)
        equal &= np.array_equal(by_dense_products(image), make_canvas(image[None], WHOLE))
        ways = [partial(by_dense_products, image), partial(canvas, data, WHOLE), partial(canvas, data, SPEC)]
        dense, whole, ours, scan, shortcut = milliseconds([*ways, partial(decode_block, [data], SPEC), partial(by_pillow, data)])
        cells = [f"{value:.1f}" for value in (len(data) / 1e6, dense, whole, ours, scan, shortcut)]
        rows.append((f"{size[0]} × {size[1]}", *cells, f"{ours / shortcut:.2f}"))
        print("  ".join(f"{name} {cell}" for name, cell in zip(columns, rows[-1], strict=True)), flush=True)
    claim = f"A photograph of 12 megapixels becomes a canvas in {rows[0][4]} CPU-ms, {rows[0][7]} times the time of Pillow's shortcut."
    notes = [
        "Draft: libjpeg decodes the photograph at 1/2, 1/4 or 1/8 of its size. Facts: SHA-256, light, sharpness, thumbnail and look.",
        "Dense products resize decoded images, as an exported graph does.",
    ]
    if equal:
        notes.append("The canvases in blocks and in dense products are equal bit by bit.")
    save(given.json, "The exact resize", claim, columns, rows, notes=notes)
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
