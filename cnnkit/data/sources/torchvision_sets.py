"""Classification data sets of torchvision, in the folder where torchvision keeps them: ``--data torchvision:CIFAR10``."""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnkit.data.image import read_file
from cnnkit.data.source import TEST, TRAIN, VAL, Record, Request, SourceKind, StoredImage
from cnnkit.data.sources.folder import file_stamp
from cnnkit.errors import DataError, closest

DEFAULT_ROOT = "data"  # as in torchvision's own examples
_Parts = dict[str | None, dict[str, Any]]  # from a split to torchvision's arguments for it
_TRAIN_FLAG: _Parts = {TRAIN: {"train": True}, TEST: {"train": False}}
_TRAIN_TEST: _Parts = {TRAIN: {"split": "train"}, TEST: {"split": "test"}}
_TRAIN_VAL_TEST: _Parts = {TRAIN: {"split": "train"}, VAL: {"split": "val"}, TEST: {"split": "test"}}
_UNDIVIDED: _Parts = {None: {}}
DATA_SETS: dict[str, _Parts] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "USPS"), _TRAIN_FLAG),
    **dict.fromkeys(("Food101", "GTSRB", "STL10", "SVHN", "StanfordCars"), _TRAIN_TEST),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "RenderedSST2"), _TRAIN_VAL_TEST),
    **dict.fromkeys(("EuroSAT", "SEMEION", "SUN397"), _UNDIVIDED),
    "Country211": {**_TRAIN_VAL_TEST, VAL: {"split": "valid"}},
    "Imagenette": {TRAIN: {"split": "train"}, VAL: {"split": "val"}},
    "OxfordIIITPet": {**_TRAIN_TEST, TRAIN: {"split": "trainval"}},
}


class TorchvisionSource:
    """The data set `name` of torchvision below the folder `root`, downloaded if `download` is true and it is missing.

    Image files are read as files and named relative to `root`. Images that torchvision stores as pixels are named by split and index.
    Raises `DataError` if the data set is unknown, absent or damaged.
    """

    def __init__(self, name: str, root: Path, *, download: bool = False) -> None:
        if name not in DATA_SETS:
            raise DataError(f"--data torchvision:{name}: no such data set{closest(name, DATA_SETS)} Known: {', '.join(sorted(DATA_SETS))}")
        self.name = f"torchvision:{name}@{root}"
        self.notes: Sequence[str] = ()
        self._files: dict[str, str] = {}
        self._pixels: dict[str, tuple[Any, int]] = {}
        records: list[Record] = []
        for split in DATA_SETS[name]:
            dataset = _load(name, split, root, download=download)
            class_name, files = _class_names(dataset), _files(dataset)
            for index, target in enumerate(_targets(dataset)):
                if files:
                    path = os.path.relpath(files[index], root).replace(os.sep, "/")
                    self._files[path] = files[index]
                else:
                    path = f"{split or name}/{index:05d}"
                    self._pixels[path] = dataset, index
                records.append(Record(path, class_name(target), split))
        self.records = tuple(records)

    def read(self, record: Record) -> StoredImage:
        """Return the bytes of one file, or the pixels of one image."""
        if record.path in self._files:
            return read_file(self._files[record.path])
        dataset, index = self._pixels[record.path]
        return np.asarray(dataset[index][0].convert("RGB"))

    def stamp(self, record: Record) -> str:
        """Return size and modification time of one file, or the checksum of one image's pixels."""
        if record.path in self._files:
            return file_stamp(self._files[record.path])
        dataset, index = self._pixels[record.path]
        return f"{zlib.crc32(dataset[index][0].tobytes()):08x}"


def _load(name: str, split: str | None, root: Path, *, download: bool) -> Any:
    """Open one part of a data set; torchvision downloads only missing parts."""
    from torchvision import datasets  # the import takes seconds

    make = getattr(datasets, name)
    arguments = DATA_SETS[name][split]
    flag = f"--data torchvision:{name}"
    with contextlib.redirect_stdout(sys.stderr):  # torchvision reports its downloads on stdout, which carries results
        try:
            return make(str(root), **arguments)
        except Exception as error:  # noqa: BLE001 (torchvision raises various exceptions for absent and damaged files)
            if not download:
                reason = str(error).partition(" You can use download")[0]
                raise DataError(
                    f"{flag}: {f'the split {split}' if split else 'the data set'} is missing in {root}, or damaged: {reason.rstrip('.')}; "
                    f"add --download to download it there, or name its folder: torchvision:{name}@FOLDER"
                ) from None
        try:
            return make(str(root), download=True, **arguments)
        except Exception as error:  # noqa: BLE001 (as above)
            raise DataError(f"{flag}: cannot be downloaded to {root}: {error}") from None


def _files(dataset: Any) -> list[str]:
    """Return the files of a data set in its order; empty if it stores pixels."""
    for name in ("samples", "_samples"):
        if hasattr(dataset, name):
            return [str(file) for file, _ in getattr(dataset, name)]
    for name in ("_images", "_image_files"):
        if hasattr(dataset, name):
            return [str(file) for file in getattr(dataset, name)]
    return []


def _targets(dataset: Any) -> list[int]:
    """Return the class index of each image without decoding images."""
    for name in ("samples", "_samples"):
        if hasattr(dataset, name):
            return [int(target) for _, target in getattr(dataset, name)]
    found = next(getattr(dataset, name) for name in ("targets", "labels", "_labels") if hasattr(dataset, name))
    return np.asarray(found).tolist()


def _class_names(dataset: Any) -> Callable[[int], str]:
    """Return a function from a class index to torchvision's name (the first of several synonyms), else to the number as text."""
    classes: Sequence[str | Sequence[str]] = getattr(dataset, "classes", ())
    names = [name if isinstance(name, str) else name[0] for name in classes]
    return lambda target: names[target] if target < len(names) else str(target)


def _open(request: Request) -> TorchvisionSource:
    name, _, folder = request.name.partition("@")
    root = folder or os.environ.get("CNNKIT_DATA") or DEFAULT_ROOT
    return TorchvisionSource(name, Path(root).expanduser(), download=request.download)


torchvision = SourceKind(open=_open, summary="data sets of torchvision, such as torchvision:CIFAR10; kept in ./data or $CNNKIT_DATA")
