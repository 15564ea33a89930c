"""The index of a tar shard in WebDataset's layout: path, offset, size and label of every image, stored in the cache.

Members of one key are one sample: ``KEY.jpg`` is the image, and ``KEY.cls``, ``KEY.json`` or ``KEY.txt`` holds its label. The key ends at
the first dot of the file's name. The index is made once for a size and time of the shard, from its headers and its labels alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Codes, Rows, Texts
from cnnkit.data.image import SUFFIXES
from cnnkit.data.shards.files import ShardFile
from cnnkit.data.source import one_form
from cnnkit.data.sources.archive import plain_name
from cnnkit.data.sources.layout import is_litter
from cnnkit.data.sources.tarred import Member, list_members
from cnnkit.data.store.cache import index_folder
from cnnkit.errors import DataError
from cnnkit.files import whole_file

INDEX_VERSION = 2  # raise it when the content of an index changes
LABEL_SUFFIXES = (".cls", ".json", ".txt")  # the first one that a key has counts
LABEL_FIELDS = ("label", "cls", "class", "class_name", "target")  # of a JSON document, in this order
MAX_LABEL_BYTES = 1_000_000  # of one member; a label has a few
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


@dataclass(frozen=True)
class TarIndex:
    """The images of a shard, N with a label: their paths, the offsets and sizes of their bytes, and the labels as they are written.

    `left_out` counts the samples and members without an image or a label, by reason. `kinds` counts the labels by the suffix of the
    member that holds them.
    """

    paths: Texts
    starts: Rows
    sizes: Rows
    labels: Codes
    left_out: Mapping[str, int]
    kinds: Mapping[str, int]


def shard_index(shard: ShardFile) -> TarIndex:
    """Return the index of `shard`, from the cache if the shard has not changed since; raises `DataError` if it is no readable tar."""
    file = index_folder() / f"{hashlib.sha256(_identity(shard).encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.npz"
    with suppress(OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile), file.open("rb") as opened:
        return _read(opened, shard)
    index = _list(shard)
    with suppress(OSError):  # a full disk only costs another listing
        _write(index, shard, file)
    return index


def _identity(shard: ShardFile) -> str:
    """Return the name of a shard on this machine."""
    return shard.path if "://" in shard.path else str(Path(shard.path).resolve())


def _read(opened: BinaryIO, shard: ShardFile) -> TarIndex:
    found: Mapping[str, NDArray[Any]] = np.load(opened, allow_pickle=False)
    facts: Any = json.loads(str(found["facts"]))
    if (facts["version"], facts["stamp"]) != (INDEX_VERSION, shard.spans.stamp):
        raise ValueError
    names = Texts(found["names"], found["name_bounds"])
    paths, labels = Texts(found["paths"], found["path_bounds"]), Codes(found["labels"], tuple(names))
    return TarIndex(paths, found["starts"], found["sizes"], labels, facts["left_out"], facts["kinds"])


def _write(index: TarIndex, shard: ShardFile, file: Path) -> None:
    facts = {"version": INDEX_VERSION, "stamp": shard.spans.stamp, "left_out": index.left_out, "kinds": index.kinds}
    names = Texts.of(name or "" for name in index.labels.names)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part, part.open("wb") as opened:
        np.savez(
            opened,
            allow_pickle=False,
            facts=np.array(json.dumps(facts)),
            paths=index.paths.blob,
            path_bounds=index.paths.bounds,
            starts=index.starts,
            sizes=index.sizes,
            labels=index.labels.codes,
            names=names.blob,
            name_bounds=names.bounds,
        )


def _list(shard: ShardFile) -> TarIndex:
    """Return the index from the headers and the labels of `shard`."""
    try:
        with shard.open() as file:
            _refuse_compressed(file, shard.path)
            members, _, special = list_members(file, shard.path)
            images, labels, left_out = _samples(members)
            written = {key: _label(file, member) for key, member in labels.items() if key in images}
    except OSError as error:
        raise DataError(f"{shard.path}: cannot be read: {error.strerror or error}") from None
    kept = [key for key in images if written.get(key)]
    left_out += special
    left_out["without a label"] += len(images) - len(kept)
    kinds = Counter(_split_name(labels[key].name)[1] for key in kept)
    return TarIndex(
        Texts.of(one_form(plain_name(images[key].name) or "") for key in kept),
        np.array([images[key].start for key in kept], np.int64),
        np.array([images[key].size for key in kept], np.int64),
        Codes.of(written[key] for key in kept),
        +left_out,
        kinds,
    )


def _samples(members: Sequence[Member]) -> tuple[dict[str, Member], dict[str, Member], Counter[str]]:
    """Return the image and the member with the label of each key, and the number of members that count as neither, by reason."""
    images: dict[str, Member] = {}
    labels: dict[str, Member] = {}
    left_out: Counter[str] = Counter()
    for member in members:
        key, suffix = _split_name(member.name)
        if plain_name(member.name) is None:
            left_out["with a path that leads out of the archive"] += 1
        elif suffix in SUFFIXES and not any(map(is_litter, key.split("/"))):
            earlier = images.get(key)
            left_out["with a repeated key"] += earlier is not None
            if earlier is None or earlier.name == member.name:
                images[key] = member  # unpacking would also keep the last file of a name
        elif suffix in LABEL_SUFFIXES and _rank(suffix) <= _rank(_split_name(labels[key].name)[1] if key in labels else ""):
            labels[key] = member
    return images, labels, left_out


def _split_name(name: str) -> tuple[str, str]:
    """Return the key and the suffix, in lower case, of the name of a member: the suffix begins at the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{suffix}".lower()


def _rank(suffix: str) -> int:
    return LABEL_SUFFIXES.index(suffix) if suffix in LABEL_SUFFIXES else len(LABEL_SUFFIXES)


def _label(file: BinaryIO, member: Member) -> str:
    """Return the label in `member`; an empty text if it holds none."""
    if member.size > MAX_LABEL_BYTES:
        return ""
    file.seek(member.start)
    text = file.read(member.size).decode("utf-8", "surrogateescape")
    if not member.name.lower().endswith(".json"):
        return one_form(text.strip())
    try:
        document: object = json.loads(text)
    except ValueError:
        return ""
    values = cast("dict[str, object]", document) if isinstance(document, dict) else {"label": document}
    found = next((values[name] for name in LABEL_FIELDS if isinstance(values.get(name), str | int)), "")
    return one_form(str(found).strip())


def _refuse_compressed(file: BinaryIO, path: str) -> None:
    kind = _COMPRESSED.get(file.read(2))
    if kind:
        raise DataError(f"{path}: compressed with {kind}, so its images cannot be read by offset; unpack it to a plain .tar first")
    file.seek(0)
