"""All checks without a trained network, in the order of their ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnnkit.data.store.cached_results import cached_result
from cnnkit.doctor.classes import class_name_clash, empty_class, imbalance, small_class
from cnnkit.doctor.companions import companion_files, companion_finding, companions
from cnnkit.doctor.copies import duplicate, label_conflict, leak, near_conflict
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.files import exif_rotated, odd_mode, unreadable, wrong_extension
from cnnkit.doctor.finding import Finding
from cnnkit.doctor.pictures import blurred, constant, odd_aspect, tiny
from cnnkit.doctor.series.series import series
from cnnkit.doctor.shortcut import shortcut

EXAMINE_VERSION = 1  # raise it when a finding changes, so that cached findings are not used
_QUICK = (
    *(unreadable, wrong_extension, exif_rotated, odd_mode),
    *(tiny, constant, blurred, odd_aspect),
    *(imbalance, small_class, empty_class, class_name_clash),
    *(duplicate, label_conflict, near_conflict, leak),
    series,
    companion_files,
)
# Findings that spoil metrics, so that `train` and `split` repeat them; the first checks need names alone.
_SPOILING_NAMES = (empty_class, class_name_clash)
_SPOILING = (*_SPOILING_NAMES, label_conflict, series, companion_files)


def examine_for_training(evidence: Evidence, *, names_only: bool = False) -> list[Finding]:
    """Return the findings that spoil the metrics of a training.

    With `names_only`, only the checks of names run, for images that were not opened.
    """
    if not evidence.records:
        return []
    return _run(_SPOILING_NAMES if names_only else _SPOILING, evidence)


def examine(evidence: Evidence, *, shortcuts: bool = True, folder: Path | None = None) -> list[Finding]:
    """Return the findings in the order of `cnnkit.doctor.finding.IDS`, with cases in the order of the records.

    With `shortcuts`, the check that trains small models (`cnnkit.doctor.shortcut`) runs too, which takes seconds. The findings are
    cached in the store's `folder`, if there is one.
    """
    if not evidence.records:
        return []

    def compute() -> dict[str, Any]:
        return {"findings": [finding.to_dict() for finding in _run((*_QUICK, shortcut) if shortcuts else _QUICK, evidence)]}

    # The models of the shortcuts are scikit-learn's.
    key = (EXAMINE_VERSION, version("scikit-learn"), shortcuts, evidence.fingerprint)
    return [Finding.from_dict(found) for found in cached_result(folder, "findings", key, compute)["findings"]]


def _run(checks: Sequence[Callable[[Evidence], Finding | None]], evidence: Evidence) -> list[Finding]:
    """Return the findings of `checks`. Masks beside the photographs are one finding, and the other checks judge the photographs alone."""
    found = companions(evidence)
    beside = [companion for part in found for _, companion in part.pairs]
    photographs = evidence.only(np.setdiff1d(np.arange(len(evidence.records)), beside)) if beside else evidence
    results = (companion_finding(evidence, found) if check is companion_files else check(photographs) for check in checks)
    return [finding for finding in results if finding]
