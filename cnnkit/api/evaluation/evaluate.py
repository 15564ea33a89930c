"""Evaluation: a model, labelled images, a report, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.evaluation.colour_baseline import colour_baseline
from cnnkit.api.evaluation.ood import OodEvaluation, evaluate_ood, ood_files
from cnnkit.api.inference.samples import other_samples, run_samples
from cnnkit.api.inference.split_predictions import classified
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.source import TEST, VAL
from cnnkit.data.store.scan import Progress
from cnnkit.errors import CheckFailedError, ConfigError, DataError
from cnnkit.exporters.opening import open_classifier
from cnnkit.files import check_writable, class_columns, fingerprint, write_csv, write_text
from cnnkit.metrics.classification import TOP_K, ClassificationReport, classification_report
from cnnkit.metrics.confusion import Normalize, normalized
from cnnkit.metrics.selective import SelectiveReport, selective_report
from cnnkit.metrics.temperature_effect import TemperatureEffect, temperature_effect
from cnnkit.metrics.warnings import evaluation_warnings
from cnnkit.model.classifier import Classifier, rules_of
from cnnkit.model.rules import Rules
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.model.tta import PLAIN_VIEW, Views, trained_views
from cnnkit.run_dir import StoredMetrics, write_metrics

COLUMNS = ("path", "true", "predicted", "probability", "loss")  # of predictions.csv


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model scored: the report, the images behind it, those left out, and the folder of the files (None: not kept).

    `opened` is how often the test split of the run has been looked at, this time included; 0 for other images.
    `probabilities` is (N, K) float32, `labels` (N,) int64, both in the order of `paths`. `views` is what the model was shown
    of every image. `selective` is what not answering does, `effect` what the model's temperature does to its probabilities, `strangers`
    what the model made of images of another kind, if it was shown any.
    """

    target: Target
    report: ClassificationReport
    paths: tuple[str, ...]
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

    @property
    def heading(self) -> str:
        """What must stand above the figures: that they are not those of the plain images; else empty."""
        return "" if self.views == PLAIN_VIEW else str(self.views)

    def to_dict(self, *, confusion: bool = False) -> dict[str, Any]:
        """Return the figures as metrics.json has them, with `confusion` as ``eval --json`` prints them."""
        tta = {} if self.views == PLAIN_VIEW else {"tta": self.views.to_dict()}
        ood = {"ood": self.ood.to_dict()} if self.ood else {}
        shares = normalized(self.report.confusion, self.normalize).tolist()
        shown = {"normalize": self.normalize, "confusion_normalized": shares} if confusion and self.normalize != "none" else {}
        return {
            "format": StoredMetrics.newest_format,
            **self.report.to_dict(confusion=confusion),
            **shown,
            "calibration": self.effect.to_dict(),
            **self.selective.to_dict(),
            **ood,
            **tta,
        }

    def to_metrics(self) -> StoredMetrics:
        """Return what metrics.json holds: the figures, the file whose answers these are, and the images that were left out."""
        model = {"file": self.target.path.name, "sha256": fingerprint(self.target.path)}
        unreadable = [{"path": path, "error": error} for path, error in self.bad]
        opened = {"opened": self.opened} if self.opened else {}
        return StoredMetrics.model_validate({**self.to_dict(), "model": model, "unreadable": unreadable, **opened})

    def require_accuracy(self, least: float) -> str:
        """Return how the accuracy compares with the `least` that was asked for, in [0, 1]; raises `CheckFailedError` if it is below."""
        report = self.report
        accuracy = report.accuracy
        measured = (
            f"the accuracy is {accuracy.value:.4f} (95 % interval {accuracy.low:.4f} to {accuracy.high:.4f}, "
            f"{report.n} {report.split} image{'s' * (report.n != 1)})"
        )
        if accuracy.value < least:
            raise CheckFailedError(f"{measured}, and --min-accuracy asks for {least:g}")
        below = ", though the interval begins below: other images may give less" if accuracy.low < least else ""
        return f"{measured}; --min-accuracy {least:g} is met{below}"


