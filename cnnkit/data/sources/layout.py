"""Meaning of file names, for folders and archives alike: class folders, or train/val/test folders of class folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnkit.data.image import SUFFIXES
from cnnkit.data.source import ALIASES, TRAIN, Record, one_form
from cnnkit.errors import DataError, listed

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
NaturalKey = tuple[list[str | tuple[int, str]], str]


@dataclass(frozen=True)
class Layout:
    """The records of some files, the number of loose images, and the number of other files by suffix.

    `empty_classes` holds the class folders without an image, with their number of other files. `own` counts the images in folders of
    cnnkit by folder. `remarks` say how names of folders were understood. `beside` counts files outside of folders that are no images.
    """

    records: tuple[Record, ...]
    loose: int
    other: Counter[str]
    empty_classes: Mapping[str, int] = field(default_factory=dict[str, int])
    own: Counter[str] = field(default_factory=Counter[str])
    remarks: tuple[str, ...] = ()
    beside: Counter[str] = field(default_factory=Counter[str])

    def notes(self) -> tuple[str, ...]:
        """Return notes on the files that were left out."""
        notes = [*self.remarks]
        if self.loose:
            notes.append(f"{self.loose:,} images outside of class folders were left out")
        if self.own:
            notes.append(f"{self.own.total():,} images in folders that cnnkit wrote were left out: {listed(self.own)}")
        if self.other:
            kinds = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in self.other.most_common(4))
            notes.append(f"{self.other.total():,} files that are no images were left out ({kinds})")
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
            return (
                f"; there are {self.loose} images outside of class folders: move each into a folder named after its class; "
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
    every = list(paths)
    written = own_folders(every)
    loose = 0
    own: Counter[str] = Counter()
    other: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    images: list[tuple[str, list[str]]] = []
    without: list[list[str]] = []  # the parts of paths that are no images
    for path in every:
        suffix = suffix_of(path)
        folder = own_folder(path, written)
        if folder:
            own[folder] += suffix in SUFFIXES
            continue
        parts = path.split("/", 2)
        if len(parts) == 1:
            loose += suffix in SUFFIXES
            beside[suffix] += suffix not in SUFFIXES
        elif suffix in SUFFIXES:
            images.append((path, parts))
        else:
            without.append(parts)
            other[suffix] += not path.endswith("/")
    splits, remarks = _split_folders({parts[0] for _, parts in images}, name)
    if not splits:
        _refuse_copy(images, name)
        records = _in_order([(one_form(parts[0]), None, path) for path, parts in images])
        empty = _empty(records, [(one_form(parts[0]), parts[-1]) for parts in without if len(parts) > 1])
        return Layout(records, loose, +other, empty, +own, beside=+beside)
    doubled = _doubled_folders(images)
    remarks += [f"the folder {folder!r} inside {top!r} does not count as a class" for top, folder in doubled.items()]
    placed = [(_inside_split(parts, doubled), splits[parts[0]], path) for path, parts in images]
    records = _in_order([(one_form(names[0]), split, path) for names, split, path in placed if len(names) > 1])
    others = [_inside_split(parts, doubled) for parts in without if parts[0] in splits]
    empty = _empty(records, [(one_form(names[0]), names[1]) for names in others if len(names) > 1])
    return Layout(records, loose + len(images) - len(records), +other, empty, +own, tuple(remarks), +beside)


def _inside_split(parts: Sequence[str], doubled: Mapping[str, str]) -> Sequence[str]:
    """Return class folder and rest of the path with `parts` (split folder, next folder, rest); fewer for a path in no class folder."""
    if parts[0] not in doubled:
        return parts[1:]
    return parts[2].split("/", 1) if len(parts) > 2 and parts[1] == doubled[parts[0]] else ()  # noqa: PLR2004 (as above)


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name in lower case, with its dot, or an empty text."""
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") + 1 else ""  # the dot of a hidden file starts no suffix


def is_litter(name: str) -> bool:
    """Return True if a file or folder of this name is hidden or left behind by a system or tool."""
    return name.startswith(".") or name.lower() in LITTER_NAMES


def natural_key(text: str) -> NaturalKey:
    """Return a sort key for natural order: ``1, 2, 10`` and not ``1, 10, 2``."""
    parts: list[str | tuple[int, str]] = [*_NUMBER.split(text)]  # text and numbers alternate: each is compared with its own type
    parts[1::2] = map(_number_key, _NUMBER.findall(text))
    return parts, text


def _number_key(digits: str) -> tuple[int, str]:
    """Return a key that orders numbers by value; a conversion to int would refuse thousands of digits."""
    plain = digits.lstrip("0")
    return len(plain), plain


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


def _refuse_copy(images: Sequence[tuple[str, list[str]]], name: str) -> None:
    """Raise `DataError` for a class folder whose folders have the names of all other classes: a copy that unpacking left."""
    inner: defaultdict[str, set[str]] = defaultdict(set)
    for _, parts in images:
        if len(parts) > 2:  # noqa: PLR2004 (class, next folder, file)
            inner[parts[0]].add(parts[1])
    tops = {parts[0] for _, parts in images}
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


def _empty(records: Sequence[Record], others: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the folders of `others` (folder, rest of the path) that are no class of `records`, with their number of files."""
    known = {record.label for record in records}
    files: Counter[str] = Counter()
    for folder, rest in others:
        if folder not in known:
            files[folder] += bool(rest) and not rest.endswith("/")
    return dict(files)


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


def _doubled_folders(images: Sequence[tuple[str, list[str]]]) -> dict[str, str]:
    """Return the folder between a split folder and its class folders where unpacking doubled it: ``test_set/test_set/cats``."""
    inner: defaultdict[str, set[str]] = defaultdict(set)
    for path, parts in images:
        deep = path.count("/") > 2  # noqa: PLR2004 (split, folder, class, file)
        inner[parts[0]].add(parts[1] if deep else "")
    return {top: folder for top, found in inner.items() if len(found) == 1 and (folder := next(iter(found))).lower() == top.lower()}


def _in_order(images: Sequence[tuple[str, str | None, str]]) -> tuple[Record, ...]:
    """Return records of (class, split, path), sorted by the folders of split and class, then by path in natural order."""
    by_folder: defaultdict[str, list[tuple[str, str | None, str]]] = defaultdict(list)
    for image in images:
        label, split, path = image
        by_folder[label if split is None else f"{path[: path.index('/')]}/{label}"].append(image)
    return tuple(
        Record(path, label, split)
        for folder in sorted(by_folder, key=lambda folder: folder.split("/"))
        for label, split, path in sorted(by_folder[folder], key=lambda image: natural_key(image[2]))
    )
