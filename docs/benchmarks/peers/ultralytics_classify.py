# pyright: reportMissingImports=false
# This file runs in the environment of Ultralytics, which cnnkit's does not have.
"""Ultralytics's smallest current classifier, from scratch at 32 px, with the settings that Ultralytics recommends (its defaults).

    python ultralytics_classify.py train FOLDER OUT --budget 120 --seed 0
    python ultralytics_classify.py predict FOLDER OUT --split test

Its own ``time`` ends the training: Ultralytics fits the number of epochs, and with it the schedule, to the hours given.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from ultralytics import YOLO

MODEL, SIDE = "yolo26n-cls.yaml", 32
BATCH = 64  # its nominal batch (nbs); the default of 16 takes twice the time for an epoch of small images


def train(folder: Path, out: Path, *, budget: float, seed: int, mirror: bool) -> None:
    """Train in OUT/train."""
    YOLO(MODEL).train(
        data=str(folder),
        imgsz=SIDE,
        time=budget / 3600,
        batch=BATCH,
        device="cpu",
        seed=seed,
        pretrained=False,
        plots=False,
        fliplr=0.5 if mirror else 0.0,
        project=str(out),
        name="train",
        exist_ok=True,
    )


def predict(folder: Path, out: Path, *, split: str) -> None:
    """Write the predicted class of every image to OUT/predictions.csv."""
    model = YOLO(out / "train" / "weights" / "best.pt")
    paths = sorted(str(path) for path in (folder / split).glob("*/*"))
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "predicted"))
        for answer in model.predict(paths, imgsz=SIDE, batch=256, device="cpu", stream=True, verbose=False):
            writer.writerow((Path(answer.path).relative_to(folder).as_posix(), answer.names[answer.probs.top1]))


def main() -> None:
    """Train or predict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=("train", "predict"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-mirror", action="store_true")
    parser.add_argument("--split")
    given = parser.parse_args()
    if given.job == "predict":
        predict(given.folder, given.out, split=given.split)
    else:
        train(given.folder, given.out, budget=given.budget, seed=given.seed, mirror=not given.no_mirror)


if __name__ == "__main__":
    main()
