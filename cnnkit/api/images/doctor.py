"""The health of data: the findings of the doctor, before a training or with the help of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.config.passwords import keep_passwords
from cnnkit.config.settings import DataConfig
from cnnkit.data.columns import Codes, RecordColumns
from cnnkit.data.dataset import near_copies, select_classes
from cnnkit.data.default_geometry import default_geometries
from cnnkit.data.exclusion import leave_out
from cnnkit.data.progress import Progress
from cnnkit.data.source import TRAIN, empty_classes, open_source
from cnnkit.data.split.duplicates import Copies
from cnnkit.data.split.grouping import assign_groups
from cnnkit.data.split.split import assign_splits
from cnnkit.data.store.cached_results import cached_result
from cnnkit.data.store.scan import Scan, scan
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.examine import examine as run_checks
from cnnkit.doctor.few_images import few_images_note
from cnnkit.doctor.finding import Finding, Health
from cnnkit.doctor.suspects import out_of_fold, suspects
from cnnkit.errors import DataError, ModelFileError
from cnnkit.files import fingerprint

if TYPE_CHECKING:
    from cnnkit.api.inference.target import ModelName
    from cnnkit.model.torch_classifier import TorchClassifier

SUSPECTS_VERSION = 1  # raise it when the finding changes, so that cached findings are not used


def examine(  # noqa: PLR0913 - one argument per flag of the command
    data: str | Path,
    *,
    classes: Sequence[str] = (),
    group_by: str = "",
    exclude: Sequence[str] = (),
    download: bool = False,
    model: ModelName = None,
    device: str = "auto",
    workers: int = 0,
    progress: Progress | None = None,
) -> Health:
    """Examine every image of `data` and return the findings; no file is changed.

    With `model`, a run directory or model file with these classes, the findings include labels that look wrong; the network runs on
    `device`. Raises `DataError` if the data cannot be opened, `ModelFileError` if the model cannot be loaded or lacks a class.
    """
    data = keep_passwords(str(data))
    source = leave_out(open_source(data, download=download, group_by=group_by, progress=progress), exclude)
    records, names = select_classes(source, classes)
    records = assign_groups(records, group_by)
    classifier = _classifier(model, names, device) if model is not None else None
    geometry = classifier.model.header.preprocessing if classifier else None
    ahead = () if geometry else default_geometries(source, records)
    found = scan(source, records, geometry, also=ahead, workers=workers, progress=progress)
    copies = near_copies(found)
    splits = _splits(records, found, copies)
    evidence = Evidence(
        records,
        found.facts,
        found.thumbnails,
        copies,
        geometry.image_size if geometry else None,
        empty_classes={} if classes else empty_classes(source),
        splits=splits,
    )
    findings = run_checks(evidence, folder=found.folder)
    if classifier:
        findings += _suspects(classifier, evidence, found)
    few = _few_images_note(data, evidence) if classifier is None else ""
    notes = (*source.notes, *(copies.crowd_note(splits) if splits else ()), *([few] if few else []))
    return Health(len(records), evidence.counts, tuple(findings), notes)


def _few_images_note(data: str, evidence: Evidence) -> str:
    """Return the note on a training from scratch with the default splits and the image size that follows from the images."""
    images = int(evidence.splits.isin({TRAIN}).sum())
    if not images:
        return ""
    sides = np.minimum(evidence.facts.column("width"), evidence.facts.column("height"))
    side = int(np.median(sides[evidence.readable]))
    return few_images_note(data, images=images, classes=len(evidence.classes), image_size=side)


def _splits(records: RecordColumns, found: Scan, copies: Copies) -> Codes:
    """Return the split of every image in a training with the default shares, None for an unreadable image.

    There are none if the images cannot be split.
    """
    good = np.flatnonzero(found.facts.readable)
    hashes = found.facts.hashes.take(good)
    try:
        near = copies.among(good, len(records)).pairs
        assigned = assign_splits(records.take(good), hashes, DataConfig().split, 0, near=near)
    except DataError:  # the findings small-class and unreadable name the reason
        return Codes.of(())
    names = assigned.splits.names
    codes = np.full(len(records), len(names))
    codes[good] = assigned.splits.codes
    return Codes(codes.astype(np.int8), (*names, None))


def _classifier(model: ModelName, classes: Sequence[str], device: str) -> TorchClassifier:
    """Open `model` and check that it has all of these classes."""
    from cnnkit.api.inference.target import find_target
    from cnnkit.engine.runtime import choose_device
    from cnnkit.model.file import load_model
    from cnnkit.model.torch_classifier import TorchClassifier

    target = find_target(model)
    if target.path.suffix != ".safetensors":
        raise ModelFileError(f"--model {target.path}: only a run or a model file (best.safetensors) can find wrong labels")
    classifier = TorchClassifier(load_model(target.path), device=choose_device(device))
    unknown = sorted(set(classes) - set(classifier.classes))
    if unknown:
        raise ModelFileError(
            f"--model {target.path} does not have the classes {', '.join(unknown)}; it has {', '.join(classifier.classes)}; "
            f"name a model with these classes, or choose fewer classes with --classes"
        )
    return classifier


def _suspects(classifier: TorchClassifier, evidence: Evidence, found: Scan) -> list[Finding]:
    """Return the finding on labels that look wrong, if there are any; the store on the disk caches it.

    A small model on the network's features judges every readable image; it is fitted without that image and its copies.
    """
    import torch

    from cnnkit.data.store.stream import gather, in_batches

    def compute() -> dict[str, Any]:
        rows = evidence.readable
        assert found.canvases is not None  # noqa: S101 (a geometry was given)
        batches = gather(found.canvases, in_batches(rows))
        features = np.concatenate([classifier.canvas_features(torch.from_numpy(canvases)) for canvases in batches])
        probabilities = out_of_fold(features, evidence.labels[rows], evidence.cluster_ids[rows])
        suspect = suspects(evidence.paths(rows), evidence.labels[rows], probabilities, evidence.classes)
        return {"findings": [suspect.to_dict()] if suspect else []}

    key = (SUSPECTS_VERSION, torch.__version__, classifier.device.type, fingerprint(classifier.model.path), evidence.fingerprint)
    return [Finding.from_dict(each) for each in cached_result(found.folder, "suspects", key, compute)["findings"]]
