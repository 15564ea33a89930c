"""The best model of a training gets a temperature from the validation that chose it; no image is looked at again."""

from __future__ import annotations

from cnnkit.data.source import VAL
from cnnkit.engine.validation import Validation
from cnnkit.metrics.temperature import calibrate
from cnnkit.model.file import ModelHeader, read_header
from cnnkit.run_dir import RunDir


def calibrated(header: ModelHeader, validation: Validation | None) -> ModelHeader:
    """Return `header` with the temperature that `validation` tells and how it does, or with 1 if it tells none."""
    found = None if validation is None else calibrate(validation.logits, validation.labels, VAL)
    return header.model_copy(update={"temperature": 1.0 if found is None else found.temperature, "calibration": found})


def kept(run: RunDir) -> ModelHeader:
    """Read what the file of the best model of `run` says of it, also that of an epoch before a resume."""
    return read_header(run.best)
