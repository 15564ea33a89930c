"""The evaluation of a model on labelled images: the report and its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.evaluation.colour_baseline import colour_baseline
from cnnkit.api.evaluation.evaluated_units import units_of
from cnnkit.api.evaluation.identity import Images, evaluation_folder
from cnnkit.api.evaluation.measured_images import images_of, measured_images
from cnnkit.api.evaluation.ood import OodEvaluation, OodImages, evaluate_ood, ood_files, without_own_images
from cnnkit.api.evaluation.trained_images import Lookup
from cnnkit.api.inference.samples import Samples, spelled
from cnnkit.api.inference.split_predictions import SplitPredictions, predict_split
from cnnkit.api.inference.target import ModelName, Target
from cnnkit.api.inference.trained_model import TrainedModel, load_model
from cnnkit.data.source import TEST, VAL, Source
from cnnkit.data.sources.arrays import Images as MemoryImages
from cnnkit.data.sources.arrays import Labels, Table, source_in_memory
from cnnkit.data.sources.folder import check_outside
from cnnkit.data.store.scan import Progress
from cnnkit.errors import CheckFailedError, ConfigError, DataError
from cnnkit.files import check_writable, class_columns, fingerprint, write_csv, write_text
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.classification import TOP_K, ClassificationReport, classification_report
from cnnkit.metrics.confusion import Normalize, normalized
from cnnkit.metrics.selective import SelectiveReport, selective_report
from cnnkit.metrics.temperature_effect import TemperatureEffect, temperature_effect
from cnnkit.metrics.warnings import evaluation_warnings
from cnnkit.model.classifier import Classifier, rules_of
from cnnkit.model.rules import Rules
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.model.tta import PLAIN_VIEW, Views, trained_views
from cnnkit.run_dir import RunDir, StoredMetrics, write_metrics

COLUMNS = ("path", "true", "predicted", "probability", "loss")  # of predictions.csv


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The result of a model on N labelled images: the report, the predictions behind it and the folder of the files (None: not written).

    `probabilities` is (N, K) float32, `labels` (N,) int64, both in the order of `paths`, as are the `units` of the images. `bad` lists the
    unreadable images, each with the reason. `selective` holds risk against coverage, `effect` the effect of the model's temperature on
    its probabilities, `ood` the result on out-of-distribution images. `opened` counts the evaluations of the run's test split, this one
    included; 0 for other images. `views` are the views of every image that the probabilities are the mean of. `normalize` is that of the
    confusion matrix. `images` is the identity of the images. `lookup` counts the images of other data that the model was trained on, and
    `left_out` lists those that are not measured.
    """

    target: Target
    report: ClassificationReport
    paths: tuple[str, ...]
    units: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    bad: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    folder: Path | None
    selective: SelectiveReport
    effect: TemperatureEffect
    ood: OodEvaluation | None = None
    opened: int = 0
    views: Views = PLAIN_VIEW
    normalize: Normalize = "none"
    images: Images | None = None
    lookup: Lookup | None = None
    left_out: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        report = self.report
        files = f", files {str(self.folder)!r}" if self.folder else ""
        return f"Evaluation({str(self.target.path)!r}, {report.summary}{files})"

    def _repr_html_(self) -> str:
        from cnnkit.report.page.notebook import report_html

        return report_html(self.report)

    @property
    def heading(self) -> str:
        """The line above the figures, which names the views; empty for plain images."""
        return "" if self.views == PLAIN_VIEW else str(self.views)

    def to_dict(self, *, confusion: bool = False) -> dict[str, Any]:
        """Return the figures of metrics.json; with `confusion`, the object that ``eval --json`` prints."""
        tta = {} if self.views == PLAIN_VIEW else {"tta": self.views.to_dict()}
        ood = {"ood": self.ood.to_dict()} if self.ood else {}
        shares = normalized(self.report.confusion, self.normalize).tolist()
        shown = {"normalize": self.normalize, "confusion_normalized": shares} if confusion and self.normalize != "none" else {}
        lookup = {"lookup": self.lookup.to_dict()} if self.lookup else {}
        return {
            "format": StoredMetrics.newest_format,
            **self.report.to_dict(confusion=confusion),
            **shown,
            "calibration": self.effect.to_dict(),
            **self.selective.to_dict(),
            **ood,
            **tta,
            **lookup,
        }

    def to_metrics(self) -> StoredMetrics:
        """Return the content of metrics.json: the figures, the model file by its SHA-256, and the unreadable images."""
        model = {"file": self.target.path.name, "sha256": fingerprint(self.target.path)}
        unreadable = [{"path": path, "error": error} for path, error in self.bad]
        opened = {"opened": self.opened} if self.opened else {}
        images = {}
        if self.images and (self.images.data or self.images.classes):
            data = {"source": self.images.data, "sha256": self.images.sha256} if self.images.data else {}
            images = {"images": {**data, "classes": list(self.images.classes)}}
        return StoredMetrics.model_validate({**self.to_dict(), **images, "model": model, "unreadable": unreadable, **opened})

    def require_accuracy(self, minimum: float) -> str:
        """Return a sentence that compares the accuracy with `minimum`, in [0, 1]; raises `CheckFailedError` if it is below."""
        from cnnkit.report.terminal.numbers import images_text

        report = self.report
        accuracy = report.accuracy
        images = images_text(report.n, report.units, report.split)
        measured = f"the accuracy is {accuracy.value:.4f} (95 % interval {accuracy.low:.4f} to {accuracy.high:.4f}, {images})"
        if accuracy.value < minimum:
            raise CheckFailedError(f"{measured}; --min-accuracy asks for at least {minimum:g}")
        below = ", but the interval begins below it: other images may give less" if accuracy.low < minimum else ""
        return f"{measured}; --min-accuracy {minimum:g} is met{below}"


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
    tta: bool = False,
    ood: str | Path | None = None,
    include_trained: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model on the test split of its run (val without a test split), or on `data`; write the files of the evaluation.

    `data` is a value of ``--data``, or a DataFrame with the columns ``path,label[,split][,group]``. `images` with `labels` are the
    arguments of `cnnkit.data.sources.arrays.ArraysSource`.
    The files go to `out`, else to the folder of `evaluation_folder` in the run, such as ``eval/test/``; a lone model file writes none.
    `classes` restricts the images to these classes. `normalize` shows the confusion matrix as shares, also in
    ``confusion-<normalize>.csv``. `tta` averages over views of every image (`cnnkit.model.tta`). `ood` is a folder of other images.
    `device` is that of the network. Images of `data` and `ood` that the model was trained on are left out, unless `include_trained`.
    Raises `CnnkitError` for a missing model, no readable image, unknown classes, a `top_k` outside 1 to K - 1, or `tta` for an export.
    """
    given = source_in_memory("evaluate", data, images, labels) or (None if data is None else str(data))
    trained = load_model(model, device=device)
    target = trained.target
    classifier, views = _with_views(trained, tta=tta)
    names = classifier.classes
    _check_flags(target, out, given, ood, top_k, len(names), include_trained=include_trained)
    only = _restriction(classes, names)
    measured = measured_images(
        target, classifier, given, split, only, own=trained.source, include_trained=include_trained, progress=progress
    )
    folder = _folder(target, out, measured.identity, tta=tta, needed=all_probabilities)
    ood_images = _ood_images(target, ood, include_trained=include_trained, progress=progress)
    samples, predictions = measured.samples, _classify(classifier, measured.samples, progress)
    opened, split_notes = _count_opening(measured.run, samples.split, is_default=split is None)
    true, probabilities, units = _labels(predictions, names), predictions.probabilities, units_of(samples, predictions)
    report = _report(samples, predictions, true, names, units, top_k or TOP_K)
    stored, (rules, rule_notes) = rules_of(classifier), _usable_rules(rules_of(classifier), views)
    selective = selective_report(true, probabilities, rules.abstention, rules.label_sets, units)
    result = Evaluation(
        target=target,
        report=report,
        paths=tuple(record.path for record in predictions.records),
        units=tuple(units),
        labels=true,
        probabilities=probabilities,
        bad=predictions.bad,
        notes=(*measured.notes, *ood_images.notes, *predictions.notes, *split_notes, *rule_notes, *evaluation_warnings(report)),
        folder=folder,
        selective=selective,
        effect=temperature_effect(true, probabilities, stored.temperature, stored.calibration, report=report, units=units),
        ood=_evaluate_ood(classifier, ood_images, selective.top, rules.abstention, progress, units),
        opened=opened,
        views=views,
        normalize=normalize,
        images=measured.identity,
        lookup=measured.lookup,
        left_out=measured.left_out,
    )
    if folder is not None:
        write_files(result, folder, all_probabilities=all_probabilities)
    return result


def write_files(evaluation: Evaluation, folder: Path, *, all_probabilities: bool) -> None:
    """Write metrics.json, predictions.csv, confusion.csv, report.txt, the pictures and, with OOD images, ood.csv into `folder`."""
    from cnnkit.report.pictures.confusion import plot_confusion  # matplotlib takes a second to import
    from cnnkit.report.pictures.reliability import plot_reliability
    from cnnkit.report.pictures.risk import plot_risk_coverage
    from cnnkit.report.terminal.calibration import effect_line
    from cnnkit.report.terminal.selective import ood_sentence, risk_coverage_table
    from cnnkit.report.terminal.text import report_text

    report = evaluation.report
    write_metrics(folder, evaluation.to_metrics())
    columns = [*COLUMNS, *(class_columns(report.classes, COLUMNS) if all_probabilities else ())]
    write_csv(folder / "predictions.csv", columns, prediction_rows(evaluation, all_probabilities=all_probabilities))
    heads = class_columns(report.classes, ["true"])
    counts = [
        {"true": name, **dict(zip(heads, map(int, row), strict=True))} for name, row in zip(report.classes, report.confusion, strict=True)
    ]
    write_csv(folder / "confusion.csv", ["true", *heads], counts)
    if evaluation.normalize != "none":
        shares = normalized(report.confusion, evaluation.normalize).tolist()
        rows = [{"true": name, **dict(zip(heads, row, strict=True))} for name, row in zip(report.classes, shares, strict=True)]
        write_csv(folder / f"confusion-{evaluation.normalize}.csv", ["true", *heads], rows)
    extra_lines = [effect_line(evaluation.effect), risk_coverage_table(evaluation.selective)]
    extra_lines += [ood_sentence(evaluation.ood.report, report.split)] if evaluation.ood else []
    write_text(folder / "report.txt", report_text(report, evaluation.heading, extra_lines, evaluation.normalize))
    plot_confusion(report.confusion, report.classes, folder / "confusion.png", evaluation.normalize)
    plot_reliability(evaluation.effect, folder / "reliability.png")
    plot_risk_coverage(evaluation.selective, report.split, folder / "risk_coverage.png")
    (folder / "ood.csv").unlink(missing_ok=True)  # a file of an earlier evaluation does not belong to this one
    if evaluation.ood:
        evaluation.ood.write(folder / "ood.csv")


def prediction_rows(evaluation: Evaluation, *, all_probabilities: bool) -> Iterator[dict[str, object]]:
    """Yield the rows of predictions.csv."""
    classes, probabilities = evaluation.report.classes, evaluation.probabilities
    columns = class_columns(classes, COLUMNS)
    losses = -np.log(np.maximum(probabilities[np.arange(len(evaluation.labels)), evaluation.labels], np.finfo(np.float32).tiny))
    for path, label, row, loss in zip(evaluation.paths, evaluation.labels, probabilities, losses, strict=True):
        best = int(row.argmax())
        shown = dict(zip(columns, map(float, row), strict=True)) if all_probabilities else {}
        yield {
            "path": path,
            "true": classes[label],
            "predicted": classes[best],
            "probability": float(row[best]),
            "loss": float(loss),
            **shown,
        }


def _restriction(classes: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return `classes` as the model spells them, each once; nothing if they are all its classes `names`."""
    return () if set(classes) == set(names) else tuple(dict.fromkeys(spelled(classes, names)))


def _report(
    samples: Samples, predictions: SplitPredictions, labels: NDArray[np.int64], classes: Sequence[str], units: Sequence[str], top_k: int
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


def _evaluate_ood(
    classifier: Classifier,
    images: OodImages,
    top: NDArray[np.floating[Any]],
    rule: Abstention | None,
    progress: Progress | None,
    units: Sequence[str],
) -> OodEvaluation | None:
    return replace(evaluate_ood(classifier, images.files, top, rule, progress, units), lookup=images.lookup) if images.files else None


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
    """Return the folder of the files; None if there is none, which is a `ConfigError` if files are `needed` (``--probabilities``)."""
    if out is not None:
        return Path(out)
    if target.run is None and needed:
        raise ConfigError(f"--probabilities needs a file for its columns, but {target.path} lies in no run directory; add --out FOLDER")
    return evaluation_folder(target.run, target.path, images, tta=tta) if target.run else None
