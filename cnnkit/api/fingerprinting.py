"""At the end of a training: the model file learns what the images looked like that the model was validated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.drift_watch import take_fingerprint
from cnnkit.classifier import TorchClassifier
from cnnkit.data.appearance import appearance
from cnnkit.data.batches import Batches
from cnnkit.data.source import VAL
from cnnkit.data.stream import gather, in_batches
from cnnkit.model_file import load_model, rewrite_header

MOST = 2000  # images: the training must end on time, and more would only tell differences below `drift.SMALLEST`


def add_fingerprint(path: Path, batches: Batches, device: torch.device) -> None:
    """Write the fingerprint of val, `batches`, into the model file `path`; of more than `MOST` images evenly spread ones.

    Val and not train: the weights were fitted to train, and the model is surer of those images than of any new ones.
    """
    model = load_model(path)
    classifier = TorchClassifier(model, device=device)
    rows = batches.rows[:: -(-len(batches.rows) // MOST)]
    looks: list[NDArray[np.float32]] = []
    answers: list[NDArray[np.float32]] = []
    for canvases in gather(batches.canvases, in_batches(rows)):
        looks.append(appearance(canvases))
        answers.append(classifier.canvas_probabilities(torch.from_numpy(canvases)))
    known = take_fingerprint(np.concatenate(looks), np.concatenate(answers), split=VAL)
    rewrite_header(path, model.header.model_copy(update={"fingerprint": known}))
