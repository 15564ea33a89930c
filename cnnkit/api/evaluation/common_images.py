"""The images on which several models can be compared: tested by all of them and trained on by none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cnnkit.data.source import TRAIN
from cnnkit.errors import DataError


class Image(NamedTuple):
    """A labelled image: the same one only if its path, its label and the SHA-256 of its content are."""

    path: str
    label: str
    sha256: str


@dataclass(frozen=True)
class Seen:
    """What one model, called `name`, has seen: the images it is `tested` on, and the contents (SHA-256) it was `trained` on."""

    name: str
    tested: tuple[Image, ...]
    trained: frozenset[str]
    split_file: Path | None = None


@dataclass(frozen=True)
class Common:
    """The images to compare on, those left out with the reason, and what the user should know."""

    images: tuple[Image, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def seen_by(name: str, rows: Sequence[dict[str, str]], split: str, split_file: Path) -> Seen:
    """Return what the rows of a run's split.csv say that it has seen."""
    tested = tuple(Image(row["path"], row["label"], row["sha256"]) for row in rows if row["split"] == split)
    return Seen(name, tested, learned(rows), split_file)


def learned(rows: Sequence[dict[str, str]]) -> frozenset[str]:
    """Return the contents (SHA-256) of the train split of a split.csv."""
    return frozenset(row["sha256"] for row in rows if row["split"] == TRAIN)


def common_images(seen: Sequence[Seen], split: str, *, overlap: bool) -> Common:
    """Return the images that every model was tested on.

    If they are not the same for all, this raises `DataError` that says how far they are and offers the common ones; with `overlap`
    those are taken. An image whose copy a model was trained on is left out with `overlap`, and noted without.
    """
    shared = set(seen[0].tested).intersection(*(each.tested for each in seen[1:]))
    everywhere = all(len(shared) == len(each.tested) for each in seen)
    if not everywhere and not overlap:
        raise DataError(_different(seen, shared, split))
    if not shared:
        raise DataError(f"--overlap: {_different(seen, shared, split)}")
    images = [image for image in seen[0].tested if image in shared]
    notes = [] if everywhere else [f"compared on the {len(images):,} {split} images that are common to all: {_sizes(seen)}"]
    leaks = {image: names for image in images if (names := [each.name for each in seen if image.sha256 in each.trained])}
    if not leaks:
        return Common(tuple(images), (), tuple(notes))
    if not overlap:
        notes.append(f"{_leak(leaks)}; --overlap leaves them out")
        return Common(tuple(images), (), tuple(notes))
    if len(leaks) == len(images):
        raise DataError(f"--overlap: {_leak(leaks)}; nothing is left to compare on")
    notes.append(f"left out: {_leak(leaks)}")
    left_out = tuple((image.path, f"a copy of it is in the train split of {' and '.join(names)}") for image, names in leaks.items())
    return Common(tuple(image for image in images if image not in leaks), left_out, tuple(notes))


def _different(seen: Sequence[Seen], shared: set[Image], split: str) -> str:
    """Say how the images differ and what to type."""
    parts = [f"the runs have different {split} images: {_sizes(seen)}"]
    if shared:
        parts.append(f"{len(shared):,} are common to all: compare on those with --overlap")
    else:
        parts.append(f"none is common to all{_hint(seen)}")
    first = seen[0]
    for other in seen[1:]:
        known = sum(image.sha256 in other.trained for image in first.tested)
        if known:
            parts.append(f"{other.name} was trained on {known:,} of the {split} images of {first.name}")
    if first.split_file is not None:
        parts.append(f"to compare on all, train again with the same split: cnnkit train --split-file {first.split_file}")
    return "; ".join(parts)


def _hint(seen: Sequence[Seen]) -> str:
    """Say what is common although the images are not, if it is the content or the path."""
    first, other = seen[0].tested, seen[1].tested
    same_content = {image.sha256 for image in first} & {image.sha256 for image in other}
    if same_content:
        pair = next((one, two) for one in first for two in other if one.sha256 == two.sha256 and one != two)
        return f" ({len(same_content):,} have one content but another path or label, such as {_named(pair[0])} and {_named(pair[1])})"
    same_path = {image.path for image in first} & {image.path for image in other}
    return f" ({len(same_path):,} have one path but another content, such as {min(same_path)})" if same_path else ""


def _named(image: Image) -> str:
    return f"{image.path} ({image.label})"


def _sizes(seen: Sequence[Seen]) -> str:
    return ", ".join(f"{each.name} has {len(each.tested):,}" for each in seen)


def _leak(leaks: dict[Image, list[str]]) -> str:
    names = sorted({name for names in leaks.values() for name in names})
    one = len(leaks) == 1
    return (
        f"{len(leaks):,} of these images {'has' if one else 'have'} an exact copy in the train split of {' and '.join(names)}, "
        f"such as {next(iter(leaks)).path}: on {'it' if one else 'them'} its answers may be learned by heart"
    )
