"""The images of an evaluation: a split of the run, or other data without the images that the model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cnnkit.api.evaluation.identity import Images
from cnnkit.api.evaluation.trained_images import Lookup, Origin, RunImage, RunImages, look_up
from cnnkit.api.inference.samples import Samples, check_only, evaluated_split, labelled, most_frequent, run_samples, samples_of
from cnnkit.api.inference.target import Target
from cnnkit.data.progress import Progress
from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record, Source, one_form, open_source
from cnnkit.data.store.scan import find_contents, scan
from cnnkit.errors import ConfigError, DataError, ModelFileError, counted, shell_path, verb
from cnnkit.model.classifier import Classifier
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.run_dir import RunDir

OWN_SHARE = 0.9  # of a split of the run: data that hold it are the run's own, although a few images were removed
MIN_OWN_DATA_SHARE = 0.5  # of the data: where most images are new, these are measured too


@dataclass(frozen=True)
class MeasuredImages:
    """The samples of an evaluation and notes; `run` is the run if they are a split of its own images, else None.

    `identity` tells them from the images of other evaluations. `lookup` is None without a lookup. `left_out` lists the paths that the
    lookup leaves out, each with the reason.
    """

    samples: Samples
    identity: Images
    run: RunDir | None
    notes: tuple[str, ...] = ()
    lookup: Lookup | None = None
    left_out: tuple[tuple[str, str], ...] = ()


def measured_images(
    target: Target,
    classifier: Classifier,
    data: str | Source | None,
    split: str | None,
    only: Sequence[str] = (),
    *,
    own: Source | None = None,
    include_trained: bool = False,
    progress: Progress | None = None,
) -> MeasuredImages:
    """Return the images of `split` of the run of `target`, or of `data`, restricted to the classes `only`.

    `own` is the source of the run if it is in memory. Images of `data` that the run trained on or validated on are left out, unless
    `include_trained`. If `data` are the images of the run itself, its own split is returned. Raises `DataError` as `run_samples` and
    `samples_of` do, and if no image is left.
    """
    if data is None:
        if target.run is None:
            raise ConfigError(f"{target.path} lies in no run directory, so its images are unknown; name labelled images with --data FOLDER")
        samples = run_samples(target.run, split, only, own=own, progress=progress)
        return MeasuredImages(samples, Images(samples.split, tuple(only)), target.run)
    source = open_source(data, progress=progress) if isinstance(data, str) else data
    run, unknown = images_of(target)
    if run is None or target.run is None:
        if include_trained:
            raise ConfigError(f"--include-trained: {unknown}; leave it out")
        samples = samples_of(source, split, classifier.classes, only)
        stamps = [(record.path, record.label, source.stamp(record)) for record in samples.records]
        return MeasuredImages(samples, Images(samples.split, tuple(only), source.name, fingerprint(stamps)), None, (unknown,))
    found = _read(target.run, run, source, split, classifier.classes, only, progress)
    return found.measured(classifier, include_trained=include_trained, progress=progress)


def images_of(target: Target) -> tuple[RunImages | None, str]:
    """Return the images of the run of `target`, or None and the reason why they are unknown."""
    cannot = "it cannot be checked whether the model was trained on these images"
    if target.run is None:
        return None, f"{target.path} lies in no run directory, so {cannot}"
    try:
        rows, record = target.run.read_split(), target.run.read_record()
    except ModelFileError as error:
        return None, f"{cannot}: {error}"
    images = tuple(RunImage(row["path"], row["label"], row["split"], row["sha256"], row.get("unit") or "") for row in rows)
    return RunImages(target.run.name, record.data.location, images), ""


@dataclass(frozen=True)
class _DataOfRun:
    """Data that may hold images of the run in `folder`: the records `scope`, their contents, and the `equal` image of the run or None.

    `split` and `only` are the split and the classes that the user asked for, `classes` those of the model.
    """

    folder: RunDir
    run: RunImages
    source: Source
    split: str | None
    only: Sequence[str]
    classes: tuple[str, ...]
    scope: tuple[Record, ...]
    contents: Sequence[str]
    equal: tuple[RunImage | None, ...]

    def measured(self, classifier: Classifier, *, include_trained: bool, progress: Progress | None) -> MeasuredImages:
        """Return the run's own split if the data hold it; else the data without the images that the model was trained on."""
        wanted = self.split or evaluated_split([{"split": image.split} for image in self.run.images])
        if not include_trained and self._are_own(wanted):
            return self._own_split(wanted)
        samples = samples_of(self.source, self.split, self.classes, self.only)
        row_of = {record.path: row for row, record in enumerate(self.scope)}
        geometry = classifier.model.header.preprocessing if isinstance(classifier, TorchClassifier) else None
        found = scan(self.source, self.scope, geometry, progress=progress)
        is_readable = found.facts.readable
        rows = [row for record in samples.records if is_readable[row := row_of[record.path]]]
        origins, by, notes = look_up(self.run, found, rows)
        lookup = Lookup(self.run.name, len(rows), tuple(origins.values()), by, include_trained, notes)
        samples = Samples(self.source, samples.split, samples.records, self.scope, {}, majority_class=self._majority_class)
        if not origins:
            return MeasuredImages(samples, self._identity(samples), None, notes, lookup)
        if include_trained:
            included = f"{lookup.sentence()}; --include-trained: the figures are too good"
            return MeasuredImages(samples, self._identity(samples), None, (included, *notes), lookup)
        if len(origins) == len(rows):
            raise DataError(self._nothing_left(lookup))
        left_out = tuple(
            (self.scope[row].path, f"{_reason(origin.near)} the {origin.split} split of {lookup.name}") for row, origin in origins.items()
        )
        gone = {path for path, _ in left_out}
        kept = tuple(record for record in samples.records if record.path not in gone)
        note = f"{lookup.sentence()}; they are left out, and --include-trained measures them too"
        samples = replace(samples, records=kept)
        return MeasuredImages(samples, self._identity(samples), None, (note, *notes), lookup, left_out)

    @property
    def _majority_class(self) -> str | None:
        """The most frequent class of the training images of the run."""
        return most_frequent(image.label for image in self.run.images if image.split == TRAIN)

    def _are_own(self, split: str) -> bool:
        """Tell whether the data are the images of the run: they hold nearly all of its `split`, and are half of the run at least."""
        own = {image.sha256 for image in self.equal if image and image.split == split}
        wanted = {image.sha256 for image in self.run.images if image.split == split}
        known = sum(image is not None for image in self.equal)
        return bool(own) and len(own) >= OWN_SHARE * len(wanted) and known >= MIN_OWN_DATA_SHARE * len(self.scope)

    def _own_split(self, split: str) -> MeasuredImages:
        """Return the `split` of the run, found in the data by content."""
        check_only(self.only, self.classes, self.source.name)
        chosen = self.only or self.classes
        by_split = {
            name: tuple(r for r, image in zip(self.scope, self.equal, strict=True) if image and image.split == name) for name in SPLITS
        }
        records = tuple(record for record in by_split[split] if record.label in chosen)
        if not records:
            raise DataError(
                f"--classes {','.join(self.only)}: {self.source.name} has no {split} images of these classes of {self.run.name}"
            )
        unit_of = {r.path: image.unit or image.sha256 for r, image in zip(self.scope, self.equal, strict=True) if image}
        units = {record.path: unit_of[record.path] for record in records}
        samples = Samples(self.source, split, records, self.scope, {}, by_split[TRAIN], units, self._majority_class)
        numbers = {name: len(by_split[name]) for name in SPLITS}
        others = [f"the model was trained on {numbers[TRAIN]:,} others"] if split != TRAIN else []
        missing = sum(image.split == split for image in self.run.images) - numbers[split]
        others += [f"{counted(missing, 'image')} of the split {verb(missing, 'is', 'are')} missing"] if missing > 0 else []
        new = len(self.scope) - sum(numbers.values())
        others += [f"{new:,} {verb(new, 'is', 'are')} not of the run, and left out"] if new else []
        note = (
            f"{self.source.name} holds the images of {self.run.name}, so its {split} split is evaluated: "
            f"{len(records):,} of {len(self.scope):,} images; {'; '.join(others)}"
        ).removesuffix("; ")
        origins = tuple(Origin(image.split) for image in self.equal if image)
        recorded = {
            (one_form(image.path), image.label, image.sha256) for image in self.run.images if image.split == split and image.label in chosen
        }
        is_recorded = recorded == {(one_form(path), label, content) for path, label, content in self._described(samples)}
        identity = Images(split, tuple(self.only)) if is_recorded else self._identity(samples)
        return MeasuredImages(samples, identity, self.folder, (note,), Lookup(self.run.name, len(self.scope), origins))

    def _identity(self, samples: Samples) -> Images:
        return Images(samples.split, tuple(self.only), self.source.name, fingerprint(self._described(samples)))

    def _described(self, samples: Samples) -> list[tuple[str, str, str]]:
        """Return path, label and SHA-256 of the samples."""
        chosen = {record.path for record in samples.records}
        pairs = zip(self.scope, self.contents, strict=True)
        return [(record.path, record.label, content) for record, content in pairs if record.path in chosen]

    def _nothing_left(self, lookup: Lookup) -> str:
        run = shell_path(self.folder.path)
        return (
            f"{self.source.name}: {lookup.sentence()}, so no image is left to measure; name images that the model has not seen, "
            f"evaluate the split of the run itself: cnnkit eval --model {run}, or add --include-trained"
        )


