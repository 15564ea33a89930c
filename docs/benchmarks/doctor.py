"""The doctor on troubles that were planted: wrong labels, shortcuts, copies across a split.

    python docs/benchmarks/doctor.py [FOLDER] [--suspects FILE.npz]

Wrong labels: 5 % of the digits get another class, three seeds; precision and recall of the suspects, side by side with
cleanlab on the same out-of-fold probabilities (``pip install cleanlab``; left out without it). Features are the raw pixels.
``--suspects`` does the same for a file with `labels` (N,) as given, `truth` (N,), and `features` (N, D) or `probabilities` (N, K).

FOLDER, of class folders in train/ and val/, is copied with changes into a temporary folder: one class saved differently, or
re-encoded copies of training images in val. Prints what each family of features is worth and what the doctor says.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from document import add_option, save, spread
from PIL import Image, ImageEnhance

from cnnkit.data.columns import RecordColumns
from cnnkit.data.image import read_image
from cnnkit.data.source import Source, open_source
from cnnkit.data.split.duplicates import find_copies
from cnnkit.data.store.decoding import decode_block, read_all
from cnnkit.data.store.index import FactColumns
from cnnkit.doctor.copies import leak
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.shortcut import FAMILIES, sample, shortcut
from cnnkit.doctor.shortcut import measure as measure_family
from cnnkit.doctor.suspects import out_of_fold
from cnnkit.metrics.label_quality import label_issues

SEEDS = (0, 1, 2)
WRONG = 0.05  # share of labels
COPIES = 20
Change = Callable[[Image.Image, bool], bytes]  # an image, and whether it is of the class that is treated differently


def collect(source: Source) -> Evidence:
    """Decode every image of `source`."""
    block = decode_block(read_all(source, source.records))
    records, facts = RecordColumns.of(source.records), FactColumns.of(block.facts)
    return Evidence(records, facts, block.thumbnails, find_copies(block.thumbnails, block.looks, facts))


def mislabelled_digits() -> list[tuple[str, ...]]:
    """Print precision and recall for 5 % wrong labels in digits, and return them by name."""
    source = open_source("digits")
    features = np.stack([np.asarray(source.read(record))[:, :, 0].ravel() for record in source.records]).astype(np.float32)
    truth = np.array([int(record.label) for record in source.records])
    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        wrong = random.choice(len(truth), round(WRONG * len(truth)), replace=False)
        given = truth.copy()
        given[wrong] = (truth[wrong] + random.integers(1, 10, len(wrong))) % 10
        probabilities = out_of_fold(features, given, np.arange(len(given)), seed)
        for name, score in compared(given, truth, probabilities).items():
            scores.setdefault(name, []).append(score)
    print(f"{WRONG:.0%} wrong labels in {len(truth):,} digits, features: pixels, {len(SEEDS)} seeds")
    rows = [(name, *(spread(values, 3) for values in zip(*pairs, strict=True))) for name, pairs in scores.items()]
    for name, precision, recall in rows:
        print(f"  {name:10} precision {precision}   recall {recall}")
    return rows


def mislabelled_file(path: Path) -> None:
    """Print precision and recall for the labels of an .npz file."""
    with np.load(path) as file:
        given, truth = file["labels"], file["truth"]
        probabilities = file["probabilities"] if "probabilities" in file else out_of_fold(file["features"], given, np.arange(len(given)))
    print(f"{(given != truth).mean():.1%} wrong labels in {len(given):,} images of {path.name}")
    for name, (precision, recall) in compared(given, truth, probabilities).items():
        print(f"  {name:10} precision {precision:.3f}   recall {recall:.3f}")


def compared(given: np.ndarray, truth: np.ndarray, probabilities: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return precision and recall of cnnkit's suspects, and of cleanlab's if it is installed."""
    found = {"cnnkit": label_issues(given, probabilities)}
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        print("  cleanlab is not installed: pip install cleanlab")
    else:
        found["cleanlab"] = np.flatnonzero(find_label_issues(given, probabilities, n_jobs=1))
    wrong = given != truth
    return {name: (float(wrong[rows].mean()), float(wrong[rows].sum() / wrong.sum())) for name, rows in found.items()}


