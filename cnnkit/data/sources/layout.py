"""Meaning of file names, for folders and archives alike: class folders, or train/val/test folders of class folders."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnkit.data.columns import Codes, RecordColumns, Rows, Texts
from cnnkit.data.image import SUFFIXES
from cnnkit.data.source import ALIASES, TRAIN, one_form
from cnnkit.errors import DataError, counted, left_out_note, listed, verb

# Names of files and folders that systems and tools leave behind. Hidden names such as .ipynb_checkpoints and .DS_Store count as
# litter too.
LITTER_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})
# Files of cnnkit: a folder that holds all of one set is a run directory or the folder of an evaluation or of pictures, whatever its name.
OWN_FILES = (
    frozenset({"config.json", "split.csv"}),
    frozenset({"best.safetensors"}),
    frozenset({"metrics.json", "predictions.csv"}),
    frozenset({"explain.json"}),
    frozenset({"compare.json"}),
    frozenset({"learning-curve.json"}),
)
OWN_NAMES = tuple(frozenset[str]().union(*OWN_FILES))
# Words beside train, val and test in the names of split folders of well-known downloads: training_set, test-images, val2017, fold_1.
SPLIT_FILLERS = frozenset({"set", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures", "split", "folder"})
OTHER_SPLITS = frozenset({"fold", "split", "holdout", "cv", "pred", "prediction", "unlabeled", "unlabelled"})
SPLIT_WORDS = OTHER_SPLITS | ALIASES.keys()
_NUMBER = re.compile(r"(\d+)")
OUTSIDE = -1  # the number of the folder of an image in no class folder


@dataclass(frozen=True)
class Layout:
    """The records of some files, the number of loose images, and the number of other files by suffix.

    `empty_classes` holds the class folders without an image, with their number of other files. `own` counts the images in folders of
    cnnkit by folder. `remarks` say how names of folders were understood. `beside` counts files outside of folders that are no images.
    `rows` (N,) are the rows of the records among the files.
    """

    records: RecordColumns
    loose: int
    other: Counter[str]
    empty_classes: Mapping[str, int] = field(default_factory=dict[str, int])
    own: Counter[str] = field(default_factory=Counter[str])
    remarks: tuple[str, ...] = ()
    beside: Counter[str] = field(default_factory=Counter[str])
    rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def notes(self) -> tuple[str, ...]:
        """Return notes on the files that were left out."""
        notes = [*self.remarks]
        if self.loose:
            notes.append(left_out_note(self.loose, "image", "outside of class folders"))
        if self.own:
            notes.append(f"{left_out_note(self.own.total(), 'image', 'in folders that cnnkit wrote')}: {listed(self.own)}")
        if self.other:
            kinds = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in self.other.most_common(4))
            notes.append(f"{left_out_note(self.other.total(), 'file', 'without an image')} ({kinds})")
        return tuple(notes)

    def check(self, name: str) -> None:
        """Raise `DataError` if no class folder holds an image; `name` is the name of the source."""
        if self.records:
            return
        if self.own:
            where = "in a folder" if "." in self.own else f"in folders ({listed(self.own)})"
            raise DataError(
                f"--data {name}: all images are {where} that cnnkit wrote, so they are no data; name the folder of your images; "
                f"cnnkit info RUN shows the data of a run"
            )
        raise DataError(
            f"--data {name}: no images found in class folders; expected files such as {name}/CLASS/photo.jpg{self._advice(name)}"
        )

    def _advice(self, name: str) -> str:
        """Return the way out for files without class folders."""
        tars, parquets = self.beside[".tar"], self.beside[".parquet"]
        if name.lower().endswith(".tar") and (self.beside[".cls"] or self.beside[".json"]):
            return f"; its images lie beside their labels, as in WebDataset: type --data shards:{name}"
        if self.loose:
            are = f"there {verb(self.loose, 'is', 'are')} {counted(self.loose)}"
            return (
                f"; {are} outside of class folders: move each into a folder named after its class; "
                f"if {name} is itself one class, name the folder above it"
            )
        if parquets:
            return f"; it holds {parquets:,} parquet files: type --data parquet:{name}"
        if tars:
            return f"; it holds {tars:,} tars: if they are shards, type --data '{name}/*.tar', else name one of them"
        return "" if self.other else "; it is empty"


def read_layout(paths: Iterable[str], name: str) -> Layout:
    """Return the records of the images among `paths` (relative, with ``/``), with class and, in train/val/test folders, split.

    A path that ends with ``/`` is a folder without entries. Records are sorted by class name, then by path in natural order. `name` is
    the name of the source. Raises `DataError` if other folders of images stand beside split folders, or two folders mean the same split.
    """
    every = Texts.of(paths)
    written = own_folders(every)
    loose = 0
    own: Counter[str] = Counter()
    other: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    found, without = array("q"), array("q")  # the rows of images and of other files in folders
    for row, path in enumerate(every):
        suffix = suffix_of(path)
        folder = own_folder(path, written)
        if folder:
            own[folder] += suffix in SUFFIXES
        elif "/" not in path:
            loose += suffix in SUFFIXES
            beside[suffix] += suffix not in SUFFIXES
        elif suffix in SUFFIXES:
            found.append(row)
        else:
            without.append(row)
            other[suffix] += not path.endswith("/")
    images, others = (every.take(np.frombuffer(rows, np.int64)) for rows in (found, without))
    splits, remarks = _split_folders({path.partition("/")[0] for path in images}, name)
    if not splits:
        _refuse_copy(images, name)
    doubled = _doubled_folders(images) if splits else {}
    remarks += [f"the folder {folder!r} inside {top!r} does not count as a class" for top, folder in doubled.items()]
    records, rows = _in_order(images, splits, doubled)
    known = records.labels.present()
    empty: Counter[str] = Counter()  # the files of folders that are no class
    for path in others:
        folder, rest = _class_and_rest(path, splits, doubled)
        if rest is not None and folder not in known:
            empty[folder] += bool(rest) and not rest.endswith("/")
    outside = loose + len(images) - len(records)
    return Layout(records, outside, +other, dict(empty), +own, tuple(remarks), +beside, np.frombuffer(found, np.int64)[rows])


def _class_and_rest(path: str, splits: Mapping[str, str], doubled: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the class folder of `path` in Unicode's composed form, and the rest of the path; the rest is None outside of class folders.

    `splits` are the split folders, if there are any, and `doubled` the folders between some of them and their class folders.
    """
    if splits:
        top, _, path = path.partition("/")
        if top not in splits:
            return "", None
        if top in doubled:
            inner, _, path = path.partition("/")
            if inner != doubled[top]:
                return "", None
    folder, slash, rest = path.partition("/")
    return one_form(folder), rest if slash else None


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name in lower case, with its dot, or an empty text."""
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") + 1 else ""  # the dot of a hidden file starts no suffix


def is_litter(name: str) -> bool:
    """Return True if a file or folder of this name is hidden or left behind by a system or tool."""
    return name.startswith(".") or name.lower() in LITTER_NAMES


def natural_key(text: str) -> str:
    r"""Return a sort key for natural order: ``1, 2, 10`` and not ``1, 10, 2``.

    The key of ``a10.jpg`` is ``a\0`` ``\3`` ``10\0`` ``.jpg\0\0`` ``a10.jpg``. The character before a number is the length of the number,
    so that numbers are ordered by value. The text itself is at the end, since ``1`` and ``01`` have one value.
    """
    parts = _NUMBER.split(text)  # text and numbers alternate
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    parts[1::2] = [chr(len(digits) + 1) + digits for digits in numbers]
    return "\0".join((*parts, "", text))


def natural_order(names: Sequence[str]) -> list[str]:
    """Return class names in natural order; a model stores the order of its training."""
    return sorted(names, key=natural_key)


def own_folders(paths: Iterable[str]) -> frozenset[str]:
    """Return the folders among `paths` that cnnkit wrote, by the files in them: runs, evaluations, pictures."""
    marks: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        if path.endswith(OWN_NAMES):
            folder, _, file = path.rpartition("/")
            marks[folder].add(file)
    return frozenset(folder for folder, files in marks.items() if any(needed <= files for needed in OWN_FILES))


def own_folder(path: str, written: frozenset[str]) -> str | None:
    """Return the outermost of the folders `written` by cnnkit that holds `path`, ``.`` for the root; None if there is none."""
    if not written:
        return None
    if "" in written:
        return "."
    parts = path.split("/")[:-1]
    above = ("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return next((folder for folder in above if folder in written), None)


def _refuse_copy(images: Texts, name: str) -> None:
    """Raise `DataError` for a class folder whose folders have the names of all other classes: a copy that unpacking left."""
    inner: defaultdict[str, set[str]] = defaultdict(set)
    tops: set[str] = set()
    for path in images:
        top, *deeper = path.split("/", 2)
        tops.add(top)
        if len(deeper) > 1:  # next folder, file
            inner[top].add(deeper[0])
    for top, nested in inner.items():
        others = tops - {top}
        if len(others) > 1 and others <= nested:
            raise DataError(
                f"--data {name}: the folder {top!r} holds folders of the same names as the classes beside it ({listed(sorted(others))}), "
                f"so it looks like a copy of them; remove it, or use it alone: --data {name}/{top}"
            )


def read_split(name: str, common: frozenset[str] = frozenset()) -> str | None:
    """Return the split that the name of a folder means, such as test for ``test_images``; None if it reads as a class.

    The result is an empty text for a name that reads as a split but as none of train, val and test, such as ``fold1``. The words
    `common` to all folders do not count: ``seg_train`` and ``seg_test`` are train and test.
    """
    words = folder_words(name)
    meant = [word for word in words if word not in SPLIT_FILLERS and word not in common]
    if not words or any(word not in ALIASES and word not in OTHER_SPLITS for word in meant):
        return None
    found = {ALIASES.get(word, "") for word in meant}
    if not found:
        return "" if OTHER_SPLITS.intersection(words) else None
    return found.pop() if len(found) == 1 else ""


def folder_words(name: str) -> list[str]:
    """Return the words of the name of a folder, without digits."""
    return [_split_word(word) for word in re.findall(r"[^\W\d_]+", name.lower())]


def _split_word(word: str) -> str:
    """Return `word` without a filler at its end: ``train`` for ``trainset``."""
    short = (word.removesuffix(filler) for filler in SPLIT_FILLERS if word.endswith(filler))
    return next((rest for rest in short if rest in ALIASES), word)


def _split_folders(folders: set[str], name: str) -> tuple[dict[str, str], list[str]]:
    """Return the split of each top folder, with remarks; empty if the top folders are classes."""
    exact = {folder: ALIASES.get(folder.lower()) for folder in sorted(folders)}
    common = frozenset[str]()
    if len(folders) > 1:
        common = frozenset.intersection(*(frozenset(folder_words(folder)) for folder in folders)) - SPLIT_WORDS
    read = {folder: exact[folder] or read_split(folder, common) for folder in exact}
    if TRAIN not in exact.values() and (not read or None in read.values()):
        return {}, []
    named = ", ".join(map(repr, read))
    if TRAIN not in read.values():
        plural = "s read as splits, not as classes" if len(read) > 1 else " reads as a split, not as a class"
        raise DataError(
            f"--data {name}: the name{plural}: {named}, and there is no folder train. "
            f"To use one of them: --data {name}/{next(iter(read))}; to train, put class folders into train, val and test; "
            f"if they are classes, list the images in a CSV (path,label)"
        )
    taken: dict[str, str] = {}
    for folder, split in read.items():
        if not split:
            raise DataError(f"--data {name}: the folder {folder!r} beside train is no split; allowed: train, val, test; move it elsewhere")
        if split in taken:
            raise DataError(f"--data {name}: the folders {taken[split]!r} and {folder!r} both mean the split {split}; keep one")
        taken[split] = folder
    understood = [f"{folder!r} as {split}" for split, folder in taken.items() if not exact[folder]]
    remarks = [f"folders were understood as splits: {', '.join(understood)}; for other splits rename them"] if understood else []
    return {folder: split for split, folder in taken.items()}, remarks


def _doubled_folders(images: Texts) -> dict[str, str]:
    """Return the folder between a split folder and its class folders where unpacking doubled it: ``test_set/test_set/cats``."""
    inner: defaultdict[str, set[str]] = defaultdict(set)
    for path in images:
        top, below, *deeper = path.split("/", 3)
        inner[top].add(below if len(deeper) > 1 else "")  # split, folder, class, file
    return {top: folder for top, found in inner.items() if len(found) == 1 and (folder := next(iter(found))).lower() == top.lower()}


def _in_order(images: Texts, splits: Mapping[str, str], doubled: Mapping[str, str]) -> tuple[RecordColumns, Rows]:
    """Return the records of the paths in class folders, and their rows among `images`.

    They are sorted by the folders of split and class, then by path in natural order.
    """
    number: dict[str, int] = {}  # of each folder
    meant: dict[str, tuple[str, str | None]] = {}  # class and split of each folder
    numbers = array("q")
    for path in images:
        label, rest = _class_and_rest(path, splits, doubled)
        top = path.partition("/")[0]
        folder = f"{top}/{label}" if splits else label
        if rest is None:
            numbers.append(OUTSIDE)
            continue
        meant.setdefault(folder, (label, splits.get(top)))
        numbers.append(number.setdefault(folder, len(number)))
    by_folder = np.argsort(np.frombuffer(numbers, np.int64), kind="stable")
    bounds = np.searchsorted(np.frombuffer(numbers, np.int64), np.arange(len(number) + 1), sorter=by_folder)
    folders = sorted(number, key=lambda folder: folder.split("/"))
    members = [by_folder[bounds[number[folder]] : bounds[number[folder] + 1]] for folder in folders]
    rows = np.concatenate([np.empty(0, np.int64), *(part[_natural_ranks(images.take(part))] for part in members)])
    places = np.repeat(np.arange(len(folders)), list(map(len, members)))
    labels, drawn = (Codes.of(meant[folder][part] for folder in folders).take(places) for part in (0, 1))
    return RecordColumns(images.take(rows).compact(), labels, drawn), rows


def _natural_ranks(paths: Texts) -> Rows:
    """Return the rows of `paths` in natural order."""
    keys = list(map(natural_key, paths))
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
