# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportUntypedBaseClass=false
# This file runs in the environment of Keras, which cnnkit's does not have.
"""The case study in Keras 3 on TensorFlow: the layers of cnnkit's ``custom-cnn`` at 32 px, as Keras's own examples train such a network.

    python keras_case_study.py train FOLDER OUT --budget 120 --seed 0 --parameters 356810
    python keras_case_study.py predict FOLDER OUT --split test

Decoded images are cached and augmented beside the training step, as the Keras guide recommends on a CPU (Image classification
from scratch, "Two options to preprocess the data"). Adam has a constant rate, so no schedule must be fitted: training goes on until
early stopping or until the time is up, the last evaluation included.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

SIDE, BATCH = 32, 64  # the batch of cnnkit's recipe case-study
PATIENCE = 5  # the same recipe's
MOST_EPOCHS = 100_000


class TimeBudget(keras.callbacks.Callback):
    """Ends training early enough for one more evaluation, which takes as long as the longest so far."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds, self._started, self._evaluating, self._reserve = seconds, 0.0, 0.0, 0.0

    def on_train_begin(self, logs: object = None) -> None:
        """The first epoch begins."""
        del logs
        self._started = time.perf_counter()
        print("training begins", flush=True)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """A step was made."""
        del batch, logs
        if time.perf_counter() - self._started + self._reserve >= self._seconds:
            self.model.stop_training = True

    def on_test_begin(self, logs: object = None) -> None:
        """An evaluation begins."""
        del logs
        self._evaluating = time.perf_counter()

    def on_test_end(self, logs: object = None) -> None:
        """An evaluation has ended."""
        del logs
        self._reserve = max(self._reserve, time.perf_counter() - self._evaluating)


def network(classes: int) -> Any:
    """Return the network of the case study."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def augmentation(*, mirror: bool) -> Any:
    """Return the random flip, rotation by up to 10 degrees and zoom by up to a tenth of cnnkit's recipe case-study."""
    layers = keras.layers
    flip = [layers.RandomFlip("horizontal")] if mirror else []
    return keras.Sequential([*flip, layers.RandomRotation(10 / 360), layers.RandomZoom(0.1)])


def images(folder: Path, batch: int | None = None) -> Any:
    """Return the images of class folders, decoded and squashed to the side, in the order of their paths."""
    return keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(SIDE, SIDE), batch_size=batch, shuffle=False, verbose=False
    )


def train(folder: Path, out: Path, *, budget: float, seed: int, parameters: int, mirror: bool) -> None:
    """Train, and save the network with the best weights in OUT/best.keras and the epochs in OUT/history.csv."""
    keras.utils.set_random_seed(seed)
    files = images(folder / "train")
    model, augment = network(len(files.class_names)), augmentation(mirror=mirror)
    if model.count_params() != parameters:
        sys.exit(f"{model.count_params():,} parameters, custom-cnn has {parameters:,}: the layers are not the same")
    print(f"{parameters:,} parameters", flush=True)
    model.compile(keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"])
    training = files.cache().shuffle(len(files), seed=seed).batch(BATCH)
    training = training.map(lambda batch, label: (augment(batch, training=True), label), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    validation = images(folder / "val").batch(256).cache().prefetch(tf.data.AUTOTUNE)
    model.fit(
        training,
        validation_data=validation,
        epochs=MOST_EPOCHS,
        verbose=2,
        callbacks=[
            TimeBudget(budget),
            keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True),
            keras.callbacks.CSVLogger(str(out / "history.csv")),
        ],
    )
    model.save(out / "best.keras")


def predict(folder: Path, out: Path, *, split: str) -> None:
    """Write the predicted class of every image to OUT/predictions.csv."""
    files = images(folder / split, 256)
    answers = keras.saving.load_model(out / "best.keras").predict(files, verbose=0).argmax(1)
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "predicted"))
        for path, answer in zip(files.file_paths, answers, strict=True):
            writer.writerow((Path(path).relative_to(folder).as_posix(), files.class_names[answer]))


def main() -> None:
    """Train or predict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=("train", "predict"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", type=int)
    parser.add_argument("--no-mirror", action="store_true")
    parser.add_argument("--split")
    given = parser.parse_args()
    if given.job == "predict":
        predict(given.folder, given.out, split=given.split)
    else:
        train(given.folder, given.out, budget=given.budget, seed=given.seed, parameters=given.parameters, mirror=not given.no_mirror)


if __name__ == "__main__":
    main()
