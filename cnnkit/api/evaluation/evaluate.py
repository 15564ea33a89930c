"""The evaluation of a model on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.evaluation.colour_baseline import colour_baseline
from cnnkit.api.evaluation.evaluated_units import units_of
from cnnkit.api.evaluation.evaluation import Evaluation
from cnnkit.api.evaluation.evaluation_files import write_files
from cnnkit.api.evaluation.identity import Images, evaluation_folder
from cnnkit.api.evaluation.measured_images import MeasuredImages, images_of, measured_images
from cnnkit.api.evaluation.ood import OodEvaluation, OodImages, evaluate_ood, ood_files, without_own_images
from cnnkit.api.extensions.metrics import measure_metrics, named_metrics
from cnnkit.api.inference.device import device_notes
from cnnkit.api.inference.samples import Samples, spelled
from cnnkit.api.inference.split_predictions import SplitPredictions, predict_split
from cnnkit.api.inference.target import ModelName, Target
from cnnkit.api.inference.trained_model import TrainedModel, load_model
from cnnkit.data.progress import Progress
from cnnkit.data.source import TEST, VAL, Source
from cnnkit.data.sources.arrays import Images as MemoryImages
from cnnkit.data.sources.arrays import Labels, Table, source_in_memory
from cnnkit.data.sources.folder import check_outside
from cnnkit.errors import ConfigError, DataError
from cnnkit.files import check_writable
from cnnkit.metrics.classification import TOP_K, ClassificationReport, classification_report
from cnnkit.metrics.confusion import Normalize
from cnnkit.metrics.selective import selective_report
from cnnkit.metrics.temperature_effect import temperature_effect
from cnnkit.metrics.units import Units
from cnnkit.metrics.warnings import evaluation_warnings
from cnnkit.model.classifier import Classifier, rules_of
from cnnkit.model.rules import Rules
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.model.tta import PLAIN_VIEW, Views, trained_views
from cnnkit.run_dir import RunDir


def evaluate(  # noqa: PLR0913 - one argument per flag of the command
    model: ModelName = None,
    *,
    data: str | Path | Table | None = None,
    images: MemoryImages | None = None,
    labels: Labels | None = None,
    split: str | None = None,
    classes: Sequence[str] = (),
    out: str | Path | None = None,
    all_probabilities: bool = False,
    top_k: int | None = None,
    normalize: Normalize = "none",
    metrics: Sequence[str] = (),
    tta: bool = False,
    ood: str | Path | None = None,
    include_trained: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model on the test split of its run (val without a test split), or on `data`; write the files of the evaluation.

    `data` is a value of ``--data``, or a DataFrame with the columns ``path,label[,split][,group]``. `images` with `labels` are the
    arguments of `cnnkit.data.sources.arrays.ArraysSource`. The files go to `out`, else to the folder of `evaluation_folder` in the run,
    such as ``eval/test/``; a lone model file writes none. `classes` restricts the images to these classes. `normalize` shows the confusion
    matrix as shares, also in ``confusion-<normalize>.csv``. `metrics` are values of ``--metric``. `tta` averages over views of every image
    (`cnnkit.model.tta`). `ood` is a folder of other images. `device` is that of the network. Images of `data` and `ood` that the model was
    trained on are left out, unless `include_trained`. Raises `CnnkitError` for a missing model, no readable image, unknown classes, a
    `top_k` outside 1 to K - 1, or `tta` for an export.
    """
    given = source_in_memory("evaluate", data, images, labels) or (None if data is None else str(data))
    trained = load_model(model, device=device)
    target = trained.target
    classifier, views = _with_views(trained, tta=tta)
    named = named_metrics(metrics, len(classifier.classes))
    _check_flags(target, out, given, ood, top_k, len(classifier.classes), include_trained=include_trained)
    only, own = _restriction(classes, classifier.classes), trained.source
    measured = measured_images(target, classifier, given, split, only, own=own, include_trained=include_trained, progress=progress)
    folder = _folder(target, out, measured.identity, tta=tta, needed=all_probabilities)
    ood_images = _ood_images(target, ood, include_trained=include_trained, progress=progress)
    result = _measure(target, classifier, views, measured, top_k or TOP_K, is_default=split is None, progress=progress)
    result = replace(
        result,
        notes=(*measured.notes, *ood_images.notes, *result.notes),
        folder=folder,
        scores=measure_metrics(named, result.labels, result.probabilities, result.units),
        ood=_evaluate_ood(classifier, ood_images, result, progress),
        normalize=normalize,
    )
    if folder is not None:
        write_files(result, folder, all_probabilities=all_probabilities)
    return result


