"""Tests of the hub with a fake of the package ``datasets``, an extra that may be missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, open_source
from cnnkit.errors import DataError, MissingExtraError


class ClassLabel:
    dtype = "int64"

    def __init__(self, *names: str) -> None:
        self.names = names

    def int2str(self, number: int) -> str:
        return self.names[number]


class Image:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class Rows:
    """A split of a data set: a fake of `datasets.Dataset` with its columns and their features."""

    def __init__(self, features: dict[str, Any], columns: dict[str, list[Any]]) -> None:
        self.features = features
        self.columns = columns
        self._fingerprint = "f00d"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row: int) -> dict[str, Any]:
        assert not any(getattr(feature, "decode", False) for feature in self.features.values()), "an image would be decoded"
        return {name: column[row] for name, column in self.columns.items()}

    def select_columns(self, names: list[str]) -> Rows:
        return Rows({name: self.features[name] for name in names}, {name: self.columns[name] for name in names})

    def cast_column(self, name: str, feature: Any) -> Rows:
        return Rows({**self.features, name: feature}, self.columns)

    def to_dict(self) -> dict[str, list[Any]]:
        return self.columns


TEXT = SimpleNamespace(dtype="string")
PETS = {"image": Image(), "label": ClassLabel("cat", "dog")}


def stored(*contents: bytes | str | None) -> list[dict[str, Any] | None]:
    return [None if item is None else {"bytes": item if isinstance(item, bytes) else None, "path": str(item)} for item in contents]


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a fake of ``datasets``; a test sets `load_dataset`."""
    module: Any = ModuleType("datasets")
    module.Image, module.config = Image, SimpleNamespace(HF_HUB_OFFLINE=False)
    hub: Any = ModuleType("huggingface_hub")
    hub.constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    module.hub = hub.constants
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return module


def test_columns_and_splits_become_records(datasets: Any, tmp_path: Path) -> None:
    (tmp_path / "3.jpg").write_bytes(b"three")
    datasets.load_dataset = lambda *_: {
        "train": Rows(PETS, {"image": stored(b"one", b"two"), "label": [1, 0]}),
        "validation": Rows(PETS, {"image": stored(str(tmp_path / "3.jpg"), None), "label": [1, 0]}),
    }
    source = open_source("hf:me/pets")
    assert source.name == "hf:me/pets"
    assert source.records == (
        Record("train/000000", "dog", "train"),
        Record("train/000001", "cat", "train"),
        Record("validation/000000", "dog", "val"),
        Record("validation/000001", "cat", "val"),
    )
    assert [source.read(record) for record in source.records[:3]] == [b"one", b"two", b"three"]
    with pytest.raises(UndecodableError, match="this row has no image"):
        source.read(source.records[3])
    assert source.stamp(source.records[1]) == "f00d:000001"
    assert source.notes == ()


def test_name_and_configuration_are_told_apart(datasets: Any) -> None:
    asked: list[Any] = []

    def load(*arguments: Any) -> Any:
        asked.append(arguments)
        return {"train": Rows(PETS, {"image": stored(b"one"), "label": [1]})}

    datasets.load_dataset = load
    open_source("hf:me/pets:small")
    open_source("hf:pets")
    assert asked == [("me/pets", "small"), ("pets", None)]


@pytest.mark.parametrize("download", [True, False])
def test_the_hub_is_contacted_only_with_download(datasets: Any, download: bool) -> None:
    seen: list[bool] = []

    def load(*_: Any) -> Any:
        seen.extend((datasets.config.HF_HUB_OFFLINE, datasets.hub.HF_HUB_OFFLINE))
        sys.stdout.write("a progress bar\n")
        raise ConnectionError("Couldn't reach 'pets' on the Hub\nand more")

    datasets.load_dataset = load
    advice = "$" if download else "; add --download if it is not on this machine yet"
    with pytest.raises(DataError, match=rf"--data hf:pets: cannot be loaded: Couldn't reach 'pets' on the Hub{advice}"):
        open_source("hf:pets", download=download)
    assert seen == [not download] * 2
    assert (datasets.config.HF_HUB_OFFLINE, datasets.hub.HF_HUB_OFFLINE) == (False, False)


