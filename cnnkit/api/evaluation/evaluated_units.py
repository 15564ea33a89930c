"""The units of evaluated images: those of the split of their run, or those found among the images of other data."""

from __future__ import annotations

import numpy as np

from cnnkit.api.inference.samples import Samples
from cnnkit.api.inference.split_predictions import SplitPredictions
from cnnkit.data.dataset import near_copies
from cnnkit.data.split.units import NO_PAIRS, name_units


def units_of(samples: Samples, predictions: SplitPredictions) -> list[str]:
    """Return the name of the unit of each predicted image, (N,).

    Images of a run have the unit of its split.csv. Other images are searched for copies, and images of one group of their source belong
    together. An exported file sees no thumbnails, so that only exact copies are found there.
    """
    if samples.units:
        return [samples.units[record.path] for record in predictions.records]
    near = NO_PAIRS
    if predictions.seen is not None:
        row_of = {record.path: row for row, record in enumerate(predictions.scope)}
        rows = np.array([row_of[record.path] for record in predictions.records], np.int64)
        near = near_copies(predictions.seen).among(rows, len(predictions.scope)).pairs
    return list(name_units(predictions.records, predictions.contents, near))
