"""Giving a model its rules of when not to answer: found on the validation images of its run, kept in the header of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cnnkit.api.inference.samples import run_samples
from cnnkit.api.inference.split_predictions import classified
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.source import VAL
from cnnkit.data.store.scan import Progress
from cnnkit.errors import CheckFailedError, ConfigError, DataError, ModelFileError
from cnnkit.metrics.abstention import Abstention, Shortfall, find_threshold
from cnnkit.metrics.conformal import fit_label_sets
from cnnkit.model.file import load_model, read_header, rewrite_header
from cnnkit.model.rules import Rules
from cnnkit.model.torch_classifier import TorchClassifier

Share = float | Literal["none"]  # "none" takes the rule away


@dataclass(frozen=True)
class Decided:
    """The model, its rules as they are now, and exported files of its run that were written before."""

    target: Target
    rules: Rules
    outdated: tuple[Path, ...]


def decide(
    model: str | Path | None = None, *, abstain_risk: Share | None = None, sets: Share | None = None, progress: Progress | None = None
) -> Decided:
    """Find on val the threshold that keeps the risk, and the one of label sets, and write them into the model file. None leaves a rule be.

    Raises `CheckFailedError`, and writes nothing, if no threshold can be shown to keep `abstain_risk`; `ConfigError` or `DataError` for
    a share that is none, a model without a run, or too few images; `ModelFileError` for an exported file.
    """
    target = find_target(model)
    if target.path.suffix != ".safetensors":
        raise ModelFileError(
            f"--model {target.path}: an exported file keeps the rules it was exported with; set them in the model it was made from, and "
            f"export that again"
        )
    header = read_header(target.path)
    changed: dict[str, object] = {"abstention": None} if abstain_risk == "none" else {}
    changed |= {"label_sets": None} if sets == "none" else {}
    if isinstance(abstain_risk, float) or isinstance(sets, float):
        changed |= _found(target, abstain_risk, sets, progress)
    header = header.model_copy(update=changed)
    rewrite_header(target.path, header)
    exported = sorted(target.run.export.glob("model.*")) if target.run else []
    return Decided(target, header, tuple(exported))


def _found(target: Target, abstain_risk: Share | None, sets: Share | None, progress: Progress | None) -> dict[str, object]:
    """Return the new rules; val is classified once for both."""
    if target.run is None:
        raise ConfigError(f"{target.path} lies in no run directory, so its validation images are not known; name the run: --model RUN")
    classifier = TorchClassifier(load_model(target.path))
    answers = classified(classifier, run_samples(target.run, VAL), progress)
    records, probabilities = answers.records, answers.probabilities
    if not records:
        path, reason = answers.bad[0]
        raise DataError(f"{target.run.path}: not one of its val images can be read, such as {path}: {reason}")
    index = {name: position for position, name in enumerate(classifier.classes)}
    labels = np.array([index[record.label] for record in records], dtype=np.int64)
    rules: dict[str, object] = {}
    if isinstance(abstain_risk, float):
        found = find_threshold(probabilities.max(1), probabilities.argmax(1) != labels, abstain_risk, split=VAL)
        if isinstance(found, Shortfall):
            raise CheckFailedError(_why_not(found))
        rules["abstention"] = found
    if isinstance(sets, float):
        rules["label_sets"] = fit_label_sets(labels, probabilities, sets, split=VAL)
    return rules


def _why_not(shortfall: Shortfall) -> str:
    """Say what cannot be promised, what can, and what it would take."""
    asked = f"{100 * shortfall.risk:g} %"
    best: Abstention | None = shortfall.best
    instead = (
        f"the least they can show is {100 * best.risk:.1f} %, answering {100 * best.coverage:.0f} % of them: --abstain-risk {best.risk:g}"
        if best
        else "they cannot show even 50 %"
    )
    if shortfall.needed is None:
        more = f"more images would not change that, as of the surest answers more than {asked} are wrong here: it takes a better model"
    else:
        more = f"about {shortfall.needed:,} val images like these would show {asked}"
    return (
        f"--abstain-risk {shortfall.risk:g}: {shortfall.n:,} val images cannot show, with 95 % confidence, that a threshold keeps the "
        f"errors among the answers at {asked} or less; {instead}; {more}. The model file is as it was"
    )
