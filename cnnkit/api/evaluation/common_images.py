"""The images on which several models can be compared: every model was tested on them, and none was trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cnnkit.data.source import TRAIN
from cnnkit.errors import DataError


class LabelledImage(NamedTuple):
    """An image of a test set; two images are the same if path, label and the SHA-256 of the content agree."""

    path: str
    label: str
    sha256: str


@dataclass(frozen=True)
class ImagesOfModel:
    """The images that the model `name` was tested on, and the contents (SHA-256) that it was trained on.

    `split_file` is the split.csv of the model's run; None if the images come from elsewhere.
    """

    name: str
    tested: tuple[LabelledImage, ...]
    trained: frozenset[str]
    split_file: Path | None = None


@dataclass(frozen=True)
class CommonImages:
    """The images to compare on, the paths of the images left out with the reason, and notes for the user."""

    images: tuple[LabelledImage, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def images_of_run(name: str, rows: Sequence[dict[str, str]], split: str, split_file: Path) -> ImagesOfModel:
    """Return the images of `split` and the training contents of the run `name`, from the rows of its split.csv."""
    tested = tuple(LabelledImage(row["path"], row["label"], row["sha256"]) for row in rows if row["split"] == split)
    return ImagesOfModel(name, tested, trained_contents(rows), split_file)


def trained_contents(rows: Sequence[dict[str, str]]) -> frozenset[str]:
    """Return the contents (SHA-256) of the train split, from the rows of a split.csv."""
    return frozenset(row["sha256"] for row in rows if row["split"] == TRAIN)


def common_images(models: Sequence[ImagesOfModel], split: str, *, overlap: bool) -> CommonImages:
    """Return the images that every model was tested on.

    With `overlap` the models may have different images. The common images are taken, without those whose copy a model was trained
    on. Without `overlap` such copies are only noted. Raises `DataError`, which counts the common images, if the images differ
    without `overlap`, or if no image is left.
    """
    shared = set(models[0].tested).intersection(*(model.tested for model in models[1:]))
    all_equal = all(len(shared) == len(model.tested) for model in models)
    if not all_equal and not overlap:
        raise DataError(_describe_difference(models, shared, split))
    if not shared:
        raise DataError(f"--overlap: {_describe_difference(models, shared, split)}")
    images = [image for image in models[0].tested if image in shared]
    notes = [] if all_equal else [f"compared on the {len(images):,} {split} images that are common to all: {_sizes(models)}"]
    leaks = {image: names for image in images if (names := [model.name for model in models if image.sha256 in model.trained])}
    if not leaks:
        return CommonImages(tuple(images), (), tuple(notes))
    if not overlap:
        notes.append(f"{_describe_leaks(leaks)}; --overlap leaves them out")
        return CommonImages(tuple(images), (), tuple(notes))
    if len(leaks) == len(images):
        raise DataError(
            f"--overlap: {_describe_leaks(leaks)}; no image is left to compare on: name other labelled images with --data FOLDER"
        )
    notes.append(f"left out: {_describe_leaks(leaks)}")
    left_out = tuple((image.path, f"a copy is in the train split of {' and '.join(names)}") for image, names in leaks.items())
    return CommonImages(tuple(image for image in images if image not in leaks), left_out, tuple(notes))


def _describe_difference(models: Sequence[ImagesOfModel], shared: set[LabelledImage], split: str) -> str:
    """Return the sizes of the test sets, the number of common images and the commands that help."""
    parts = [f"the runs have different {split} images: {_sizes(models)}"]
    if shared:
        parts.append(f"{len(shared):,} are common to all: compare on those with --overlap")
    else:
        parts.append(f"no image is common to all{_hint(models)}")
    first = models[0]
    for other in models[1:]:
        known = sum(image.sha256 in other.trained for image in first.tested)
        if known:
            parts.append(f"{other.name} was trained on {known:,} of the {split} images of {first.name}")
    if first.split_file is not None:
        parts.append(f"to compare on all, train again with the same split: cnnkit train --split-file {first.split_file}")
    return "; ".join(parts)


def _hint(models: Sequence[ImagesOfModel]) -> str:
    """Return the number of images that agree in content or path only, with an example; empty without such images."""
    first, other = models[0].tested, models[1].tested
    same_content = {image.sha256 for image in first} & {image.sha256 for image in other}
    if same_content:
        pair = next((one, two) for one in first for two in other if one.sha256 == two.sha256 and one != two)
        example = f"{_name(pair[0])} and {_name(pair[1])}"
        return f" ({len(same_content):,} have the same content but another path or label, such as {example})"
    same_path = {image.path for image in first} & {image.path for image in other}
    return f" ({len(same_path):,} have the same path but another content, such as {min(same_path)})" if same_path else ""


def _name(image: LabelledImage) -> str:
    return f"{image.path} ({image.label})"


def _sizes(models: Sequence[ImagesOfModel]) -> str:
    return ", ".join(f"{model.name} has {len(model.tested):,}" for model in models)


def _describe_leaks(leaks: dict[LabelledImage, list[str]]) -> str:
    """Return the number of tested images with a copy in train, an example, and the consequence."""
    names = sorted({name for names in leaks.values() for name in names})
    verb = "has" if len(leaks) == 1 else "have"
    plural = "" if len(names) == 1 else "s"
    return (
        f"{len(leaks):,} of these images {verb} an exact copy in the train split of {' and '.join(names)}, "
        f"such as {next(iter(leaks)).path}: the model{plural} may have memorised {'it' if len(leaks) == 1 else 'them'}"
    )
