"""The rules of a model, abstention and label sets: fitted on the validation images of its run, stored in the header of its file."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cnnkit.api.evaluation.evaluated_units import units_of
from cnnkit.api.inference.device import open_on_device
from cnnkit.api.inference.samples import run_samples
from cnnkit.api.inference.split_predictions import predict_split
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.progress import Progress
from cnnkit.data.source import VAL
from cnnkit.errors import CheckFailedError, ConfigError, DataError, ModelFileError
from cnnkit.exporters.sidecars import SIDECAR_SUFFIXES
from cnnkit.metrics.abstention import Shortfall, find_threshold
from cnnkit.metrics.conformal import fit_label_sets
from cnnkit.metrics.units import Units
from cnnkit.model.file import read_header, rewrite_header
from cnnkit.model.rules import Rules

Share = float | Literal["none"]  # "none" removes the rule


@dataclass(frozen=True)
class FittedRules:
    """The model, its current rules, and the exported files of its run, which still have the former rules (`outdated`)."""

    target: Target
    rules: Rules
    outdated: tuple[Path, ...]


def decide(
    model: str | Path | None = None,
    *,
    abstain_risk: Share | None = None,
    sets: Share | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> FittedRules:
    """Fit the threshold for `abstain_risk` and the label sets for coverage `sets` on val, and write both into the model file.

    None keeps a rule, "none" removes it. Raises `CheckFailedError`, and writes nothing, if the val images cannot guarantee
    `abstain_risk`. Raises `ConfigError` or `DataError` for a share outside (0, 1), a model without a run or too few images, and
    `ModelFileError` for an exported file.
    """
    target = find_target(model)
    if target.path.suffix != ".safetensors":
        raise ModelFileError(
            f"--model {target.path}: an exported file keeps the rules it was exported with; "
            f"set the rules in the original model and export it again: cnnkit export --onnx --model RUN"
        )
    if target.run is not None:
        target.run.check_free()
    header = read_header(target.path)
    changed: dict[str, object] = {"abstention": None} if abstain_risk == "none" else {}
    changed |= {"label_sets": None} if sets == "none" else {}
    if isinstance(abstain_risk, float) or isinstance(sets, float):
        changed |= _fit(target, abstain_risk, sets, device, progress)
    header = header.model_copy(update=changed)
    with target.run.owned() if target.run else nullcontext():
        rewrite_header(target.path, header)
    return FittedRules(target, header, _exported_files(target))


def _exported_files(target: Target) -> tuple[Path, ...]:
    """Return the exported files of the run, also those of exporters that are not installed, without the files beside them."""
    files = sorted(target.run.export.glob("model*.*")) if target.run else []
    return tuple(file for file in files if file.suffix not in SIDECAR_SUFFIXES)


def _fit(target: Target, abstain_risk: Share | None, sets: Share | None, device: str, progress: Progress | None) -> dict[str, object]:
    """Classify val once and return the new rules by their fields in the header.

    Both guarantees assume independent images, so one image of each unit takes part.
    """
    if target.run is None:
        raise ConfigError(f"{target.path} lies in no run directory, so its validation images are unknown; name the run: --model RUN")
    classifier = open_on_device(target, device)
    samples = run_samples(target.run, VAL, progress=progress)
    predictions = predict_split(classifier, samples, progress)
    if not predictions.records:
        path, reason = predictions.bad[0]
        raise DataError(f"{target.run.path}: none of its val images can be read, such as {path}: {reason}")
    independent = Units.of(units_of(samples, predictions)).one_image_each
    probabilities = predictions.probabilities[independent]
    index = {name: number for number, name in enumerate(classifier.classes)}
    labels = np.array([index[predictions.records[row].label] for row in independent], dtype=np.int64)
    rules: dict[str, object] = {}
    if isinstance(abstain_risk, float):
        found = find_threshold(probabilities.max(1), probabilities.argmax(1) != labels, abstain_risk, split=VAL)
        if isinstance(found, Shortfall):
            raise CheckFailedError(_describe_shortfall(found))
        rules["abstention"] = found
    if isinstance(sets, float):
        rules["label_sets"] = fit_label_sets(labels, probabilities, sets, split=VAL)
    return rules


def _describe_shortfall(shortfall: Shortfall) -> str:
    """Return the message: the risk that val cannot guarantee, the smallest risk it can, and the number of images needed."""
    risk, best = f"{100 * shortfall.risk:g} %", shortfall.best
    if best is None:
        smallest = "they cannot guarantee even 50 %"
    else:
        smallest = (
            f"the smallest risk they can guarantee is {100 * best.risk:.1f} %, with predictions for {100 * best.coverage:.0f} % of them: "
            f"--abstain-risk {best.risk:g}"
        )
    if shortfall.needed is None:
        needed = f"more images would not help, as more than {risk} of the surest predictions are wrong: train a better model"
    else:
        needed = f"about {shortfall.needed:,} similar val images would guarantee {risk}"
    return (
        f"--abstain-risk {shortfall.risk:g}: {shortfall.n:,} independent val images cannot guarantee, with 95 % confidence, "
        f"at most {risk} wrong predictions; {smallest}; {needed}. The model file is unchanged"
    )
