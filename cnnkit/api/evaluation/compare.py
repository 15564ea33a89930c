"""Comparison: several models, the same images, who is right more often and where."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnkit.api.evaluation.common_images import Common, Image, Seen, common_images, learned, seen_by
from cnnkit.api.evaluation.evaluate import Evaluation, evaluate
from cnnkit.api.evaluation.stored_evaluation import Record, evaluated, of_evaluation, of_files, place_beside
from cnnkit.api.inference.samples import other_samples
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.source import TEST, VAL
from cnnkit.data.store.scan import Progress, scan
from cnnkit.errors import ConfigError, DataError, listed
from cnnkit.files import check_writable, fingerprint, write_csv, write_json
from cnnkit.metrics.comparison import Entrant, ModelPredictions, compare_pairs, score
from cnnkit.metrics.comparison_report import CHANGE_COLUMNS, Comparison, Contender

_FEWEST = 2
_JOINED = 3  # names of runs that one folder's name takes


@dataclass(frozen=True)
class _Party:
    """One model that takes part: the name it goes by, where it is, the SHA-256 of its file."""

    name: str
    target: Target
    sha256: str


def compare(
    runs: Sequence[str | Path],
    *,
    data: str | None = None,
    split: str | None = None,
    overlap: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two or more models on the same images: those of the test split of their runs (val if they have none), or of `data`.

    Each of `runs` is a run directory, a model file or an exported file; answers that ``eval/<split>/`` of a run holds for this very
    file are read, others made by `evaluate`. With `overlap`, runs of different splits are compared on the images that all were
    tested on and none was trained on. The files go to `out`, else to ``compare/<split>/<others>/`` of the first run.
    Raises `CnnkitError` if there are fewer than two models or one twice, if their classes or images differ, or as `evaluate` does.
    """
    if out is not None:
        check_writable(Path(out))  # before images are read
    parties = _parties(runs)
    found = _on_data(parties, data, split, overlap, progress) if data is not None else _on_runs(parties, split, overlap, progress)
    folder = _folder(parties, found.label, out)
    comparison = _compared(parties, found, folder)
    if folder is not None:
        write_files(comparison, folder)
    return comparison


def write_files(comparison: Comparison, folder: Path) -> None:
    """Write compare.json, compare.csv (one row per pair and image that changes sides) and compare.png into `folder`."""
    from cnnkit.report.pictures.comparison import plot_differences  # matplotlib takes a second to import

    write_json(folder / "compare.json", comparison.to_dict())
    rows = (change.row(pair) for pair in comparison.pairs for change in comparison.changes(pair))
    write_csv(folder / "compare.csv", CHANGE_COLUMNS, rows)
    plot_differences(comparison, folder / "compare.png")


@dataclass(frozen=True)
class _Found:
    """The images, what each model answers to them, and what they are: `label` names the split in folders."""

    common: Common
    records: tuple[Record, ...]
    classes: tuple[str, ...]
    split: str
    label: str
    data: str


def _parties(runs: Sequence[str | Path]) -> list[_Party]:
    """Find every model and give it a name of its own; refuses fewer than two, and one twice."""
    if len(runs) < _FEWEST:
        given = f"only {runs[0]} is named" if runs else "none is named"
        raise ConfigError(f"a comparison needs at least two runs, {given}: cnnkit compare RUN RUN; cnnkit runs lists them")
    targets = [find_target(run) for run in runs]
    for place, count in Counter(target.path.resolve() for target in targets).items():
        if count > 1:
            named = [str(run) for run, target in zip(runs, targets, strict=True) if target.path.resolve() == place]
            raise ConfigError(f"{' and '.join(dict.fromkeys(named))}: one model, named {count} times; name each run once")
    return [_Party(name, target, fingerprint(target.path)) for name, target in zip(_names(targets), targets, strict=True)]


def _names(targets: Sequence[Target]) -> list[str]:
    """Name every model by the end of its path: the run's folder, or the file's way from there, and more where two would be alike."""
    parts, lengths = zip(*(_path_of(target) for target in targets), strict=True)
    while True:
        names = ["/".join(each[-length:]) for each, length in zip(parts, lengths, strict=True)]
        if len(set(names)) == len(names):  # as they will be: no two paths are
            return names
        lengths = [length + (names.count(name) > 1) for length, name in zip(lengths, names, strict=True)]


def _path_of(target: Target) -> tuple[tuple[str, ...], int]:
    """Return the path that a model is named by, and how many of its last parts make a name."""
    file = target.path.resolve()
    if target.run is None:
        return file.parts, 1
    folder = target.run.path.resolve()
    if file == target.run.best.resolve():
        return folder.parts, 1
    return file.parts, 1 + len(file.relative_to(folder).parts)


