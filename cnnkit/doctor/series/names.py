"""Rules that read the series of an image from its path, each as an expression for ``--group-by``.

A rule is a guess. `cnnkit.doctor.series.alike` decides whether the images that it puts together are alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.duplicates import link_equal
from cnnkit.data.split.grouping import path_pattern

MIN_SHAPE_IMAGES = 30  # of names of one shape: fewer give no evidence
MIN_SHAPE_SHARE = 0.02  # of all images, so that a data set has at most a handful of rules
MAX_DROPPED_DIGITS = 3  # at the end of a number: series of 10, 100 and 1,000 consecutive numbers
MAX_FIELDS = 6  # of a name; a name with more fields is a hash or a list of attributes
# Endings of copies and of augmented versions of an image: "cat copy 10", "cat (2)", "cat_aug_3", "cat_jpg.rf.0a1b".
_VERSION = (
    r"(?:[ _-]*\(\d+\)|[ _.-]+(?:[Cc]opy|[Aa]ug(?:mented)?|[Ff]lip(?:ped)?|[Hh]flip|[Vv]flip|[Rr]ot(?:ated)?|[Mm]irror(?:ed)?"
    r"|[Cc]rop(?:ped)?|[Nn]oise|[Bb]lur(?:red)?)(?:[ _-]?\d+)?|_(?:jpe?g|png)\.rf\.[0-9a-zA-Z]+)"
)
_VERSIONS = path_pattern(rf"^(.*?[^/]){_VERSION}+\.\w+$")
_PIECE = re.compile(r"[\W_]+|[^\W_]+")
_WORD_AND_NUMBER = re.compile(r"([^\W\d_]*)(\d*)")


@dataclass(frozen=True, eq=False)
class Rule:
    """A way to read series from paths.

    `rows` (n,) are the images with names of the rule's shape, `series` (n,) their series. `skipped` is an expression for the part of a
    path before the captured text, empty if it is captured from the start. `captured` is an expression for the text that names the series
    with a lookahead for the rest of the path. `omits_fields` tells if that text begins after the first field of a name.
    """

    rows: NDArray[np.int64]
    series: NDArray[np.int64]
    skipped: str
    captured: str

    omits_fields: bool = False


def group_by(rules: Sequence[Rule], split_folders: Sequence[str] = ()) -> str:
    """Return an expression for ``--group-by`` that applies every rule to its paths; any other path is a group of its own.

    Paths may begin with one of `split_folders`, which are no part of a series.
    """
    skipped = [rule.skipped for rule in rules if rule.skipped] + ([_one_of(split_folders)] if split_folders else [])
    start = f"(?:{'|'.join(skipped)})?" if skipped else ""
    return f"^{start}({'|'.join(rule.captured for rule in rules)}|.+)"


def rules_of(paths: Sequence[str], split_folders: Sequence[str] = ()) -> Iterator[list[Rule]]:
    """Yield lists of rules; the rules of one list read the same names in different ways, so that at most one of them holds.

    If there are `split_folders`, every path begins with one of them.
    """
    skip = _one_of(split_folders) if split_folders else ""
    versions = _version_rule(paths, skip)
    if versions:
        yield [versions]
    yield _folder_rules(paths, skip)
    for shape, rows in _shapes(paths).items():
        if len(rows) >= max(MIN_SHAPE_IMAGES, MIN_SHAPE_SHARE * len(paths)):
            yield list(_shape_rules(shape, [paths[row] for row in rows], np.array(rows, np.int64), skip))


def _one_of(folders: Sequence[str]) -> str:
    """Return an expression for one of `folders` and the ``/`` behind it."""
    return f"(?:{'|'.join(_literal(folder) for folder in folders)})/"


def _literal(text: str) -> str:
    """Return an expression for `text` that can stand between single quotes."""
    return re.escape(text).replace("'", r"\x27").replace(r"\ ", " ")


def _version_rule(paths: Sequence[str], skip: str) -> Rule | None:
    """Return the rule by which ``cat copy 2.jpg`` belongs to ``cat.jpg``."""
    start = path_pattern(f"^(?:{skip})?") if skip else path_pattern("")
    bases = [found[1] if (found := _VERSIONS.match(path)) else None for path in paths]
    if sum(base is not None for base in bases) < MIN_SHAPE_IMAGES:
        return None
    names = [start.sub("", base if base is not None else path.rpartition(".")[0], count=1) for path, base in zip(paths, bases, strict=True)]
    captured = rf".*?[^/](?={_VERSION}*\.\w+$)"
    return _rule(np.arange(len(paths)), names, "", captured)


def _folder_rules(paths: Sequence[str], skip: str) -> list[Rule]:
    """Return the rules by which a folder below the class folders is a series."""
    depth = 2 if skip else 1  # folders of split and class
    parts = [path.split("/") for path in paths]
    rows = np.array([row for row, names in enumerate(parts) if len(names) > depth + 1], np.int64)
    if len(rows) < MIN_SHAPE_IMAGES:
        return []
    first = depth - 1
    captured = r"[^/]+/[^/]+(?=/)"
    return [_rule(rows, ["/".join(parts[row][first : depth + 1]) for row in rows], "", captured)]


def _shapes(paths: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Return the rows of the names of each shape: the separators of a name and the kinds of the fields between them."""
    shapes: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        stem, dot, suffix = path[path.rfind("/") + 1 :].rpartition(".")
        if dot and suffix.isalnum():  # else no file name, but the index of an array
            shapes[tuple(_kinds(stem))].append(row)
    return shapes