def evaluate(  # noqa: PLR0913 - as many as the command has flags
    model: str | Path | None = None,
    *,
    data: str | None = None,
    split: str | None = None,
    classes: Sequence[str] = (),
    out: str | Path | None = None,
    all_probabilities: bool = False,
    top_k: int | None = None,
    normalize: Normalize = "none",
    tta: bool = False,
    ood: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model on the test split of its run (val if it has none), or on `data`; write the files of the evaluation.

    The files go to ``eval/<split>/`` of the run directory, or to `out`; a lone model file without `out` writes none.
    Only images of `classes` are taken, if some are named. With `normalize` the picture of the confusion matrix shows shares, and
    ``confusion-<normalize>.csv`` has them. With `tta` the model answers for several views of every image (see `cnnkit.model.tta`), and the
    files go to ``eval/<split>-tta/``. `ood` is a folder of images of another kind, to see how many of them are answered. Raises
    `CnnkitError` if there is no such model, no labelled image, the classes do not fit, `top_k` leaves nothing to measure, or `tta` is
    asked of a model that knows no other view.
    """
    target = find_target(model)
    classifier, views = open_classifier(target.path), PLAIN_VIEW
    if tta:
        classifier, views = _with_views(classifier, target)
    names = classifier.classes
    if top_k is not None and not 1 <= top_k < len(names):
        fitting = f"1 to {len(names) - 1} say something" if len(names) > 2 else "leave it out"  # noqa: PLR2004 - of two, 1 is accuracy
        raise ConfigError(f"--top-k {top_k}: the model has {len(names)} classes; {fitting}")
    if data is None and target.run is None:
        raise ConfigError(f"{target.path} lies in no run directory, so its images are not known; name labelled images with --data FOLDER")
    own = target.run if data is None else None
    samples = run_samples(own, split, classes) if own else other_samples(data or "", split, names, classes)
    folder = _folder(target, out, data, f"{samples.split}-tta" if tta else samples.split)
    if all_probabilities and folder is None:
        raise ConfigError(f"--probabilities needs a place for its columns: {target.path} lies in no run directory; add --out FOLDER")
    ood_images = ood_files(ood) if ood is not None else []
    answers = classified(classifier, samples, progress)
    if not answers.records:
        path, reason = answers.bad[0]
        raise DataError(f"{samples.source.name}: not one of the {samples.split} images can be read, such as {path}: {reason}")
    notes = answers.notes
    if split is None and own and samples.split == VAL:
        notes.append("the run has no test split: these are figures of val, which also chose the epoch, and so a little too good")
    opened = own.count_opening(TEST) if own and samples.split == TEST else 0
    if opened > 1:
        notes.append(f"test has now been opened {opened} times: what is chosen by looking at it makes its figures too good; choose by val")
    index = {name: position for position, name in enumerate(names)}
    labels = np.array([index[record.label] for record in answers.records], dtype=np.int64)
    report = classification_report(labels, answers.probabilities, names, split=samples.split, top_k=top_k or TOP_K)
    said = answers.probabilities.argmax(axis=1)
    colour = colour_baseline(samples, answers, names, labels, said)
    known = rules_of(classifier)
    rules, note = _usable_rules(known, views)
    selective = selective_report(labels, answers.probabilities, rules.abstention, rules.label_sets)
    result = Evaluation(
        target=target,
        report=replace(report, baselines=(*report.baselines, colour)) if colour else report,
        paths=tuple(record.path for record in answers.records),
        labels=labels,
        probabilities=answers.probabilities,
        bad=answers.bad,
        notes=(*notes, *note, *evaluation_warnings(report)),
        folder=folder,
        selective=selective,
        effect=temperature_effect(labels, answers.probabilities, known.temperature, known.calibration, report=report),
        ood=evaluate_ood(classifier, ood_images, selective.top, rules.abstention, progress) if ood_images else None,
        opened=opened,
        views=views,
        normalize=normalize,
    )
    if folder is not None:
        write_files(result, folder, all_probabilities=all_probabilities)
    return result


def write_files(evaluation: Evaluation, folder: Path, *, all_probabilities: bool) -> None:
    """Write metrics.json, predictions.csv, confusion.csv, report.txt, perhaps ood.csv, and the pictures into `folder`."""
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
    more = [effect_line(evaluation.effect), risk_coverage_table(evaluation.selective)]
    more += [ood_sentence(evaluation.ood.report, report.split)] if evaluation.ood else []
    write_text(folder / "report.txt", report_text(report, evaluation.heading, more, evaluation.normalize))
    plot_confusion(report.confusion, report.classes, folder / "confusion.png", evaluation.normalize)
    plot_reliability(evaluation.effect, folder / "reliability.png")
    plot_risk_coverage(evaluation.selective, report.split, folder / "risk_coverage.png")
    (folder / "ood.csv").unlink(missing_ok=True)  # one of an earlier evaluation says nothing about this one
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


def _with_views(classifier: Classifier, target: Target) -> tuple[TorchClassifier, Views]:
    """Return the classifier that looks at every canvas as its training did, and those views."""
    if not isinstance(classifier, TorchClassifier):
        named = target.run.path if target.run else "RUN"
        raise ConfigError(
            f"--tta: {target.path} resizes every image by itself and shows its network that one view; evaluate the model it was "
            f"exported from: cnnkit eval --tta --model {named}"
        )
    views = trained_views(classifier.model.header)
    return TorchClassifier(classifier.model, views=views), views


def _usable_rules(rules: Rules, views: Views) -> tuple[Rules, tuple[str, ...]]:
    """Return those of the model's `rules` that its figures obey, and a note; with views there are none, as they were found without."""
    if views == PLAIN_VIEW or not (rules.abstention or rules.label_sets):
        return rules, ()
    return Rules(), ("the model's threshold and label sets were found without --tta, and are left out of these figures",)


def _folder(target: Target, out: str | Path | None, data: str | None, split: str) -> Path | None:
    if out is not None:
        folder = Path(out)
        check_writable(folder)
        return folder
    if target.run is None:
        return None
    return target.run.evaluation(split if data is None else f"{Path(data).name}-{split}")
