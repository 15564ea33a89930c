"""Tar shards in WebDataset's layout: ``--data 'shards/{0000..1023}.tar'``. Every image is read by its offset, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from cnnkit.data.columns import BLOCK_ROWS, Codes, RecordColumns, Texts
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress
from cnnkit.data.shards.files import RowFinder, in_threads, open_files, read_small
from cnnkit.data.shards.tar_index import TarIndex, shard_index
from cnnkit.data.source import TRAIN, Record, Request, SourceKind, names_files, one_form
from cnnkit.data.sources.bounds import refusal_reason
from cnnkit.data.sources.layout import SPLIT_WORDS, folder_words, read_split
from cnnkit.errors import DataError, counted, left_out_note

CLASS_FILES = ("classes.txt", "classnames.txt")  # one name a line, in the order of the numbers; beside the shards or one folder above
MAX_CAPTION_SHARE = 0.5  # of different texts among the .txt members; more are captions
MIN_CAPTIONS = 20  # different texts that may be the names of classes


class ShardSource:
    """The images of the tar shards that `pattern` names, in the order of the shards.

    `progress` counts the shards that are listed. The path of an image is its name in the shard; if a name repeats, the name of the shard
    stands before all names. Raises `DataError` for missing and damaged shards, and if no image has a label.
    """

    def __init__(self, pattern: str, progress: Progress | None = None) -> None:
        self.name = pattern if names_files(pattern) else f"shards:{pattern}"
        self._files = open_files(pattern, pattern, progress)
        indexes = in_threads(shard_index, self._files, progress)
        self._starts = np.concatenate([index.starts for index in indexes])
        self._sizes = np.concatenate([index.sizes for index in indexes])
        counts = [len(index.starts) for index in indexes]
        left_out = sum((Counter(index.left_out) for index in indexes), Counter[str]())
        if not len(self._starts):
            seen = ", ".join(f"{counted(count, 'file')} {reason}" for reason, count in left_out.items()) or "no members"
            raise DataError(
                f"--data {pattern}: no image with a label ({seen}); expected WebDataset's layout: KEY.jpg beside KEY.cls, "
                f"or KEY.json with a field label; a .tar of class folders is named alone"
            )
        _refuse_captions(indexes, pattern)
        labels = Codes.join([index.labels for index in indexes])
        splits, split_note = shard_splits([file.name for file in self._files], counts, pattern)
        paths = Texts.join([index.paths for index in indexes])
        self._finder = RowFinder(paths, counts, self.name)
        if not self._finder.is_unique:
            paths = Texts.of(f"{file.name}/{path}" for file, index in zip(self._files, indexes, strict=True) for path in index.paths)
            self._finder = RowFinder(paths, counts, self.name)
        self.records = RecordColumns(paths, named_labels(labels, self._files[0].path, pattern), splits)
        self.notes: Sequence[str] = (
            *((split_note,) if split_note else ()),
            *(left_out_note(count, "file", reason) for reason, count in left_out.items()),
        )

    def read(self, record: Record) -> bytes:
        """Return the bytes of one image."""
        row, file = self._finder.find(record)
        start, size = int(self._starts[row]), int(self._sizes[row])
        reason = refusal_reason(size, size)
        if reason:
            raise UndecodableError(reason)
        return self._files[file].spans.read(start, size)

    def stamp(self, record: Record) -> str:
        """Return offset and size of one image, and size and time of its shard: a tar holds no checksums."""
        row, file = self._finder.find(record)
        return f"{self._starts[row]}:{self._sizes[row]}:{self._files[file].spans.stamp}"

    def stamp_all(self, records: Sequence[Record]) -> Iterator[str]:
        """Yield the stamp of every record."""
        rows, files = self._finder.find_all(RecordColumns.of(records).paths)
        stamps = [file.spans.stamp for file in self._files]
        for start in range(0, len(rows), BLOCK_ROWS):
            part = rows[start : start + BLOCK_ROWS]
            columns = (values.tolist() for values in (self._starts[part], self._sizes[part], files[start : start + BLOCK_ROWS]))
            yield from (f"{first}:{size}:{stamps[file]}" for first, size, file in zip(*columns, strict=True))


def named_labels(labels: Codes, path: str, data: str) -> Codes:
    """Return `labels` with names in place of numbers if a file of `CLASS_FILES` lies near the shard `path`."""
    if not all(name is not None and name.isascii() and name.isdecimal() for name in labels.names):
        return labels
    folder = path.rpartition("/")[0] or "."
    above = folder.rpartition("/")[0] or "."
    for file in (f"{each}/{name}" for each in dict.fromkeys((folder, above)) if not each.endswith(":/") for name in CLASS_FILES):
        names = _class_names(file)
        if names is None:
            continue
        beyond = [number for number in labels.names if number is not None and int(number) >= len(names)]
        if beyond:
            raise DataError(
                f"--data {data}: {file} names {len(names):,} classes, but an image has the label {beyond[0]}; complete the file"
            )
        return Codes(labels.codes, [names[int(number)] for number in labels.names if number is not None])
    return labels


def _class_names(file: str) -> list[str] | None:
    """Return the names in the lines of `file`, None if there is no such file; raises `DataError` for an empty or repeated name."""
    stored = read_small(file)
    if stored is None:
        return None
    names = [one_form(line.strip()) for line in stored.decode("utf-8-sig", "surrogateescape").splitlines()]
    repeated = [name for name, count in Counter(names).items() if count > 1 or not name]
    if repeated:
        raise DataError(f"{file}: the name {repeated[0]!r} is empty or stands in two lines; a class needs a name of its own in each line")
    return names


def shard_splits(names: Sequence[str], counts: Sequence[int], data: str) -> tuple[Codes | None, str]:
    """Return the split of each image, of which `counts` are in the files `names`, and a note; None unless the names tell train and others.

    The top folder tells the split, or the name of the file: ``train/0001.tar``, ``imagenet-val-0001.tar``. Raises `DataError` for a file
    of no split beside files of train.
    """
    for texts in ([name.split("/")[0] for name in names], [PurePosixPath(name).stem for name in names]):
        words = frozenset.intersection(*(frozenset(folder_words(text)) for text in texts)) - SPLIT_WORDS
        found = [read_split(text, words) or "" for text in texts]
        if TRAIN in found and len(set(found)) > 1:
            if not all(found):
                raise DataError(
                    f"--data {data}: the name of {names[found.index('')]} beside those of train tells no split; "
                    f"allowed: train, val, test; name the files to use, as in '{{train,test}}-*'"
                )
            code = {split: number for number, split in enumerate(dict.fromkeys(found))}
            codes = np.repeat(np.array([code[split] for split in found], np.uint8), counts)
            files = ", ".join(f"{number:,} as {split}" for split, number in Counter(found).items())
            return Codes(codes, tuple(code)), f"the names of the files tell the split: {files}"
    return None, ""


def _refuse_captions(indexes: Sequence[TarIndex], data: str) -> None:
    """Raise `DataError` if the labels are the sentences of .txt members, which img2dataset writes."""
    texts = sum(index.kinds.get(".txt", 0) for index in indexes)
    different = {name for index in indexes for name in index.labels.names}
    if len(different) > max(MIN_CAPTIONS, MAX_CAPTION_SHARE * texts) and texts == sum(len(index.labels) for index in indexes):
        raise DataError(
            f"--data {data}: the {texts:,} .txt members hold {len(different):,} different texts, such as {min(different, key=str)!r:.60}: "
            f"captions, not labels; add KEY.cls, or KEY.json with a field label"
        )


def _open(request: Request) -> ShardSource:
    return ShardSource(request.name, request.progress)


shards = SourceKind(
    open=_open,
    summary="tar shards in WebDataset's layout, such as 'shards/{0000..1023}.tar'",
    unnamed="name the tars, such as --data 'shards/{0000..1023}.tar'",
)