def planted_shortcuts(folder: Path, scratch: Path) -> list[tuple[str, ...]]:
    """Print the worth of each family of features on `folder` as it is and with its last class saved differently; return the strengths."""
    strengths: list[tuple[str, ...]] = []
    for name, change in CHANGES.items():
        changed = scratch / "shortcut" / name.replace(" ", "-")
        if change:
            rewrite(folder, changed, change)
        evidence = collect(open_source(str(changed if change else folder)))
        rows = sample(evidence)
        labels = np.unique(evidence.labels[rows], return_inverse=True)[1]
        started = time.perf_counter()
        results = [measure_family(evidence, rows, labels, family) for family in FAMILIES]
        seconds = time.perf_counter() - started
        print(f"shortcut: {name}, {len(rows):,} images, {seconds:.1f} s")
        for result in results:
            if result:
                strengths.append((name, result.family.name, f"{result.strength:.2f}"))
                print(f"  {result.family.name:40} {result.accuracy:.3f} ± {result.margin:.3f}   strength {result.strength:.2f}")
        finding = shortcut(evidence)
        print(f"  {finding.severity}: {finding.message}" if finding else "  no finding")
    return strengths


def saved(image: Image.Image, quality: int) -> bytes:
    """Return `image` as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def framed(image: Image.Image) -> Image.Image:
    """Return `image` with a red frame of 3 % of its shorter side."""
    pixels = np.asarray(image).copy()
    width = max(1, round(0.03 * min(image.size)))
    inside = np.zeros(pixels.shape[:2], bool)
    inside[width:-width, width:-width] = True
    pixels[~inside] = (220, 30, 30)
    return Image.fromarray(pixels)


CHANGES: dict[str, Change | None] = {
    "as it is": None,
    "one class JPEG 75 the other 90": lambda image, odd: saved(image, 75 if odd else 90),
    "one class half as large": lambda image, odd: saved(image.reduce(2) if odd else image, 85),
    "one class in a frame": lambda image, odd: saved(framed(image) if odd else image, 85),
}


def rewrite(folder: Path, target: Path, change: Change) -> None:
    """Write the images of `folder` to `target`, each as `change` makes it."""
    source = open_source(str(folder))
    odd = max(record.label for record in source.records)
    for record in source.records:
        file = (target / record.path).with_suffix(".jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(change(Image.fromarray(read_image(folder / record.path)), record.label == odd))


def planted_copies(folder: Path, scratch: Path) -> None:
    """Print how many of the re-encoded copies of training images in val are found, and what else is called a copy."""
    changes: dict[str, Callable[[Image.Image], bytes]] = {
        "JPEG 50": lambda image: saved(image, 50),
        "half size": lambda image: saved(image.reduce(2), 85),
        "15 % brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.15), 85),
    }
    before = {frozenset(case) for case in cases(folder)}
    source = open_source(str(folder))
    train = [record for record in source.records if record.split == "train"]
    chosen = [train[int(row)] for row in np.random.default_rng(0).choice(len(train), COPIES, replace=False)]
    for name, change in changes.items():
        target = scratch / "copies" / name.replace(" ", "-").replace("%", "percent")
        rewrite(folder, target, lambda image, _: saved(image, 95))
        planted: list[frozenset[str]] = []
        for record in chosen:
            original = Path(record.path).with_suffix(".jpg").as_posix()
            copy = original.replace("train/", "val/", 1).replace(".jpg", "-copy.jpg")
            (target / copy).write_bytes(change(Image.fromarray(read_image(folder / record.path))))
            planted.append(frozenset([original, copy]))
        found = [frozenset(case) for case in cases(target)]
        recall = sum(any(pair <= case for case in found) for pair in planted) / COPIES
        others = [sorted(case) for case in found if case not in before and not any(pair <= case for pair in planted)]
        print(f"copies: {name}: recall {recall:.2f} of {COPIES}, other leaks beside those of the data itself: {len(others)} {others[:3]}")


def cases(folder: Path) -> Sequence[Sequence[str]]:
    """Return the leaks that the doctor finds."""
    finding = leak(collect(open_source(str(folder))))
    return finding.files if finding else ()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--suspects", type=Path, metavar="FILE.npz")
    add_option(parser)
    arguments = parser.parse_args()
    if arguments.suspects:
        mislabelled_file(arguments.suspects)
    else:
        found = mislabelled_digits()
        claim = f"The doctor finds wrong labels in digits with a precision of {found[0][1]} and a recall of {found[0][2]}."
        save(arguments.json, "Wrong labels", claim, ("finder", "precision", "recall"), found, seeds=SEEDS, name="labels")
    if arguments.folder:
        with tempfile.TemporaryDirectory() as temporary:
            strengths = planted_shortcuts(arguments.folder, Path(temporary))
            claim = f"The table has the strength of planted and natural shortcuts in {arguments.folder.name}."
            save(arguments.json, "Shortcuts", claim, ("change", "family", "strength"), strengths, name="shortcuts")
            planted_copies(arguments.folder, Path(temporary))