def fingerprint(images: Iterable[tuple[str, str, str]]) -> str:
    """Return the SHA-256 of the path, the label and the content of all `images`, in hex."""
    text = "".join(f"{path}\0{label}\0{content}\n" for path, label, content in sorted(images))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _reason(near: bool) -> str:  # noqa: FBT001
    return "a near copy is in" if near else "a copy is in"


def _read(
    folder: RunDir,
    run: RunImages,
    source: Source,
    split: str | None,
    classes: tuple[str, ...],
    only: Sequence[str],
    progress: Progress | None,
) -> _DataOfRun:
    """Read the images of `source` that have `classes` of the model: those of `split`, else of test or val, else all."""
    present = {record.split for record in source.records}
    chosen = next((name for name in ([split] if split else [TEST, VAL]) if name in present), None)
    known = set(classes)
    records = labelled(source.records, classes)
    scope = tuple(record for record in records if record.label in known and (chosen is None or record.split == chosen))
    contents = find_contents(source, scope, progress)
    return _DataOfRun(folder, run, source, split, only, classes, scope, contents, tuple(_equal_images(run, scope, contents)))


def _equal_images(run: RunImages, scope: Sequence[Record], contents: Sequence[str]) -> list[RunImage | None]:
    """Return the image of the run with the content of each record; of several, that with the same path, or else one in train."""
    by_content = run.by_content()
    by_path = {(one_form(image.path), image.sha256): image for image in run.images}
    return [
        by_path.get((one_form(record.path), content)) or by_content.get(content) for record, content in zip(scope, contents, strict=True)
    ]
