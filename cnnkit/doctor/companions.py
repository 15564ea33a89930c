"""The check for companion files: masks and annotations beside the photographs, which a training would take for images."""

from __future__ import annotations

import glob
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Texts
from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.errors import counted

MIN_PAIRS = 3  # of an image and its companion; fewer may be an accident
MIN_PAIRED_SHARE = 0.8  # of the images of a pattern that must have a partner
# A mask has few tones (see `Facts`) and fewer than its photograph. Masks have at most 4 tones and photographs at least 9 in the median: see
# docs/benchmarks/LOG.md, "Companion files".
MAX_MASK_TONES = 6
MIN_MASK_SHARE = 0.8  # of the companions that must be masks, unless their name says what they are
# Names of companions in public data sets for segmentation, depth and detection.
COMPANION_WORDS = frozenset(
    {
        "mask",
        "masks",
        "gt",
        "groundtruth",
        "seg",
        "segm",
        "segmentation",
        "segmentations",
        "label",
        "labels",
        "labelled",
        "trimap",
        "trimaps",
    }
    | {"annotation", "annotations", "annotated", "annot", "depth", "edge", "edges", "contour", "contours", "matte"}
    | {"heatmap", "heatmaps", "overlay", "bbox", "bboxes"}
)
_ENDING = re.compile(r"(.+?)([_\-. ]+)([^\W\d_]+)")
_BEGINNING = re.compile(r"([^\W\d_]+)([_\-. ]+)(.+)")


@dataclass(frozen=True)
class Companions:
    """Pairs of rows (image, companion), and the pattern for ``--exclude`` that matches the companions."""

    pattern: str
    pairs: tuple[tuple[int, int], ...]


def companion_files(evidence: Evidence) -> Finding | None:
    """Find masks and annotations, and the ``--exclude`` that leaves them out."""
    return companion_finding(evidence, companions(evidence))


def companion_finding(evidence: Evidence, found: Sequence[Companions]) -> Finding | None:
    """Return the finding on the companions that were `found` in `evidence`, None if there are none."""
    if not found:
        return None
    pairs = {companion: image for part in found for image, companion in part.pairs}
    image, companion = next((image, companion) for companion, image in pairs.items())
    first, second = evidence.paths((image, companion))
    patterns = ",".join(part.pattern for part in found)
    message = (
        f"{counted(len(pairs), 'mask or annotation', 'masks or annotations')} beside the images, such as {second!r} beside {first!r}. "
        f"Training takes each for an image of its class. Leave them out: --exclude '{patterns}'"
    )
    files = tuple(evidence.paths((image, companion)) for companion, image in sorted(pairs.items()))
    return Finding("companion-files", Severity.WARNING, files, message)


def companions(evidence: Evidence) -> list[Companions]:
    """Return the companions by pattern, without patterns that match nothing new."""
    paths = evidence.records.paths
    tones = evidence.of("tones")
    known: set[int] = set()
    kept = []
    for named, found in sorted(_proposals(paths, evidence.readable), key=lambda one: -len(one[1].pairs)):
        rows = np.array(found.pairs)
        masks = (tones[rows[:, 1]] <= MAX_MASK_TONES) & (tones[rows[:, 1]] < tones[rows[:, 0]])
        new = {companion for _, companion in found.pairs} - known
        if (named or masks.mean() >= MIN_MASK_SHARE) and len(new) >= MIN_PAIRS and _fits(found, paths, known):
            kept.append(found)
            known |= new
    return kept


def _fits(found: Companions, paths: Texts, known: set[int]) -> bool:
    """Return True if the pattern matches companions alone: no image that has a companion, and few files without a partner."""
    images = {image for image, _ in found.pairs}
    matched = {row for row, path in enumerate(paths) if fnmatchcase(path, found.pattern)}
    alone = matched - {companion for _, companion in found.pairs} - known
    return not (images & matched) and len(alone) <= (1 - MIN_PAIRED_SHARE) * len(matched)


def _proposals(paths: Texts, rows: Rows) -> Iterator[tuple[bool, Companions]]:
    """Yield companions by suffix, by ending and beginning of the name, and by folder; True if the name says what they are."""
    yield from _by_suffix(paths, rows)
    yield from _by_word(paths, rows)
    yield from _by_folder(paths, rows)


def _by_suffix(paths: Texts, rows: Rows) -> Iterator[tuple[bool, Companions]]:
    """Yield ``1.png`` beside ``1.jpg``, by suffix."""
    same: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows[_repeated(np.fromiter((hash(path.rpartition(".")[0]) for path in paths.take(rows)), np.int64, len(rows)))].tolist():
        same[paths[row].rpartition(".")[0]].append(row)
    pairs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for members in same.values():
        for row in members if len(members) > 1 else ():
            suffix = paths[row].rpartition(".")[2]
            partner = next((other for other in members if not paths[other].endswith(f".{suffix}")), None)
            if partner is not None:
                pairs[suffix].append((partner, row))
    yield from ((False, _made(f"*.{suffix}", found)) for suffix, found in pairs.items())


