"""CPU seconds and memory of ``cnnkit predict`` on an exported file beside a plain script of onnxruntime and Pillow; needs Linux.

    python docs/benchmarks/predict.py MODEL.onnx [--photos 96]

The photographs are scikit-learn's at 500 px. The plain script decodes each with Pillow and hands it to the graph. Both programs take turns
in processes of their own; the least CPU time and the most memory count.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from document import add_option, save
from PIL import Image
from sklearn.datasets import load_sample_images

REPEATS = 5
SIZES = ((500, 375), (500, 333), (375, 500), (500, 400))
PLAIN = """
import json, sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
for file in sys.argv[2:]:
    images = numpy.asarray(Image.open(file).convert("RGB"))[None]
    probabilities = session.run(["probabilities"], {"images": images})[0][0]
    print(file, classes[int(probabilities.argmax())], probabilities.max())
"""


def write_photos(folder: Path, count: int) -> list[str]:
    """Write `count` photographs of four sizes; return their paths."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    files = [folder / f"{index:05}.jpg" for index in range(count)]
    for index, file in enumerate(files):
        photos[index % len(photos)].resize(SIZES[index % len(SIZES)], Image.Resampling.BICUBIC).save(file, quality=90)
    return [str(file) for file in files]


def measure(words: Sequence[str]) -> tuple[float, float]:
    """Run a program; return its CPU seconds and its memory in MB."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.execv(words[0], list(words))  # noqa: S606 (a program of this script)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(words[:5])}: failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a file that cnnkit export wrote")
    parser.add_argument("--photos", type=int, default=96)
    add_option(parser)
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_photos(Path(folder), given.photos)
        for chosen in (files[:1], files):
            plain = [sys.executable, "-c", PLAIN, given.model, *chosen]
            ours = [sys.executable, "-m", "cnnkit", "predict", *chosen, "--model", given.model]
            turns = [(measure(plain), measure(ours)) for _ in range(REPEATS)]
            seconds = [min(turn[which][0] for turn in turns) for which in (0, 1)]
            memory = [max(turn[which][1] for turn in turns) for which in (0, 1)]
            ratios = (f"{seconds[1] / seconds[0]:.2f}", f"{memory[1] / memory[0]:.2f}")
            rows.append((str(len(chosen)), *(f"{value:.2f}" for value in seconds), *(f"{value:.0f}" for value in memory), *ratios))
            print("  ".join(rows[-1]), flush=True)
    columns = ("photos", "script, CPU-s", "cnnkit, CPU-s", "script, MB", "cnnkit, MB", "CPU ratio", "memory ratio")
    claim = f"`cnnkit predict` takes {rows[-1][5]} times the CPU time of a plain script for {rows[-1][0]} photographs."
    save(given.json, "Prediction on an exported file", claim, columns, rows)


if __name__ == "__main__":
    main()
