"""Accuracy of the case study's network in Keras beside the same network in torch, over several seeds.

    python docs/benchmarks/keras_network.py --data cifar10 -- --epochs 5 --set width=16 --precision fp32

Needs the plugin cnnkit-keras. ``--data`` has train/CLASS/ and test/CLASS/ with images of 32 px. Each class gives its first images by
name: ``--images`` for training over all classes, a fifth of that for val, and two fifths for test. Flags after ``--`` go to
``cnnkit train`` for both networks. At 32 px and three blocks, `keras-cnn` and `custom-cnn` have the same layers. Prints one row of
a Markdown table for each network.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from pathlib import Path

from document import add_option, row, save, spread, typed
from main_job import measure

COLUMNS = ("network", "test accuracy", "each seed", "CPU s of a training")
NETWORKS = ("keras-cnn", "custom-cnn")


def write_subset(folder: Path, images: int, table: Path) -> None:
    """Write a CSV of the first images of each class to `table`, with their splits."""
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    learned, held = images // len(classes), images // len(classes) // 5
    rows: list[tuple[str, str, str]] = []
    for name in classes:
        train = sorted((folder / "train" / name).iterdir())
        test = sorted((folder / "test" / name).iterdir())
        parts = (("train", train[:learned]), ("val", train[learned : learned + held]), ("test", test[: 2 * held]))
        rows += [(str(path.resolve()), name, split) for split, paths in parts for path in paths]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    add_option(parser)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and flags of cnnkit train")
    given = parser.parse_args()
    flags = [argument for argument in given.arguments if argument != "--"]
    cells: list[tuple[str, ...]] = []
    means: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "subset.csv"
        write_subset(given.data, given.images, table)
        for network in NETWORKS:
            command = ["--data", str(table), "--arch", network, *flags]
            runs = [measure(command, seed, Path(scratch) / "runs") for seed in range(given.seeds)]
            percent = [100 * run.accuracy for run in runs]
            each = ", ".join(f"{value:.1f}" for value in percent)
            cells.append((f"`{network}`", f"{spread(percent, 1)} %", each, spread([run.cpu for run in runs], 0)))
            print(row(cells[-1]), flush=True)
            means.append(statistics.mean(percent))
    claim = f"After `{typed(flags)}` on {given.images:,} images, `keras-cnn` reaches {means[0]:.1f} % and `custom-cnn` {means[1]:.1f} %."
    save(given.json, "Keras network", claim, COLUMNS, cells, seeds=range(given.seeds))


if __name__ == "__main__":
    main()