def _by_word(paths: Texts, rows: Rows) -> Iterator[tuple[bool, Companions]]:
    """Yield ``1_mask.png`` and ``mask_1.png`` anywhere beside ``1.jpg``, by word."""
    stems = np.fromiter((hash(_stem(path)) for path in paths.take(rows)), np.int64, len(rows))
    bases = np.zeros((len(rows), 2), np.int64)  # the hashes of the stems without a word, 0 for none
    for place, path in enumerate(paths.take(rows)):
        for part, (_, base, _) in enumerate(_words(_stem(path))):
            bases[place, part] = hash(base)
    has_partner = np.isin(bases, stems)
    by_stem: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows[np.isin(stems, bases[has_partner])].tolist():
        by_stem[_stem(paths[row])].append(row)
    pairs: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for row in rows[has_partner.any(axis=1)].tolist():
        for word, base, pattern in _words(_stem(paths[row])):
            partner = _nearest(paths, row, by_stem.get(base, ()))
            if partner is not None:
                pairs[word, pattern].append((partner, row))
    for (word, pattern), found in pairs.items():
        yield word.lower() in COMPANION_WORDS, _made(pattern, found)


def _by_folder(paths: Texts, rows: Rows) -> Iterator[tuple[bool, Companions]]:
    """Yield ``masks/1.png`` beside ``images/1.jpg``, by folder. A class folder must say that it holds companions."""
    hashes, places, named = array("q"), array("q"), array("b")
    for place, path in enumerate(paths.take(rows)):
        for depth, (name, rest) in enumerate(_without_folder(path)):
            hashes.append(hash((depth, rest)))
            places.append(place)
            named.append(depth > 0 or name.lower() in COMPANION_WORDS)
    repeated = _repeated(np.frombuffer(hashes, np.int64), np.frombuffer(named, np.bool_))
    same: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for row in rows[np.unique(np.frombuffer(places, np.int64)[repeated])].tolist():
        for depth, (_, rest) in enumerate(_without_folder(paths[row])):
            same[depth, rest].append(row)
    pairs: defaultdict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for (depth, _), members in same.items():
        for row in members if len(members) > 1 else ():
            name = paths[row].split("/")[depth]
            others = [other for other in members if paths[other].split("/")[depth] != name]
            partner = next((other for other in others if paths[other].split("/")[depth].lower() not in COMPANION_WORDS), None)
            if partner is not None and (depth or name.lower() in COMPANION_WORDS):
                pairs[depth, name].append((partner, row))
    for (depth, name), found in pairs.items():
        yield name.lower() in COMPANION_WORDS, _made(f"{'*/' if depth else ''}{glob.escape(name)}/*", found)


def _stem(path: str) -> str:
    """Return the name of a file without folders and suffix."""
    return path[path.rfind("/") + 1 :].rpartition(".")[0]


def _words(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield the word at the end of `stem` and at its beginning, the rest of the stem, and the pattern of names with this word."""
    ending, beginning = _ENDING.fullmatch(stem), _BEGINNING.fullmatch(stem)
    if ending:
        yield ending[3], ending[1], f"*{glob.escape(ending[2] + ending[3])}.*"
    if beginning:
        yield beginning[1], beginning[3], f"*/{glob.escape(beginning[1] + beginning[2])}*"


def _without_folder(path: str) -> Iterator[tuple[str, str]]:
    """Yield each folder of `path`, and the path without the name of this folder and without the suffix."""
    folders = path.split("/")
    stem = folders[-1].rpartition(".")[0]
    for depth in range(len(folders) - 1):
        yield folders[depth], "/".join([*folders[:depth], "", *folders[depth + 1 : -1], stem])


def _repeated(hashes: NDArray[np.int64], is_named: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return a mask (N,) of the hashes that occur at least twice, and one of these times with `is_named` (N,)."""
    _, number, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    wanted = counts > 1
    if is_named is not None:
        wanted &= np.bincount(number[is_named], minlength=len(counts)) > 0
    return wanted[number]


def _nearest(paths: Texts, row: int, others: Iterable[int]) -> int | None:
    """Return the row among `others` whose path has the longest common beginning with the path of `row`."""
    return max((other for other in others if other != row), key=lambda other: _common(paths[row], paths[other]), default=None)


def _common(first: str, second: str) -> int:
    return next((place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), 0)


def _made(pattern: str, pairs: list[tuple[int, int]]) -> Companions:
    return Companions(pattern, tuple(pairs))
