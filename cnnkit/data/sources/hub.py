"""Image data sets of the Hugging Face Hub, through the package ``datasets``: ``--data hf:NAME[:CONFIG]``."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

from cnnkit.data.image import UndecodableError, read_file
from cnnkit.data.source import ALIASES, Record, Request, SourceKind, one_form
from cnnkit.errors import DataError, MissingExtraError, left_out_note

LABEL_COLUMNS = ("label", "labels", "class")  # names that win over other columns, in this order
_NAME_TYPES = {"string", "large_string", "int64", "int32", "bool"}  # types of columns whose text can name a class


class HubSource:
    """The images of the data set `name`: ``NAME`` or ``NAME:CONFIG`` on the hub, or a local folder.

    The data set is downloaded only if `download` is true. `group_by` may name the column of groups. Raises `DataError` if the data
    set is absent or has no images or labels, `MissingExtraError` without the package ``datasets``.
    """

    def __init__(self, name: str, *, download: bool = False, group_by: str = "") -> None:
        self.name = f"hf:{name}"
        parts = _load(name, download=download)
        features: dict[str, Any] = dict(next(iter(parts.values())).features)
        image, label = _image_column(self.name, features), _label_column(self.name, features)
        group = group_by if group_by in features else ""
        splits = _splits(self.name, parts)
        left_out = Counter({f"of the split {part!r}": len(rows) for part, rows in parts.items() if part not in splits})
        self._images: dict[str, Any] = {}
        records: list[Record] = []
        for part, split in splits.items():
            self._images[part] = _stored(parts[part], image)
            columns = parts[part].select_columns([label, group] if group else [label]).to_dict()
            groups = columns[group] if group else [None] * len(columns[label])
            for row, (target, group_name) in enumerate(zip(columns[label], groups, strict=True)):
                class_name = _class_name(features[label], target)
                if class_name is None:
                    left_out["without a label"] += 1
                else:
                    records.append(Record(f"{part}/{row:06d}", class_name, split, None if group_name is None else str(group_name)))
        if not records:
            raise DataError(f"--data {self.name}: no image has a label")
        self.records = tuple(records)
        other = [column for column in features if column != label and _is_class(features[column])]
        self.notes: Sequence[str] = (
            *((f"labels come from the column {label!r}; other columns of classes: {', '.join(other)}",) if other else ()),
            *(left_out_note(count, "image", reason) for reason, count in left_out.items() if count),
        )

    def read(self, record: Record) -> bytes:
        """Return the bytes of one image."""
        part, _, row = record.path.rpartition("/")
        (stored,) = self._images[part][int(row)].values()
        if stored is None:
            raise UndecodableError("this row has no image")
        return stored["bytes"] if stored["bytes"] is not None else read_file(stored["path"])

    def stamp(self, record: Record) -> str:
        """Return the fingerprint of the data set and the row."""
        part, _, row = record.path.rpartition("/")
        return f"{self._images[part]._fingerprint}:{row}"  # noqa: SLF001 (nothing else tells versions of a data set apart)


def _load(name: str, *, download: bool) -> dict[str, Any]:
    """Return the splits of a data set by their original names."""
    try:
        datasets = _package("datasets")
    except ImportError:
        raise MissingExtraError(f"--data hf:{name} needs the package datasets; type: pip install 'cnnkit[hf]'") from None
    path, _, config = name.partition(":")
    try:
        with contextlib.nullcontext() if download else _offline(), contextlib.redirect_stdout(sys.stderr):
            return dict(datasets.load_dataset(path, config or None))
    except Exception as error:  # noqa: BLE001 (a dozen packages may raise here)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        advice = "" if download else "; add --download if it is not on this machine yet"
        raise DataError(f"--data hf:{name}: cannot be loaded: {reason}{advice}") from None


@contextlib.contextmanager
def _offline() -> Generator[None]:
    """Keep ``datasets`` off the network; its environment variable works only before the import."""
    modules = _package("datasets").config, _package("huggingface_hub").constants
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _image_column(name: str, features: dict[str, Any]) -> str:
    found = [column for column, feature in features.items() if type(feature).__name__ == "Image"]
    if not found:
        raise DataError(f"--data {name}: no column of images; it has: {', '.join(features)}")
    return "image" if "image" in found else found[0]


def _label_column(name: str, features: dict[str, Any]) -> str:
    """Return the column of classes: a column of the type ``ClassLabel``, else a column named as in `LABEL_COLUMNS`."""
    declared = [column for column in features if _is_class(features[column])]
    named = [column for column in LABEL_COLUMNS if getattr(features.get(column), "dtype", "") in _NAME_TYPES]
    found = [*(column for column in LABEL_COLUMNS if column in declared), *declared, *named]
    if not found:
        raise DataError(f"--data {name}: no column of class labels; it has: {', '.join(features)}; save it as class folders or a CSV")
    return found[0]


def _is_class(feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel"


def _class_name(feature: Any, target: Any) -> str | None:
    """Return the name of a class; None for a missing label, such as the -1 of test data with hidden labels."""
    if _is_class(feature):
        return None if target is None or target < 0 else one_form(str(feature.int2str(target)))
    return None if target is None or not str(target).strip() else one_form(str(target))


def _splits(name: str, parts: dict[str, Any]) -> dict[str, str | None]:
    """Return the split of cnnkit for each part; parts other than train, val and test are left out, except a single part."""
    known: dict[str, str | None] = {part: ALIASES[part.lower()] for part in parts if part.lower() in ALIASES}
    if not known and len(parts) > 1:
        raise DataError(f"--data {name}: none of its splits is train, val or test; it has: {', '.join(parts)}")
    return known or dict.fromkeys(parts)


def _stored(rows: Any, image: str) -> Any:
    """Return the rows with only the stored image, undecoded."""
    return rows.select_columns([image]).cast_column(image, _package("datasets").Image(decode=False))


def _package(name: str) -> Any:
    return importlib.import_module(name)  # by name: the package may be missing, and its import takes seconds


def _open(request: Request) -> HubSource:
    return HubSource(request.name, download=request.download, group_by=request.group_by)


hub = SourceKind(
    open=_open,
    summary="image data sets of the Hugging Face Hub, such as hf:beans; needs the extra hf",
    unnamed="name a data set, such as --data hf:beans, or hf:NAME:CONFIG",
)
