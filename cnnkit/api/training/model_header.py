"""The header of the model files of a training: facts of the data, versions, temperature and fingerprint."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cnnkit.api.inference.drift import take_fingerprint
from cnnkit.data.appearance import appearance
from cnnkit.data.batches import Batches
from cnnkit.data.dataset import Dataset
from cnnkit.data.source import SPLITS, VAL
from cnnkit.data.store.stream import gather, in_batches
from cnnkit.engine.validation import Validation
from cnnkit.metrics.temperature import calibrate, softmax
from cnnkit.metrics.units import Units
from cnnkit.model.header import LIBRARIES, ModelHeader
from cnnkit.model.proof import TOLERANCE, logit_difference, proof_logits
from cnnkit.model.torch_classifier import device_of, true_fp32

MAX_FINGERPRINT_IMAGES = 2000  # more images would only show differences below `drift.MIN_DISTANCE`


def data_facts(name: str, dataset: Dataset) -> dict[str, Any]:
    """Return the data's name, a SHA-256 of all paths, labels, splits and contents, and the numbers of images and units per split."""
    images = {split: len(dataset.of(split)) for split in SPLITS}
    units = {split: len({sample.unit for sample in dataset.of(split)}) for split in SPLITS}
    return {"name": name, "sha256": dataset.fingerprint, "images": images, "units": units}


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of the numerical libraries and of the `packages` of the architecture and of other parts."""
    names = {*LIBRARIES, *packages}
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in sorted(names, key=str.lower)}}


def changed_versions(recorded: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the packages whose installed version is not the `recorded` one, with both versions; packages that are gone are left out."""
    changed: dict[str, tuple[str, str]] = {}
    for name, version in recorded.items():
        with suppress(metadata.PackageNotFoundError):
            installed = platform.python_version() if name == "python" else metadata.version(name)
            if installed != version:
                changed[name] = (version, installed)
    return changed


def with_temperature(header: ModelHeader, validation: Validation | None, units: Units | None = None) -> ModelHeader:
    """Return `header` with the temperature fitted on `validation`, or temperature 1 if no fit is possible.

    `units` are those of the images of `validation`.
    """
    found = None if validation is None else calibrate(validation.logits, validation.labels, VAL, units)
    return header.model_copy(update={"temperature": 1.0 if found is None else found.temperature, "calibration": found})


def with_proof(header: ModelHeader, module: nn.Module) -> ModelHeader:
    """Return `header` with the logits of `module` for the fixed canvas.

    It lacks them if they are not finite, cannot be computed, or differ at the second time, as those of dropout without an end do.
    """
    try:
        with true_fp32():
            found, again = (proof_logits(module, header.preprocessing, device_of(module)) for _ in range(2))
    except Exception:  # noqa: BLE001 (the code of any package, which may fail for one image: the trained weights must be saved)
        return header.model_copy(update={"proof": None})
    return header.model_copy(update={"proof": found if found and logit_difference(found, again) <= TOLERANCE else None})


class Fingerprints:
    """Fingerprints of val for models validated on `batches`, made from the logits of the validation.

    They use at most `MAX_FINGERPRINT_IMAGES` images of val, evenly spread. Images of train would not do: the model is more confident on
    them than on new images.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._chosen = slice(None, None, -(-len(batches.rows) // MAX_FINGERPRINT_IMAGES))

    def add_to(self, header: ModelHeader, validation: Validation) -> ModelHeader:
        """Return `header`, whose temperature is final, with the fingerprint of `validation`; without one if a logit is not finite."""
        probabilities = softmax(validation.logits[self._chosen], header.temperature).astype(np.float32)
        found = take_fingerprint(self._appearance, probabilities, split=VAL) if np.isfinite(probabilities).all() else None
        return header.model_copy(update={"fingerprint": found})

    @cached_property
    def _appearance(self) -> NDArray[np.float32]:
        rows = self._batches.rows[self._chosen]
        return np.concatenate([appearance(canvases) for canvases in gather(self._batches.canvases, in_batches(rows))])
