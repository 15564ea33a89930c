"""Export of a model to one file, which is kept only if its predictions on real images equal those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.samples import Samples, other_samples, run_samples
from cnnkit.api.inference.target import ModelName, Target, find_target
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import VAL
from cnnkit.data.store.facts import decode
from cnnkit.engine.runtime import choose_device
from cnnkit.errors import ModelFileError
from cnnkit.exporters.opening import load_exporter
from cnnkit.exporters.parity import Parity, export_checked, sample_photos
from cnnkit.files import check_writable, write_json
from cnnkit.model.file import load_model

PARITY_IMAGES = 256  # the number of images in the parity check, spread over the split


@dataclass(frozen=True, repr=False)
class Export:
    """An exported file, its parity with the model, and the description of the images on which the parity was measured."""

    target: Target
    path: Path
    parity: Parity
    images: str

    def __repr__(self) -> str:
        parity = self.parity
        difference = f"largest difference of a probability {parity.max_abs_probability_difference:.1e}"
        return f"Export({str(self.path)!r}, parity on {parity.n} images: top-1 agreement {parity.top1_agreement:.4f}, {difference})"

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``export --json``."""
        return {"path": str(self.path), "images": self.images, **self.parity.to_dict()}


def export(
    model: ModelName = None, *, to: str = "onnx", data: str | None = None, out: str | Path | None = None, device: str = "auto"
) -> Export:
    """Export a model with the exporter `to`, check the file on validation images and keep it with its parity.json.

    The file goes to ``export/`` of the run directory, or to `out`. A model file without a run is checked on `data`, or on crops of
    scikit-learn's two sample photographs. The model runs on `device` in that check. Raises `CheckFailedError` and keeps no file if its
    predictions differ from the model's, and `ModelFileError` if `model` is not a model file.
    """
    target = find_target(model)
    if target.path.suffix != ".safetensors":
        raise ModelFileError(f"--model {target.path}: this file is exported already; cnnkit exports model files, such as best.safetensors")
    computing = choose_device(device)
    exporter = load_exporter(to)
    trained = load_model(target.path)
    folder = target.run.export if target.run else target.path.parent
    path = Path(out) if out is not None else folder / f"model{exporter.suffix}"
    check_writable(path.parent)
    if data is not None:
        samples: Samples | None = other_samples(data, None, trained.header.classes)
    else:
        samples = run_samples(target.run, VAL) if target.run else None
    images, description = (
        (sample_photos(PARITY_IMAGES // 4), "crops of scikit-learn's sample photographs")
        if samples is None
        else (_decoded(samples, trained.header.preprocessing.draft_side), f"{samples.split} images of {samples.source.name}")
    )
    parity = export_checked(trained, exporter, path, images, device=computing)
    write_json(path.with_name("parity.json"), {**parity.to_dict(), "images": description, "file": path.name})
    return Export(target, path, parity, description)


def _decoded(samples: Samples, draft_side: int | None) -> Iterator[NDArray[np.uint8]]:
    """Yield up to `PARITY_IMAGES` images, evenly spread over `samples` and decoded with `draft_side`; unreadable images are left out."""
    step = max(1, len(samples.records) // PARITY_IMAGES)
    for record in samples.records[::step][:PARITY_IMAGES]:
        try:
            yield decode(samples.source.read(record), draft_side).image
        except UndecodableError:
            continue
