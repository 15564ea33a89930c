"""The network of the case study, trained by Keras's own `fit` and by cnnkit on the same images.

    pip install ./plugins/cnnkit-keras
    python docs/case-study/keras_fit.py --work WORK

WORK is the folder of run.py, whose CIFAR-10 images both train on. Both start from Keras's initial weights, use Adam with a rate of
1e-3, batches of 64 and no augmentation, and keep the epoch with the least val loss. The result goes into results.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cnnkit_keras import build, import_keras
from numpy.typing import NDArray
from run import RESULTS, children_cpu, result_of  # the script beside this one

from cnnkit.data.image import read_image
from cnnkit.model.file import load_model

SIZE, BATCH_SIZE, RATE = 32, 64, 1e-3  # px; the other two are those of the recipe case-study


def main() -> int:
    """Train both for each seed and write their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of run.py")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    images = given.work / "cifar10" / "images"
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        ours, preprocessing = by_cnnkit(given.work, images, given.epochs, seed)
        theirs = by_keras(images, preprocessing, given.epochs, seed)
        for row in (ours, theirs):
            rows.append({"seed": seed, "epochs": given.epochs, **row})
            print(rows[-1], flush=True)
    results = json.loads(RESULTS.read_text("utf-8"))
    RESULTS.write_text(json.dumps({**results, "keras": rows}, indent=1) + "\n", "utf-8")
    return 0


def by_cnnkit(work: Path, images: Path, epochs: int, seed: int) -> tuple[dict[str, Any], Any]:
    """Train with ``cnnkit train``; return the accuracies and the preprocessing of the model."""
    flags = ["--arch", "keras-cnn", "--recipe", "case-study", "--augment", "none", "--patience", "0", "--image-size", str(SIZE)]
    flags += ["--epochs", str(epochs), "--seed", str(seed), "--out", str(work / "keras-runs")]
    before = children_cpu()
    run = Path(result_of(work, "train", "--data", str(images), *flags)["run"])
    row: dict[str, Any] = {"trained by": "cnnkit", "cpu": round(children_cpu() - before, 1)}
    for split in ("val", "test"):
        row[split] = result_of(work, "eval", "--model", str(run), "--split", split)["accuracy"]["value"]
    return row, load_model(run / "best.safetensors").header.preprocessing


def by_keras(images: Path, preprocessing: Any, epochs: int, seed: int) -> dict[str, Any]:
    """Train with `fit` on the same pixels, and return the accuracies of the epoch with the least val loss."""
    keras = import_keras()
    before = time.process_time()
    keras.utils.set_random_seed(seed)
    model = build(10, 3, image_size=SIZE).model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss, metrics=["accuracy"])
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=epochs, restore_best_weights=True)
    parts = {split: _arrays(images / split, preprocessing) for split in ("train", "val", "test")}
    model.fit(*parts["train"], batch_size=BATCH_SIZE, epochs=epochs, validation_data=parts["val"], callbacks=[stopping], verbose=0)
    cpu = time.process_time() - before
    scores = {split: float(model.evaluate(*parts[split], verbose=0)[1]) for split in ("val", "test")}
    return {"trained by": "fit of Keras", "cpu": round(cpu, 1), **scores}


def _arrays(folder: Path, preprocessing: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the normalised images (N, H, W, 3) and the labels (N,) of a split."""
    files = [(path, label) for label, name in enumerate(sorted(folder.iterdir())) for path in sorted(name.iterdir())]
    pixels = np.stack([read_image(path) for path, _ in files]).astype(np.float32) / 255
    normalised = (pixels - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
    return normalised, np.array([label for _, label in files])


if __name__ == "__main__":
    sys.exit(main())