def test_stdout_is_left_to_results(datasets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def load(*_: Any) -> Any:
        sys.stdout.write("a progress bar\n")
        return {"train": Rows(PETS, {"image": stored(b"one"), "label": [1]})}

    datasets.load_dataset = load
    open_source("hf:pets")
    assert capsys.readouterr() == ("", "a progress bar\n")


def test_images_without_label_and_unknown_splits_are_left_out_with_a_note(datasets: Any) -> None:
    datasets.load_dataset = lambda *_: {
        "train": Rows(PETS, {"image": stored(b"one", b"two"), "label": [1, 0]}),
        "test": Rows(PETS, {"image": stored(b"x", b"y"), "label": [-1, None]}),
        "extra": Rows(PETS, {"image": stored(b"z"), "label": [0]}),
    }
    source = open_source("hf:pets")
    assert {record.split for record in source.records} == {"train"}
    assert source.notes == ("1 image of the split 'extra' was left out", "2 images without a label were left out")


@pytest.mark.parametrize(
    ("features", "label"),
    [
        ({"img": Image(), "fine": ClassLabel("fine"), "coarse": ClassLabel("coarse")}, "fine"),
        ({"image": Image(), "other": ClassLabel("other"), "label": ClassLabel("label")}, "label"),
        ({"image": Image(), "label": TEXT, "kind": ClassLabel("kind")}, "kind"),
        ({"image": Image(), "label": TEXT, "who": TEXT}, "0"),
    ],
)
def test_the_column_of_labels_is_found(datasets: Any, features: dict[str, Any], label: str) -> None:
    columns = {name: stored(b"x") if isinstance(feature, Image) else [0] for name, feature in features.items()}
    datasets.load_dataset = lambda *_: {"full": Rows(features, columns)}
    source = open_source("hf:pets")
    assert source.records == (Record("full/000000", label),)
    assert source.read(source.records[0]) == b"x"
    assert bool(source.notes) == (len([item for item in features.values() if isinstance(item, ClassLabel)]) > 1)


def test_a_column_may_give_the_groups(datasets: Any) -> None:
    features = {**PETS, "owner": TEXT}
    datasets.load_dataset = lambda *_: {"train": Rows(features, {"image": stored(b"x", b"y"), "label": [0, 1], "owner": ["ann", None]})}
    assert [record.group for record in open_source("hf:pets", group_by="owner").records] == ["ann", None]
    assert [record.group for record in open_source("hf:pets", group_by=r"\d").records] == [None, None]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": Rows({"text": TEXT}, {"text": [""]})}, "--data hf:pets: no column of images; it has: text"),
        ({"train": Rows({"image": Image(), "box": None}, {"image": []})}, "no column of class labels; it has: image, box"),
        ({"a": Rows(PETS, {"image": []}), "b": Rows(PETS, {"image": []})}, "none of its splits is train, val or test; it has: a, b"),
        ({"train": Rows(PETS, {"image": stored(b"x"), "label": [-1]})}, "no image has a label"),
    ],
)
def test_a_data_set_without_images_or_labels_is_refused(datasets: Any, parts: dict[str, Rows], message: str) -> None:
    datasets.load_dataset = lambda *_: parts
    with pytest.raises(DataError, match=message):
        open_source("hf:pets")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"^--data hf:pets needs the package datasets; type: pip install 'cnnkit\[hf\]'$"):
        open_source("hf:pets")


def test_a_name_is_needed() -> None:
    with pytest.raises(DataError, match="--data hf: name a data set, such as --data hf:beans"):
        open_source("hf")


def test_with_the_package_itself_a_folder_of_images_is_a_data_set(image_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    pytest.importorskip("datasets")
    root: Path = image_folder({"ants": 2, "bees": 1}, folder="pets/train")
    source = open_source(f"hf:{root.parent}")
    assert [(record.label, record.split) for record in source.records] == [("ants", "train")] * 2 + [("bees", "train")]
    assert source.read(source.records[2]) == (root / "bees/bees-000.jpg").read_bytes()