def _measure(
    target: Target,
    classifier: Classifier,
    views: Views,
    measured: MeasuredImages,
    top_k: int,
    *,
    is_default: bool,
    progress: Progress | None,
) -> Evaluation:
    """Return the evaluation of `classifier` on the `measured` images, without files and out-of-distribution images.

    `is_default` tells that no split was asked for.
    """
    samples, predictions = measured.samples, _classify(classifier, measured.samples, progress)
    opened, split_notes = _count_opening(measured.run, samples.split, is_default=is_default)
    labels, probabilities = _labels(predictions, classifier.classes), predictions.probabilities
    units = Units.of(units_of(samples, predictions))
    report = _report(samples, predictions, labels, classifier.classes, units, top_k)
    stored = rules_of(classifier)
    rules, rule_notes = _usable_rules(stored, views)
    return Evaluation(
        target=target,
        report=report,
        paths=tuple(record.path for record in predictions.records),
        units=units,
        labels=labels,
        probabilities=probabilities,
        bad=predictions.bad,
        notes=(*device_notes(classifier), *predictions.notes, *split_notes, *rule_notes, *evaluation_warnings(report)),
        folder=None,
        selective=selective_report(labels, probabilities, rules.abstention, rules.label_sets, units),
        effect=temperature_effect(labels, probabilities, stored.temperature, stored.calibration, report=report, units=units),
        opened=opened,
        views=views,
        images=measured.identity,
        lookup=measured.lookup,
        left_out=measured.left_out,
    )


