"""Parquet files with images and labels, in the layout of the Hugging Face Hub: ``--data parquet:PATH``, read by pyarrow.

Opening reads labels alone. An image is read with its row group, and the last row groups stay in memory up to a limit.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cnnkit.data.columns import BLOCK_ROWS, Codes, RecordColumns, Rows, Texts
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress
from cnnkit.data.shards.files import RowFinder, ShardFile, in_threads, open_files
from cnnkit.data.shards.remote import UnreachableError
from cnnkit.data.shards.webdataset import shard_splits
from cnnkit.data.source import PARQUET, Record, Request, SourceKind, one_form
from cnnkit.data.sources.archive import plain_name
from cnnkit.data.sources.bounds import refusal_reason
from cnnkit.data.sources.folder import files_below
from cnnkit.data.sources.hub import LABEL_COLUMNS
from cnnkit.data.sources.layout import natural_order, suffix_of
from cnnkit.data.sources.spans import SpanFile
from cnnkit.errors import DataError, MissingExtraError, left_out_note

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp")  # names that win over other columns of bytes, in this order
MAX_CACHED_BYTES = 256_000_000  # of row groups in memory; the last one stays in any case
MAX_GROUP_BYTES = 2_000_000_000  # of the images of one row group, which is in memory while one of them is read


@dataclass(frozen=True)
class _Layout:
    """The columns of a file: images, labels and, if asked for, groups. `names` are the names of integer labels, empty without them.

    `data` is the column of the bytes inside that of the images, and `path` that of their names, or empty.
    """

    image: str
    label: str
    group: str
    data: str
    path: str
    names: tuple[str, ...]


class _Part:
    """One parquet file: its rows with a label, and the readers of its row groups."""

    def __init__(self, file: ShardFile, group_by: str) -> None:
        self.file = file
        self._lock = Lock()
        with _errors(file.path):
            self._reader = _package("pyarrow.parquet").ParquetFile(SpanFile(file.spans), pre_buffer=False)
            self.layout = _layout(self._reader.schema_arrow, file.path, group_by)
            found = self._reader.metadata
            self.size = int(found.num_rows)
            self._ends = np.cumsum([found.row_group(number).num_rows for number in range(found.num_row_groups)])
            self._check_groups(found)
            self.rows, self.labels, self.groups = self._labels()

    def paths(self) -> Texts | None:
        """Return the names that the file gives to its images, None unless all have one that leads nowhere else."""
        if not self.layout.path:
            return None
        with _errors(self.file.path):
            column = _unpacked(self._column(self.layout.path))
        if column.null_count:
            return None
        names = [plain_name(one_form(name)) for name in column.take(_package("pyarrow").array(self.rows)).to_pylist()]
        return None if None in names else Texts.of(name for name in names if name)

    def group_of(self, row: int) -> tuple[int, int]:
        """Return the row group of a row of the file, and the row in it."""
        group = int(np.searchsorted(self._ends, row, "right"))
        return group, row - int(self._ends[group - 1] if group else 0)

    def images(self, group: int) -> Any:
        """Return the array of the bytes of the images of a row group; raises `UndecodableError`."""
        try:
            with self._lock, _errors(self.file.path):
                return _unpacked(self._reader.read_row_group(group, [self.layout.data], use_threads=False).column(0))
        except UnreachableError:
            raise
        except DataError as error:
            raise UndecodableError(str(error)) from None

    def _labels(self) -> tuple[Rows, Codes, Codes | None]:
        """Return the rows with a label, their labels and, if asked for, their groups."""
        labels = _codes(self._column(self.layout.label), self.layout.names, self.file.path)
        with_name = np.array([bool(name and name.strip()) for name in labels.names])
        rows = np.flatnonzero(with_name[labels.codes])
        groups = _codes(self._column(self.layout.group), (), self.file.path).take(rows) if self.layout.group else None
        return rows, labels.take(rows), groups

    def _column(self, name: str) -> Any:
        return self._reader.read([name], use_threads=False).column(0).combine_chunks()

    def _check_groups(self, found: Any) -> None:
        """Raise `DataError` for a row group too large to be in memory."""
        for number in range(found.num_row_groups):
            group = found.row_group(number)
            columns = [group.column(index) for index in range(group.num_columns)]
            size = sum(each.total_uncompressed_size for each in columns if each.path_in_schema == self.layout.data)
            if size > MAX_GROUP_BYTES:
                raise DataError(
                    f"{self.file.path}: a row group has {size / 1e9:.1f} GB of images, more than the "
                    f"{MAX_GROUP_BYTES / 1e9:.0f} GB that fit into memory; write it in smaller row groups: "
                    f"pyarrow.parquet.write_table(table, file, row_group_size=100)"
                )


class ParquetSource:
    """The images of the parquet file, folder of files or pattern `path`, in the order of the files.

    `group_by` may name the column of groups, and `progress` counts the files whose labels are read. The path of an image is the one in
    the file if every image has a different one, else the file and the row. Raises `DataError` for missing and damaged files and if no
    image has a label, `MissingExtraError` without pyarrow.
    """

    def __init__(self, path: str, group_by: str = "", progress: Progress | None = None) -> None:
        self.name = f"parquet:{path}"
        try:
            _package("pyarrow.parquet")
        except ImportError:
            raise MissingExtraError(f"--data {self.name} needs the package pyarrow; type: pip install 'cnnkit[parquet]'") from None
        self._parts = in_threads(lambda file: _Part(file, group_by), _files(path, self.name, progress), progress)
        counts = [len(part.rows) for part in self._parts]
        if not sum(counts):
            raise DataError(f"--data {self.name}: no image has a label in the column {self._parts[0].layout.label!r}")
        self._rows = np.concatenate([part.rows for part in self._parts])
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = Lock()
        splits, split_note = shard_splits([part.file.name for part in self._parts], counts, self.name)
        paths, self._finder = self._paths(counts)
        groups = Codes.join([part.groups for part in self._parts if part.groups is not None]) if self._parts[0].groups is not None else None
        self.records = RecordColumns(paths, Codes.join([part.labels for part in self._parts]), splits, groups)
        without = sum(part.size for part in self._parts) - sum(counts)
        self.notes: Sequence[str] = (
            *((split_note,) if split_note else ()),
            *((left_out_note(without, "image", "without a label"),) if without else ()),
        )

    def read(self, record: Record) -> bytes:
        """Return the bytes of one image."""
        row, number = self._finder.find(record)
        group, inside = self._parts[number].group_of(int(self._rows[row]))
        stored = self._images(number, group)[inside]
        if not stored.is_valid:
            raise UndecodableError("this row has no bytes of an image")
        size = len(stored.as_buffer())
        if reason := refusal_reason(size, size):
            raise UndecodableError(reason)
        return stored.as_py()

    def stamp(self, record: Record) -> str:
        """Return the row of one image, and size and time of its file."""
        row, number = self._finder.find(record)
        return f"{self._rows[row]}:{self._parts[number].file.spans.stamp}"

    def stamp_all(self, records: Sequence[Record]) -> Iterator[str]:
        """Yield the stamp of every record."""
        rows, numbers = self._finder.find_all(RecordColumns.of(records).paths)
        stamps = [part.file.spans.stamp for part in self._parts]
        for start in range(0, len(rows), BLOCK_ROWS):
            columns = (values.tolist() for values in (self._rows[rows[start : start + BLOCK_ROWS]], numbers[start : start + BLOCK_ROWS]))
            yield from (f"{row}:{stamps[number]}" for row, number in zip(*columns, strict=True))

    def _images(self, number: int, group: int) -> Any:
        """Return the images of a row group of file `number`, which stay in memory for the next read."""
        key = number, group
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        found = self._parts[number].images(group)
        with self._lock:
            self._groups[key] = found
            while len(self._groups) > 1 and sum(each.nbytes for each in self._groups.values()) > MAX_CACHED_BYTES:
                self._groups.popitem(last=False)
        return found

    def _paths(self, counts: Sequence[int]) -> tuple[Texts, RowFinder]:
        given = [part.paths() for part in self._parts]
        known = [paths for paths in given if paths is not None]
        if len(known) == len(given):
            paths = Texts.join(known)
            finder = RowFinder(paths, counts, self.name)
            if finder.is_unique:
                return paths, finder
        paths = Texts.of(f"{part.file.name}/{row:06d}" for part in self._parts for row in part.rows.tolist())
        return paths, RowFinder(paths, counts, self.name)


def _layout(schema: Any, path: str, group_by: str) -> _Layout:
    """Return the columns of a file: those that the Hub's metadata declares, else columns of bytes and of labels by name."""
    features = _features(schema)
    fields: dict[str, Any] = {field.name: field for field in schema}
    declared = [name for name in fields if features.get(name, {}).get("_type") == "Image"]
    images = [name for name in declared or fields if _bytes_field(fields[name]) is not None]
    if not images:
        raise DataError(f"{path}: no column of images, which are bytes or structs with a field bytes; it has: {', '.join(fields)}")
    image = next((name for name in IMAGE_COLUMNS if name in images), images[0])
    classes = [name for name in fields if features.get(name, {}).get("_type") == "ClassLabel"]
    labels = [*(name for name in LABEL_COLUMNS if name in classes), *classes, *(name for name in LABEL_COLUMNS if name in fields)]
    if not labels:
        raise DataError(f"{path}: no column of labels; expected {', '.join(LABEL_COLUMNS)}; it has: {', '.join(fields)}")
    data = _bytes_field(fields[image]) or ""
    inner = {field.name for field in fields[image].type} if data else set[str]()
    names = features.get(labels[0], {}).get("names") or ()
    return _Layout(
        image,
        labels[0],
        group_by if group_by in fields else "",
        f"{image}.{data}" if data else image,
        f"{image}.path" if "path" in inner else "",
        tuple(one_form(str(name)) for name in (names.values() if isinstance(names, dict) else names)),
    )


