"""The comparison of several models on the same images: their accuracies, and the images on which they disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnkit.api.evaluation.common_images import (
    CommonImages,
    LabelledImage,
    common_images,
    images_of_run,
)
from cnnkit.api.evaluation.evaluate import evaluate
from cnnkit.api.evaluation.evaluation import Evaluation
from cnnkit.api.evaluation.identity import Images, short_hash
from cnnkit.api.evaluation.stored_evaluation import (
    PredictionsByPath,
    load_or_evaluate,
    predictions_of_fresh,
    predictions_of_stored,
)
from cnnkit.api.inference.samples import unit_of_row
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.progress import Progress
from cnnkit.data.source import SPLITS, TEST, VAL
from cnnkit.data.sources.folder import check_outside
from cnnkit.errors import ConfigError, DataError, counted, listed
from cnnkit.files import check_writable, fingerprint, write_csv, write_json
from cnnkit.metrics.comparison import Entrant, ModelPredictions, compare_pairs, score
from cnnkit.metrics.comparison_report import CHANGE_COLUMNS, Comparison, Contender
from cnnkit.metrics.units import Units

_MIN_MODELS = 2
_MAX_NAMES = 3  # names of runs that the name of a folder joins


@dataclass(frozen=True)
class _NamedModel:
    """A compared model: its displayed name, unique in the comparison, its location and the SHA-256 of its file."""

    name: str
    target: Target
    sha256: str


def compare(
    runs: Sequence[str | Path],
    *,
    data: str | None = None,
    split: str | None = None,
    overlap: bool = False,
    include_trained: bool = False,
    out: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Compare two or more models on the same images: the test split of their runs (val without a test split), or `data`.

        Each of `runs` is a run directory, a model file or an exported file. A stored evaluation of this very file is read; without one,
        `evaluate` makes it. With `overlap`, runs with different splits are compared on the images that all models were tested on and none
    was trained on. Images of `data` that a model was trained on are left out, unless `include_trained`. The files go to `out`, else to
        ``compare/<split>/<others>/`` of the first run. Raises `CnnkitError` as `evaluate` does, and for fewer than two models, a model
        named twice, or models with different classes or images.
    """
    if out is not None:
        check_outside(Path(out), data or "")
        check_writable(Path(out))  # fail early: the evaluations may take minutes
    _check_flags(data, overlap=overlap, include_trained=include_trained)
    models = _find_models(runs)
    if data is not None:
        inputs = _from_data(models, data, split, device, progress, include_trained)
    else:
        inputs = _from_runs(models, split, overlap, device, progress)
    folder = _folder(models, inputs.label, out)
    comparison = _compare(models, inputs, folder)
    if folder is not None:
        write_files(comparison, folder)
    return comparison


def write_files(comparison: Comparison, folder: Path) -> None:
    """Write compare.json, compare.csv (one row per pair and image that is fixed or broken) and compare.png into `folder`."""
    from cnnkit.report.pictures.comparison import plot_differences  # matplotlib takes a second to import

    write_json(folder / "compare.json", comparison.to_dict())
    rows = (change.row(pair) for pair in comparison.pairs for change in comparison.changes(pair))
    write_csv(folder / "compare.csv", CHANGE_COLUMNS, rows)
    plot_differences(comparison, folder / "compare.png")


@dataclass(frozen=True)
class _Inputs:
    """The images to compare on, the predictions of every model, and the source of the images; `label` names the split in folders."""

    common: CommonImages
    predictions: tuple[PredictionsByPath, ...]
    units: Mapping[str, Hashable]
    classes: tuple[str, ...]
    split: str
    label: str
    data: str


def _check_flags(data: str | None, *, overlap: bool, include_trained: bool) -> None:
    """Raise `ConfigError` for a flag that the images do not use."""
    if data is not None and overlap:
        raise ConfigError(
            "--overlap is for the test splits of runs; with --data, images that a model was trained on are left out: leave it out"
        )
    if data is None and include_trained:
        raise ConfigError("--include-trained needs --data; to compare on the train split of the runs: --split train")


def _find_models(runs: Sequence[str | Path]) -> list[_NamedModel]:
    """Find every model and give it a unique name; raise `ConfigError` for fewer than two models or a model named twice."""
    if len(runs) < _MIN_MODELS:
        given = f"only {runs[0]} is named" if runs else "none is named"
        raise ConfigError(f"a comparison needs at least two runs, {given}: cnnkit compare RUN RUN; cnnkit runs lists them")
    targets = [find_target(run) for run in runs]
    for path, count in Counter(target.path.resolve() for target in targets).items():
        if count > 1:
            same = [str(run) for run, target in zip(runs, targets, strict=True) if target.path.resolve() == path]
            raise ConfigError(f"{' and '.join(dict.fromkeys(same))}: one model, named {count} times; name each run once")
    return [_NamedModel(name, target, fingerprint(target.path)) for name, target in zip(_unique_names(targets), targets, strict=True)]


