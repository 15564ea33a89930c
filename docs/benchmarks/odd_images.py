"""The decoder on a collection of odd and broken image files: the expectation of each, and the result.

    python docs/benchmarks/odd_images.py FOLDER

FOLDER holds the files and a `manifest.tsv` with the columns `file`, `kind`, `expectation`, `rgb_size` (WxH) and `rgb_mean`
(R/G/B). An expectation is ``decode`` (that size, each channel's mean within 2 levels), ``skip`` or ``skip-bomb`` (a
`DataError`), ``either`` or ``decode-or-report`` (a decoded image must be right where the manifest says what is right); HEIC
may be decoded where the extra ``heic`` is installed. Anything but a `DataError` is a crash, and so is a warning.

Then the same files by every way an image can come in: the canvas of the scan (training and its validation), of
`read_image` (eval and predict) and of the ONNX file's preprocessing must be equal to the last bit.

Exits with 1 if a file is not what it should be, if one memory peak reaches 512 MB, or if two ways differ.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from document import add_option, save

from cnnkit.data.image import HEIF_PACKAGES, read_image
from cnnkit.errors import DataError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from cnnkit.data.source import Record

TOLERANCE = 2.0  # levels of 255; decoders of lossy formats differ by less
PEAK_MB = 512  # one decoded image of the collection, and the process around it
MAY_DECODE = frozenset({"decode", "either", "decode-or-report"})
MAY_FAIL = frozenset({"skip", "skip-bomb", "either", "decode-or-report"})


def expectation(row: Mapping[str, str]) -> str:
    """What the manifest expects; a HEIC may be decoded where a package for it is installed."""
    heic = row["kind"].startswith("heif") and any(importlib.util.find_spec(name) for name in HEIF_PACKAGES)
    return "either" if heic else row["expectation"]


def judge(path: Path, row: Mapping[str, str]) -> tuple[str, bool]:
    """Decode one file; return what came, in words, and whether the manifest's `row` allows it."""
    try:
        image = read_image(path)
    except DataError as error:
        return str(error).removeprefix(f"{path}: "), expectation(row) in MAY_FAIL
    except Exception as error:  # noqa: BLE001 (what the decoder lets through is what this looks for)
        return f"CRASH {type(error).__name__}: {error}", False
    mean = image.mean((0, 1))
    size = f"{image.shape[1]}x{image.shape[0]}"
    right = expectation(row) in MAY_DECODE
    if row["rgb_mean"]:
        expected = np.array([float(level) for level in row["rgb_mean"].split("/")])
        right = right and size == row["rgb_size"] and bool((np.abs(mean - expected) <= TOLERANCE).all())
    return f"{size} {'/'.join(f'{level:.1f}' for level in mean)}", right


@dataclass(frozen=True)
class Files:
    """The collection as a source."""

    folder: Path
    records: Sequence[Record]
    name: str = "odd images"
    notes: Sequence[str] = ()

    def read(self, record: Record) -> bytes:
        """Return the bytes of one file."""
        return (self.folder / record.path).read_bytes()

    def stamp(self, record: Record) -> str:
        """Return what changes with the file."""
        return str((self.folder / record.path).stat().st_mtime_ns)


def ways(folder: Path, names: Sequence[str]) -> tuple[int, int]:
    """Return how many of the files can be decoded, and how many come out equal, or are refused, by every way."""
    import torch

    from cnnkit.data.source import Record
    from cnnkit.data.store.facts import decode
    from cnnkit.data.store.scan import scan
    from cnnkit.model.preprocess import Preprocess
    from cnnkit.model.preprocessing import Preprocessing

    geometry = Preprocessing(image_size=48, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    preprocess = Preprocess(geometry).eval()
    files = Files(folder, [Record(name, "odd") for name in names])
    scanned = scan(files, files.records, geometry, cache="ram")
    if not isinstance(scanned.canvases, np.ndarray):
        raise TypeError("the scan keeps no canvases in memory")
    onnx = exported(preprocess)
    decoded = equal = 0
    for record, facts, canvas in zip(files.records, scanned.facts, scanned.canvases, strict=True):
        try:
            image = read_image(folder / record.path)
        except DataError as error:
            equal += facts.error == str(error).removeprefix(f"{folder / record.path}: ")
            continue
        decoded += 1
        with torch.inference_mode():
            predicted = preprocess(torch.from_numpy(image.copy())[None])  # eval and predict
            validated = preprocess.normalise(torch.from_numpy(canvas.copy())[None])  # validation while training
        same = {
            "scan": np.array_equal(decode(files.read(record)).image, image) and not facts.error,
            "validation": torch.equal(validated, predicted),
            "ONNX": np.array_equal(onnx(image[None]), predicted.numpy()),
        }
        equal += all(same.values())
        if not all(same.values()):
            print(f"DIFFERS {record.path[-60:]:60} {', '.join(way for way, right in same.items() if not right)}")
    return decoded, equal


def exported(preprocess: torch.nn.Module) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return the preprocessing as onnxruntime computes it from a file: uint8 (N, H, W, 3) to float32 (N, C, S, S)."""
    import onnxruntime
    import torch

    dynamic = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    sample = torch.zeros((2, 37, 41, 3), dtype=torch.uint8)
    program = torch.onnx.export(preprocess, (sample,), dynamo=True, dynamic_shapes=(dynamic,), verbose=False)
    if program is None:
        raise TypeError("torch.onnx.export returned no program")
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (name,) = (item.name for item in session.get_inputs())
    return lambda images: np.asarray(session.run(None, {name: images})[0])


@contextmanager
def silence() -> Generator[None]:
    """Send stderr nowhere: decoders written in C print there what Pillow then raises."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    add_option(parser)
    given = parser.parse_args()
    folder = given.folder
    with (folder / "manifest.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wrong: Counter[str] = Counter()
    slowest = 0.0
    for row in rows:
        started = time.perf_counter()
        with silence(), warnings.catch_warnings(record=True) as warned:
            got, right = judge(folder / row["file"], row)
        slowest = max(slowest, time.perf_counter() - started)
        right = right and not warned
        wrong[row["expectation"]] += not right
        expected = f"{row['expectation']} {row['rgb_size']} {row['rgb_mean']}".strip()
        got = " ".join(str(item.message) for item in warned) or got
        print(f"{'ok   ' if right else 'WRONG'} {row['file'][-60:]:60} {expected:36} {got[:120]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"\n{len(rows)} files, {wrong.total()} not as expected; slowest {slowest:.2f} s; peak memory {peak:.0f} MB (limit {PEAK_MB})")
    with silence():
        decoded, equal = ways(folder, [row["file"] for row in rows])
    print(f"by every way the same (scan, validation, eval, predict, ONNX): {equal} of {len(rows)} files, {decoded} of them images")
    figures = [
        ("files as expected", f"{len(rows) - wrong.total()} of {len(rows)}"),
        ("peak memory", f"{peak:.0f} MB"),
        ("slowest file", f"{slowest:.2f} s"),
        ("files with the same bits by every way", f"{equal} of {len(rows)}, {decoded} of them images"),
    ]
    claim = f"{len(rows) - wrong.total()} of {len(rows)} odd and broken images come out as expected, {equal} by every way the same."
    save(given.json, "Odd and broken images", claim, ("figure", "value"), figures)
    return int(wrong.total() > 0 or peak >= PEAK_MB or equal < len(rows))


if __name__ == "__main__":
    sys.exit(main())