def _on_runs(parties: Sequence[_Party], split: str | None, overlap: bool, progress: Progress | None) -> _Found:  # noqa: FBT001
    """Find the images in the runs' split.csv, and the answers in their evaluations."""
    for party in parties:
        if party.target.run is None:
            raise ConfigError(
                f"{party.target.path} lies in no run directory, so its test images are not known; name labelled images with --data FOLDER"
            )
    directories = [party.target.run for party in parties if party.target.run]
    recorded = [run.read_record() for run in directories]
    _check_classes([(party.name, each.classes) for party, each in zip(parties, recorded, strict=True)])
    rows = [run.read_split(each.classes) for run, each in zip(directories, recorded, strict=True)]
    chosen = split or _common_split([(party.name, {row["split"] for row in each}) for party, each in zip(parties, rows, strict=True)])
    seen = [seen_by(party.name, each, chosen, run.split_file) for party, each, run in zip(parties, rows, directories, strict=True)]
    for each in seen:
        if not each.tested:
            raise DataError(f"--split {chosen}: {each.name} has no {chosen} images; name a split that all have, or leave --split out")
    common = common_images(seen, chosen, overlap=overlap)
    records = tuple(
        of_files(evaluated(run, chosen, progress, model=party.target.path)) for party, run in zip(parties, directories, strict=True)
    )
    return _Found(common, records, recorded[0].classes, chosen, chosen, recorded[0].data.location)


def _on_data(parties: Sequence[_Party], data: str, split: str | None, overlap: bool, progress: Progress | None) -> _Found:  # noqa: FBT001
    """Evaluate every model on `data`, whose images must not have trained one of them."""
    name = Path(data).name
    evaluations: list[Evaluation] = []
    for party in parties:
        beside = place_beside(party.target.run, party.target.path, name) if party.target.run else None
        evaluations.append(evaluate(party.target.path, data=data, split=split, out=beside, progress=progress))
    classes = [evaluation.report.classes for evaluation in evaluations]
    _check_classes([(party.name, names) for party, names in zip(parties, classes, strict=True)])
    samples = other_samples(data, split, classes[0])
    facts = scan(samples.source, samples.scope, progress=progress).facts
    images = tuple(
        Image(record.path, record.label, fact.sha256) for record, fact in zip(samples.records, facts, strict=True) if not fact.error
    )
    runs = [(party.name, party.target.run) for party in parties]
    seen = [Seen(who, images, learned(run.read_split()) if run else frozenset()) for who, run in runs]
    common = common_images(seen, samples.split, overlap=overlap)
    records = tuple(of_evaluation(evaluation) for evaluation in evaluations)
    return _Found(common, records, classes[0], samples.split, f"{name}-{samples.split}", data)


def _compared(parties: Sequence[_Party], found: _Found, folder: Path | None) -> Comparison:
    """Line up the answers image by image and compare them."""
    unread = {path: reason for record in found.records for path, reason in record.unreadable.items()}
    images = [image for image in found.common.images if image.path not in unread]
    gone = [(image.path, unread[image.path]) for image in found.common.images if image.path in unread]
    if not images:
        raise DataError(f"not one of the {found.split} images can be read any more, such as {gone[0][0]}: {gone[0][1]}")
    index = {name: position for position, name in enumerate(found.classes)}
    labels = np.array([index[image.label] for image in images], dtype=np.int64)
    entrants = [
        Entrant(party.name, party.sha256, _answers(record, images, index)) for party, record in zip(parties, found.records, strict=True)
    ]
    contenders = tuple(
        Contender(entrant, score(labels, entrant.predictions, len(index)), str(party.target.path), record.fresh)
        for party, entrant, record in zip(parties, entrants, found.records, strict=True)
    )
    told = [f"{party.name}: {note}" for party, record in zip(parties, found.records, strict=True) for note in record.notes]
    unreadable = [f"{len(gone)} images cannot be read any more and are left out, such as {gone[0][0]}: {gone[0][1]}"] if gone else []
    return Comparison(
        split=found.split,
        data=found.data,
        classes=found.classes,
        paths=tuple(image.path for image in images),
        labels=labels,
        contenders=contenders,
        pairs=compare_pairs(labels, found.classes, entrants),
        left_out=(*found.common.left_out, *gone),
        notes=(*told, *found.common.notes, *unreadable),
        folder=folder,
    )


def _answers(record: Record, images: Sequence[Image], index: dict[str, int]) -> ModelPredictions:
    answers = [record.answers[image.path] for image in images]
    return ModelPredictions(
        predicted=np.array([index[answer.predicted] for answer in answers], dtype=np.int64),
        probability=np.array([answer.probability for answer in answers], dtype=np.float64),
        losses=np.array([answer.loss for answer in answers], dtype=np.float64),
    )


def _check_classes(known: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    first, expected = known[0]
    for name, classes in known[1:]:
        if set(classes) != set(expected):
            raise DataError(
                f"{first} and {name} know different classes: {first} {listed(expected)}; {name} {listed(classes)}; "
                f"compare runs of the same classes (train one anew with --classes)"
            )


def _common_split(splits: Sequence[tuple[str, set[str]]]) -> str:
    """Return test, or val if no run has a test split."""
    with_test = [name for name, names in splits if TEST in names]
    if len(with_test) == len(splits):
        return TEST
    if with_test:
        without = next(name for name, names in splits if TEST not in names)
        raise DataError(f"{with_test[0]} has a test split, {without} has none; compare on a split that all have: --split val")
    return VAL


def _folder(parties: Sequence[_Party], label: str, out: str | Path | None) -> Path | None:
    """Return the folder of the files; None if no run is there to hold them."""
    if out is not None:
        folder = Path(out)
    else:
        home = next((party for party in parties if party.target.run), None)
        if home is None or home.target.run is None:
            return None
        others = [party.name.replace("/", "-") for party in parties if party is not home]
        named = "+".join(others)
        if len(others) > _JOINED:
            named = f"{len(others)}-others-{hashlib.sha256(named.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        folder = home.target.run.path / "compare" / label / named
    check_writable(folder)
    return folder