def _unique_names(targets: Sequence[Target]) -> list[str]:
    """Name every model by the end of its path, a run by its folder; models of equal names get longer ends."""
    parts, lengths = zip(*(_path_parts(target) for target in targets), strict=True)
    while True:
        names = ["/".join(each[-length:]) for each, length in zip(parts, lengths, strict=True)]
        if len(set(names)) == len(names):  # the loop ends here, as no two paths are equal
            return names
        lengths = [length + (names.count(name) > 1) for length, name in zip(lengths, names, strict=True)]


def _path_parts(target: Target) -> tuple[tuple[str, ...], int]:
    """Return the parts of the path that names a model, and the number of last parts that make the shortest name."""
    file = target.path.resolve()
    if target.run is None:
        return file.parts, 1
    folder = target.run.path.resolve()
    if file == target.run.best.resolve():
        return folder.parts, 1
    return file.parts, 1 + len(file.relative_to(folder).parts)


def _from_runs(
    models: Sequence[_NamedModel],
    split: str | None,
    overlap: bool,  # noqa: FBT001
    device: str,
    progress: Progress | None,
) -> _Inputs:
    """Return the common images of the runs' split.csv, and the predictions of the runs' evaluations."""
    for model in models:
        if model.target.run is None:
            raise ConfigError(
                f"{model.target.path} lies in no run directory, so its test images are unknown; name labelled images with --data FOLDER"
            )
    runs = [model.target.run for model in models if model.target.run]
    records = [run.read_record() for run in runs]
    _check_classes([(model.name, record.classes) for model, record in zip(models, records, strict=True)])
    rows = [run.read_split(record.classes) for run, record in zip(runs, records, strict=True)]
    chosen = split or _common_split([(model.name, {row["split"] for row in each}) for model, each in zip(models, rows, strict=True)])
    images = [images_of_run(model.name, each, chosen, run.split_file) for model, each, run in zip(models, rows, runs, strict=True)]
    for each in images:
        if not each.tested:
            raise DataError(f"--split {chosen}: {each.name} has no {chosen} images; name a split that all runs have, or leave --split out")
    common = common_images(images, chosen, overlap=overlap)
    predictions = tuple(
        predictions_of_stored(load_or_evaluate(run, chosen, progress, model=model.target.path, device=device))
        for model, run in zip(models, runs, strict=True)
    )
    units = {row["path"]: unit_of_row(row) for row in rows[0]}
    label = f"{chosen}-overlap" if overlap else chosen
    return _Inputs(common, predictions, units, records[0].classes, chosen, label, records[0].data.location)


def _from_data(
    models: Sequence[_NamedModel],
    data: str,
    split: str | None,
    device: str,
    progress: Progress | None,
    include_trained: bool,  # noqa: FBT001
) -> _Inputs:
    """Evaluate every model on `data`; the common images are those that `evaluate` measures for every model."""
    if include_trained and not any(model.target.run for model in models):
        raise ConfigError("--include-trained: no model lies in a run directory, so their training images are unknown; leave it out")
    evaluations: list[Evaluation] = []
    for model in models:
        included = include_trained and model.target.run is not None
        evaluations.append(evaluate(model.target.path, data=data, split=split, include_trained=included, device=device, progress=progress))
    classes = [evaluation.report.classes for evaluation in evaluations]
    names = [model.name for model in models]
    _check_classes(list(zip(names, classes, strict=True)))
    common = _images_in_all(names, evaluations, data)
    predictions = tuple(predictions_of_fresh(evaluation) for evaluation in evaluations)
    units = dict(zip(evaluations[0].paths, evaluations[0].units.index.tolist(), strict=True))
    splits = [evaluation.report.split for evaluation in evaluations]
    shown = next((each for each in splits if each in SPLITS), splits[0])  # that of a run, if the data are its own images
    identities = {evaluation.images for evaluation in evaluations if evaluation.images}
    measured = short_hash("".join(sorted(each.sha256 for each in identities)))
    label = Images(shown, data="" if identities == {Images(shown)} else data, sha256=measured).label()
    return _Inputs(common, predictions, units, classes[0], shown, label, data)


def _images_in_all(names: Sequence[str], evaluations: Sequence[Evaluation], data: str) -> CommonImages:
    """Return the images of all `evaluations` of the models `names`; raise `DataError` if there is none."""
    labels = [_labels(evaluation) for evaluation in evaluations]
    shared = [path for path in labels[0] if all(path in each for each in labels)]
    sizes = ", ".join(f"{name} has {len(each):,}" for name, each in zip(names, labels, strict=True))
    if not shared:
        raise DataError(f"--data {data}: no image is left that no model was trained on: {sizes}; name images that are new to all models")
    reasons: dict[str, list[str]] = {}
    for path, reason in (each for evaluation in evaluations for each in evaluation.left_out):
        reasons.setdefault(path, []).append(reason)
    notes = [] if all(len(each) == len(shared) for each in labels) else [f"compared on the {len(shared):,} images common to all: {sizes}"]
    images = tuple(LabelledImage(path, labels[0][path], "") for path in shared)
    return CommonImages(images, tuple((path, "; ".join(texts)) for path, texts in reasons.items()), tuple(notes))