def _kinds(stem: str) -> Iterator[str]:
    """Yield the separators of a name, and ``word``, ``number`` or ``any`` for its fields; ``frame07`` is a word and a number."""
    for piece in _PIECE.findall(stem):
        if not (piece[0].isalnum()):
            yield piece
            continue
        found = _WORD_AND_NUMBER.fullmatch(piece)
        if not found:
            yield "any"
            continue
        if found[1]:
            yield "word"
        if found[2]:
            yield "number"


_KIND_EXPRESSIONS = {"word": r"[^\W\d_]+", "number": r"\d+", "any": r"[^\W_]+"}


def _shape_rules(shape: tuple[str, ...], paths: Sequence[str], rows: NDArray[np.int64], skip: str) -> Iterator[Rule]:
    """Yield a rule for every range of fields of a name, with and without the last digits of its last field."""
    fields = [position for position, kind in enumerate(shape) if kind in _KIND_EXPRESSIONS]
    if not 0 < len(fields) <= MAX_FIELDS:
        return
    whole = path_pattern(r"(?:.*/)?" + "".join(f"({_KIND_EXPRESSIONS.get(kind) or re.escape(kind)})" for kind in shape) + r"\.\w+$")
    matches = [whole.match(path) for path in paths]
    assert all(matches)  # noqa: S101 (the shape was read from these paths)
    texts = [_text(kind, {match[position + 1] for match in matches if match}) for position, kind in enumerate(shape)]
    start = path_pattern(f"^{skip}") if skip else path_pattern("")
    scoped = [found.end() if (found := start.match(path)) else 0 for path in paths]
    seen: set[bytes] = set()
    for first in [-1, *fields]:  # -1: from the folder on
        for last in fields:
            if last < first:
                continue
            for dropped in range(MAX_DROPPED_DIGITS + 1 if shape[last] == "number" else 1):
                begins = scoped if first < 0 else [match.start(first + 1) for match in matches if match]
                ends = [match.end(last + 1) - dropped for match in matches if match]
                least = [match.start(last + 1) for match in matches if match]
                fitting = np.array([end >= low for end, low in zip(ends, least, strict=True)])
                names = [path[begin:end] for path, begin, end, fits in zip(paths, begins, ends, fitting, strict=True) if fits]
                before = "" if first <= 0 else "".join(texts[:first])
                inside = "".join(texts[max(first, 0) : last]) + (r"\d*" if dropped else texts[last])
                rest = r"\d" * dropped + "".join(texts[last + 1 :]) + r"\.\w+$"
                if first < 0:
                    skipped, captured = "", rf"(?:.*/)?{inside}(?={rest})"
                else:
                    skipped, captured = rf"(?:.*/)?{before}(?={inside}{rest})", rf"{inside}(?={rest})"
                rule = _rule(rows[fitting], names, skipped, captured, omits_fields=first > fields[0])
                key = rule.rows.tobytes() + rule.series.tobytes()
                if key not in seen:
                    seen.add(key)
                    yield rule


def _text(kind: str, found: set[str]) -> str:
    """Return an expression for a piece of a name, the text itself if it is the same in all names."""
    if len(found) == 1 and kind != "number":
        return _literal(next(iter(found)))
    return _KIND_EXPRESSIONS.get(kind) or _literal(kind)


def _rule(rows: NDArray[np.int64], names: Sequence[str], skipped: str, captured: str, *, omits_fields: bool = False) -> Rule:
    series = np.arange(len(names))
    links = link_equal(names)
    series[links[:, 1]] = links[:, 0]
    return Rule(rows.astype(np.int64), series, skipped, captured, omits_fields)
