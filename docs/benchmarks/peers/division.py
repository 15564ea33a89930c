"""The images that every peer trains on: one folder per data set, divided by ``cnnkit split``; copies, so that no trainer touches yours.

    WORK/data/NAME/train/CLASS/FILE   val/CLASS/FILE   test/CLASS/FILE

A data set is a folder of class folders (or of train/val/test folders of those), the folder of Debian's package
``dataset-fashion-mnist`` with its four idx files, or ``digits``, scikit-learn's.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IDX = {"train": "train", "test": "t10k"}
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SEED = "0"  # one division for all seeds of the trainings: what differs between them is the training alone
VAL = {"val", "valid", "validation", "dev"}
WITH_TEST, WITHOUT_TEST = "0.9/0.1", "0.8/0.1/0.1"  # of CIFAR-10's 50,000 nine tenths train: the usual 45,000 + 5,000


@dataclass(frozen=True)
class Division:
    """A divided data set; `weights` if a network is to be fine-tuned on it, `mirror` unless a mirrored image may be of another class."""

    name: str
    folder: Path
    classes: int
    counts: dict[str, int]
    mirror: bool
    weights: Path | None

    @property
    def evaluated(self) -> str:
        """The split whose images are predicted: test, or val where there is no test."""
        return "test" if self.counts.get("test") else "val"

    def describe(self) -> str:
        """Say how many images stand where."""
        sides = ", ".join(f"{split} {self.counts[split]:,}" for split in ("train", "val", "test") if self.counts.get(split))
        return f"{self.name}: {self.classes} classes, {sides}; accuracy is of {self.evaluated}"

    def truth(self) -> dict[str, str]:
        """Return path (relative to `folder`) -> class of the images to predict."""
        return {path.relative_to(self.folder).as_posix(): path.parent.name for path in (self.folder / self.evaluated).glob("*/*")}

    def forget(self) -> None:
        """Delete what a trainer noted about the images (Ultralytics: ``train.cache``), so that the next one finds none of it."""
        for note in self.folder.glob("*.cache"):
            note.unlink()

    def warm(self) -> None:
        """Read every file once, so that the first trainer finds them in memory as the others do."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                path.read_bytes()


def divide(name: str, source: Path | None, weights: Path | None, work: Path) -> Division:
    """Make WORK/data/NAME unless it is there; raises `FileNotFoundError` and `CalledProcessError` if the images cannot be read."""
    folder, table = work / "data" / name, work / "data" / f"{name}.csv"
    if not folder.is_dir():
        images = _images(name, source, work)
        command = [sys.executable, "-m", "cnnkit", "split", str(images), *_shares(images), "--seed", SEED, "--out", str(table)]
        table.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        _copy(images, _rows(table), folder)
    rows = _rows(table)
    from cnnkit.data.augment.augment import is_mirror_sensitive  # the rule by which cnnkit leaves mirroring out; loads torch

    classes = {row["label"] for row in rows}
    mirror = not any(is_mirror_sensitive(label) for label in classes)
    return Division(name, folder, len(classes), dict(Counter(row["split"] for row in rows)), mirror, weights)


def _shares(images: Path) -> list[str]:
    """Return the flag that says how to divide what is not yet divided."""
    have = {path.name for path in images.iterdir()}
    if "train" in have and have & VAL:
        return []
    return ["--split", WITH_TEST if {"train", "test"} <= have else WITHOUT_TEST]


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _copy(images: Path, rows: list[dict[str, str]], folder: Path) -> None:
    """Copy each image to its split and class; the folder has its name only when it is whole."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for row in rows:
        target = part / row["split"] / row["label"] / row["path"].replace("/", "-")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / row["path"], target)
    part.rename(folder)


def _images(name: str, source: Path | None, work: Path) -> Path:
    """Return a folder of image files: the source itself, or what is made of it."""
    folder = work / "sources" / name
    if source is None:
        if name != "digits":
            raise FileNotFoundError(f"--data {name}: name its folder too: --data {name}=FOLDER; only digits needs none")
        if not folder.is_dir():
            _write_digits(folder)
        return folder
    if not source.is_dir():
        raise FileNotFoundError(f"--data {name}={source}: no such folder")
    if not (source / "train-images-idx3-ubyte.gz").is_file():
        return source
    if not folder.is_dir():
        for split, prefix in IDX.items():
            _write_idx(source, prefix, folder / split)
    return folder


def _write_digits(folder: Path) -> None:
    """Write the 1,797 digits, 8 px, with every pixel four times as high and wide: Ultralytics leaves images under 10 px out."""
    from sklearn.datasets import load_digits  # half a second that other data sets do without

    digits: Any = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        levels = np.round(image * (255 / 16)).astype(np.uint8)  # 17 gray levels, 0..16
        _save(levels.repeat(4, 0).repeat(4, 1), folder / str(label) / f"{index:04d}.png")


def _write_idx(source: Path, prefix: str, folder: Path) -> None:
    """Write the images of a pair of idx files (magic, count and, of images, height and width; big-endian) as PNG files."""
    images = np.frombuffer(gzip.decompress((source / f"{prefix}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((source / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    for index, (image, label) in enumerate(zip(images.reshape(len(labels), 28, 28), labels, strict=True)):
        _save(image, folder / FASHION[label] / f"{index:05d}.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