def _labels(evaluation: Evaluation) -> dict[str, str]:
    """Return the class of every image by its path; empty for an unreadable image."""
    unreadable = {path: "" for path, _ in evaluation.bad}
    classes = evaluation.report.classes
    return unreadable | {path: classes[label] for path, label in zip(evaluation.paths, evaluation.labels, strict=True)}


def _compare(models: Sequence[_NamedModel], inputs: _Inputs, folder: Path | None) -> Comparison:
    """Align the predictions image by image and compare them; raise `DataError` if no image is readable for all models."""
    unreadable = {path: reason for each in inputs.predictions for path, reason in each.unreadable.items()}
    images = [image for image in inputs.common.images if image.path not in unreadable]
    lost = [(image.path, unreadable[image.path]) for image in inputs.common.images if image.path in unreadable]
    if not images:
        raise DataError(
            f"none of the {inputs.split} images can be read, such as {lost[0][0]}: {lost[0][1]}; "
            f"restore them, or name other images with --data"
        )
    index = {name: number for number, name in enumerate(inputs.classes)}
    labels = np.array([index[image.label] for image in images], dtype=np.int64)
    units = Units.of([inputs.units[image.path] for image in images])
    entrants = [
        Entrant(model.name, model.sha256, _align(each, images, index)) for model, each in zip(models, inputs.predictions, strict=True)
    ]
    contenders = tuple(
        Contender(entrant, score(labels, entrant.predictions, len(index), units), str(model.target.path), each.fresh)
        for model, entrant, each in zip(models, entrants, inputs.predictions, strict=True)
    )
    notes = [f"{model.name}: {note}" for model, each in zip(models, inputs.predictions, strict=True) for note in each.notes]
    lost_notes = [f"left out: {counted(len(lost), 'unreadable image')}, such as {lost[0][0]}: {lost[0][1]}"] if lost else []
    return Comparison(
        split=inputs.split,
        data=inputs.data,
        classes=inputs.classes,
        paths=tuple(image.path for image in images),
        labels=labels,
        units=units.count,
        contenders=contenders,
        pairs=compare_pairs(labels, inputs.classes, entrants, units),
        left_out=(*inputs.common.left_out, *lost),
        notes=(*notes, *inputs.common.notes, *lost_notes),
        folder=folder,
    )


def _align(predictions: PredictionsByPath, images: Sequence[LabelledImage], index: dict[str, int]) -> ModelPredictions:
    """Return the predictions in the order of `images`, classes as their `index`."""
    rows = [predictions.by_path[image.path] for image in images]
    return ModelPredictions(
        predicted=np.array([index[row.predicted] for row in rows], dtype=np.int64),
        probability=np.array([row.probability for row in rows], dtype=np.float64),
        losses=np.array([row.loss for row in rows], dtype=np.float64),
    )


def _check_classes(models: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """Raise `DataError`, with both lists, if the models, given as names and classes, have different classes."""
    first, expected = models[0]
    for name, classes in models[1:]:
        if set(classes) != set(expected):
            raise DataError(
                f"{first} and {name} have different classes: {first} has {listed(expected)}; {name} has {listed(classes)}; "
                f"compare runs of the same classes, or train one again with --classes"
            )


def _common_split(splits: Sequence[tuple[str, set[str]]]) -> str:
    """Return test, or val if no run has a test split; `splits` are the names of the runs with their splits."""
    with_test = [name for name, names in splits if TEST in names]
    if len(with_test) == len(splits):
        return TEST
    if with_test:
        without = next(name for name, names in splits if TEST not in names)
        raise DataError(f"{with_test[0]} has a test split, {without} has none; compare on a split that all runs have: --split val")
    return VAL


def _folder(models: Sequence[_NamedModel], label: str, out: str | Path | None) -> Path | None:
    """Return the folder of the files: `out`, else one in the first run; None if no model has a run."""
    if out is not None:
        folder = Path(out)
    else:
        first = next((model for model in models if model.target.run), None)
        if first is None or first.target.run is None:
            return None
        others = [model.name.replace("/", "-") for model in models if model is not first]
        joined = "+".join(others)
        if len(others) > _MAX_NAMES:
            joined = f"{len(others)}-others-{short_hash(joined)}"
        files = [model.target.path.resolve() for model in models]
        if not all(file.is_relative_to(first.target.run.path.resolve().parent) for file in files):  # a name does not tell its folder
            joined = f"{joined}-{short_hash(chr(0).join(map(str, files)))}"
        folder = first.target.run.path / "compare" / label / joined
    check_writable(folder)
    return folder