def _features(schema: Any) -> Mapping[str, Any]:
    """Return the features that the package ``datasets`` writes into the metadata of a file, by column."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found: Any = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def _bytes_field(field: Any) -> str | None:
    """Return the name of the bytes in a column of structs, an empty text for a column of bytes, and None for other columns."""
    types = _package("pyarrow").types
    kind = field.type
    if types.is_binary(kind) or types.is_large_binary(kind):
        return ""
    return "bytes" if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else None


def _unpacked(column: Any) -> Any:
    """Return a column of structs of one field as the array of this field, and any other column as one array."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return array.flatten()[0] if _package("pyarrow").types.is_struct(array.type) else array


def _codes(column: Any, names: Sequence[str], path: str) -> Codes:
    """Return a column of labels as codes; integers are numbers of `names` if there are any. A missing label has the name None."""
    types = _package("pyarrow").types
    if names and types.is_integer(column.type):
        numbers = np.asarray(column.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
        if numbers.max(initial=-1) >= len(names):
            raise DataError(f"{path}: the label {numbers.max()} has no name: the metadata of the file names {len(names):,} classes")
        return Codes(np.where(numbers < 0, len(names), numbers).astype(np.min_scalar_type(len(names))), (*names, None))
    if not (
        types.is_integer(column.type) or types.is_string(column.type) or types.is_large_string(column.type) or types.is_boolean(column.type)
    ):
        raise DataError(f"{path}: labels of the type {column.type}; expected whole numbers or texts")
    encoded = column.dictionary_encode(null_encoding="encode")
    values = [None if value is None or value == -1 else one_form(str(value).strip()) for value in encoded.dictionary.to_pylist()]
    return Codes(np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64), values)


def _files(path: str, data: str, progress: Progress | None) -> list[ShardFile]:
    """Return the parquet files of a folder, those that a pattern names, or the one file `path`."""
    if not Path(path).is_dir():
        return open_files(path, data, progress)
    found = natural_order([name for name in files_below(path) if suffix_of(name) == PARQUET])
    if not found:
        raise DataError(f"--data {data}: the folder holds no .parquet file")
    return [ShardFile(file.path, name, file.spans) for name in found for file in open_files(f"{path}/{name}", data)]


@contextmanager
def _errors(path: str) -> Generator[None]:
    """Turn every error of pyarrow into a `DataError` that names the file `path`."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:  # pyarrow's are of these types
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: damaged, or no parquet file: {reason}; fetch or write it again") from None


def _package(name: str) -> Any:
    return import_module(name)  # by name: the package may be missing


def _open(request: Request) -> ParquetSource:
    return ParquetSource(request.name, request.group_by, request.progress)


parquet = SourceKind(
    open=_open,
    summary="parquet files with images and labels, in the layout of the Hub; needs the extra parquet",
    unnamed="name a file, a folder or a pattern, such as --data parquet:data/train.parquet",
)