def _restriction(classes: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return `classes` as the model spells them, each once; nothing if they are all its classes `names`."""
    return () if set(classes) == set(names) else tuple(dict.fromkeys(spelled(classes, names)))


def _report(
    samples: Samples, predictions: SplitPredictions, labels: NDArray[np.int64], classes: Sequence[str], units: Units, top_k: int
) -> ClassificationReport:
    """Return the report of `predictions` with the constant baseline and the colour baseline."""
    probabilities, majority = predictions.probabilities, samples.majority_class
    report = classification_report(labels, probabilities, classes, split=samples.split, top_k=top_k, units=units, majority_class=majority)
    colour = colour_baseline(samples, predictions, classes, labels, probabilities.argmax(axis=1), units)
    return replace(report, baselines=(*report.baselines, colour)) if colour else report


def _with_views(trained: TrainedModel, *, tta: bool) -> tuple[Classifier, Views]:
    """Return the classifier and the views it averages over: with `tta` those of its training, else the plain view."""
    classifier, target = trained.classifier, trained.target
    if not tta:
        return classifier, PLAIN_VIEW
    if not isinstance(classifier, TorchClassifier):
        run = target.run.path if target.run else "RUN"
        raise ConfigError(
            f"--tta: {target.path} is an exported file, which shows its network one view of every image; "
            f"evaluate the original model: cnnkit eval --tta --model {run}"
        )
    views = trained_views(classifier.model.header)
    return TorchClassifier(classifier.model, device=classifier.device, views=views), views


def _evaluate_ood(classifier: Classifier, images: OodImages, evaluation: Evaluation, progress: Progress | None) -> OodEvaluation | None:
    """Return the result on out-of-distribution `images` beside the images of `evaluation`; None without files."""
    if not images.files:
        return None
    selective = evaluation.selective
    found = evaluate_ood(classifier, images.files, selective.top, selective.abstention, progress, evaluation.units)
    return replace(found, lookup=images.lookup)


def _check_flags(
    target: Target,
    out: str | Path | None,
    data: str | Source | None,
    ood: str | Path | None,
    top_k: int | None,
    classes: int,
    *,
    include_trained: bool,
) -> None:
    """Raise `ConfigError` for an unusable `top_k`, `out` or `include_trained`, before any image is read."""
    _check_top_k(top_k, classes)
    if out is not None:
        check_outside(Path(out), data if isinstance(data, str) else "")
        check_writable(Path(out))
    if include_trained and data is None and ood is None:
        raise ConfigError(
            f"--include-trained needs --data or --ood; the images that the model was trained on alone: "
            f"cnnkit eval --model {target.run.path if target.run else 'RUN'} --split train"
        )


def _check_top_k(top_k: int | None, classes: int) -> None:
    """Raise `ConfigError` unless `top_k` is None or in 1 to `classes` - 1: a larger k is always right."""
    if top_k is None or 1 <= top_k < classes:
        return
    remedy = f"choose 1 to {classes - 1}" if classes > 2 else "leave it out"  # noqa: PLR2004 - with two classes only 1 is left: accuracy
    raise ConfigError(f"--top-k {top_k}: the model has {classes} classes; {remedy}")


def _ood_images(target: Target, ood: str | Path | None, *, include_trained: bool, progress: Progress | None) -> OodImages:
    """Return the out-of-distribution images of the folder `ood`, without those of the run; no files without a folder."""
    if ood is None:
        return OodImages()
    return without_own_images(ood_files(ood), *images_of(target), include_trained=include_trained, progress=progress)


def _classify(classifier: Classifier, samples: Samples, progress: Progress | None) -> SplitPredictions:
    """Return the predictions for `samples`; raise `DataError` if no image can be read."""
    predictions = predict_split(classifier, samples, progress)
    if not predictions.records:
        path, reason = predictions.bad[0]
        raise DataError(f"{samples.source.name}: none of the {samples.split} images can be read, such as {path}: {reason}")
    return predictions


def _labels(predictions: SplitPredictions, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class indices (N,) of the classified images."""
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[record.label] for record in predictions.records], dtype=np.int64)


def _count_opening(run: RunDir | None, split: str, *, is_default: bool) -> tuple[int, list[str]]:
    """Count one more evaluation of the run's test split; return the number, 0 for other images, and notes on figures that are too good."""
    if run is None:
        return 0, []
    if split == VAL and is_default:
        return 0, ["the run has no test split: these are the figures of val; they are a little too good, as val also chose the epoch"]
    opened = run.count_opening(TEST) if split == TEST else 0
    if opened > 1:
        return opened, [f"test has been opened {opened} times: choices made on test make its figures too good; make choices on val"]
    return opened, []


def _usable_rules(rules: Rules, views: Views) -> tuple[Rules, tuple[str, ...]]:
    """Return the rules that apply to the figures, and a note; no rule applies to several views, as rules are fitted on the plain one."""
    if views == PLAIN_VIEW or not (rules.abstention or rules.label_sets):
        return rules, ()
    return Rules(), ("the threshold and the label sets of the model were fitted without --tta; these figures leave them out",)


def _folder(target: Target, out: str | Path | None, images: Images, *, tta: bool, needed: bool) -> Path | None:
    """Return the folder of the files; None if there is none, which is a `ConfigError` if files are `needed` (``--probabilities``).

    Raises `ModelFileError` for a folder of a run in which a training of another process runs.
    """
    if target.run is not None and (out is None or Path(out).resolve().is_relative_to(target.run.path.resolve())):
        target.run.check_free("; to evaluate its best epoch so far, add --out FOLDER outside of the run")
    if out is not None:
        return Path(out)
    if target.run is None and needed:
        raise ConfigError(f"--probabilities needs a file for its columns, but {target.path} lies in no run directory; add --out FOLDER")
    return evaluation_folder(target.run, target.path, images, tta=tta) if target.run else None
