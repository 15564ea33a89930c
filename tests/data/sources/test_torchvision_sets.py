from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from cnnkit.data.source import Record, open_source
from cnnkit.data.sources.torchvision_sets import DATA_SETS, TorchvisionSource
from cnnkit.data.store.facts import decode
from cnnkit.errors import DataError

RANDOM = np.random.default_rng(0)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    """Write 10 train and 2 test images in CIFAR-10's format and switch its checksums off."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = RANDOM.integers(0, 256, (12, 32, 32, 3), np.uint8)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        data = images[2 * number : 2 * number + 2].transpose(0, 3, 1, 2).reshape(2, -1)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [number % 2, 2]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile", "bird"]}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, *_: Path(path).exists())
    return images


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def write_fashion(root: Path) -> np.ndarray[Any, Any]:
    """Write 3 train images and 1 test image in the format of MNIST."""
    images = RANDOM.integers(0, 256, (4, 28, 28), np.uint8)
    for part, rows in (("train", slice(3)), ("t10k", slice(3, 4))):
        write_idx(root / f"FashionMNIST/raw/{part}-images-idx3-ubyte", images[rows])
        write_idx(root / f"FashionMNIST/raw/{part}-labels-idx1-ubyte", np.array([0, 9, 1, 3], np.uint8)[rows])
    return images


def save(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return path.read_bytes()


def test_the_parts_of_cifar_are_splits_and_its_images_are_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_cifar(tmp_path / "data", monkeypatch)
    source = open_source("torchvision:CIFAR10")
    assert source.name == "torchvision:CIFAR10@data"
    assert [record.split for record in source.records] == ["train"] * 10 + ["test"] * 2
    assert source.records[:2] == (Record("train/00000", "airplane", "train"), Record("train/00001", "bird", "train"))
    np.testing.assert_array_equal([source.read(record) for record in source.records], images)
    assert len({source.stamp(record) for record in source.records}) == 12
    again = open_source("torchvision:CIFAR10")
    assert [again.stamp(record) for record in again.records] == [source.stamp(record) for record in source.records]


def test_gray_images_become_rgb_and_classes_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_fashion(tmp_path / "elsewhere")
    monkeypatch.setenv("CNNKIT_DATA", str(tmp_path / "elsewhere"))
    source = open_source("torchvision:FashionMNIST")
    assert [record.label for record in source.records] == ["T-shirt/top", "Ankle boot", "Trouser", "Dress"]
    assert [record.split for record in source.records] == ["train", "train", "train", "test"]
    np.testing.assert_array_equal([source.read(record) for record in source.records], np.repeat(images[..., None], 3, axis=3))


def test_image_files_are_read_as_files(tmp_path: Path) -> None:
    content = save(tmp_path / "root/eurosat/2750/Forest/1.jpg")
    save(tmp_path / "root/eurosat/2750/River/1.jpg")
    source = open_source(f"torchvision:EuroSAT@{tmp_path}/root")
    assert list(source.records) == [Record("eurosat/2750/Forest/1.jpg", "Forest"), Record("eurosat/2750/River/1.jpg", "River")]
    assert source.read(source.records[0]) == content
    assert decode(content).image.shape == (8, 8, 3)
    before = source.stamp(source.records[0])
    (tmp_path / "root/eurosat/2750/Forest/1.jpg").write_bytes(content + b"x")
    assert source.stamp(source.records[0]) != before


def test_image_files_in_a_list_are_read_as_files(tmp_path: Path) -> None:
    root = tmp_path / "data/oxford-iiit-pet"
    content = save(root / "images/Abyssinian_1.jpg")
    save(root / "images/beagle_1.jpg")
    (root / "annotations").mkdir()
    (root / "annotations/trainval.txt").write_text("Abyssinian_1 1 1 1\nbeagle_1 2 2 1\n")
    (root / "annotations/test.txt").write_text("Abyssinian_1 1 1 1\nbeagle_1 2 2 1\n")
    source = open_source("torchvision:OxfordIIITPet")
    assert source.records[0] == Record("oxford-iiit-pet/images/Abyssinian_1.jpg", "Abyssinian", "train")
    assert [(record.label, record.split) for record in source.records[1:]] == [
        ("Beagle", "train"),
        ("Abyssinian", "test"),
        ("Beagle", "test"),
    ]
    assert source.read(source.records[0]) == content


def test_an_absent_data_set_is_downloaded_only_on_request(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        open_source("torchvision:MNIST")
    assert str(error.value) == (
        "--data torchvision:MNIST: the split train is missing in data, or damaged: Dataset not found; "
        "add --download to download it there, or name its folder: torchvision:MNIST@FOLDER"
    )
    assert not (tmp_path / "data").exists()


def test_a_present_data_set_is_not_downloaded_again(tmp_path: Path) -> None:
    write_fashion(tmp_path / "data")
    assert len(open_source("torchvision:FashionMNIST", download=True).records) == 4  # tests have no network


def test_a_failed_download_is_an_error_without_output_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"--data torchvision:SVHN: cannot be downloaded to data: .*tests have no network"):
        open_source("torchvision:SVHN", download=True)
    assert capsys.readouterr().out == ""


def test_an_unknown_data_set_is_refused_with_the_nearest_name() -> None:
    for name, near in (
        ("CIFAR", "did you mean 'CIFAR10'"),
        ("", "Known: CIFAR10, CIFAR100, Country211"),
        ("CocoDetection", "no such data set"),
    ):
        with pytest.raises(DataError, match=near):
            TorchvisionSource(name, Path("data"))


@pytest.mark.parametrize("name", DATA_SETS)
def test_torchvision_has_the_data_set_and_its_splits(name: str) -> None:
    parameters = inspect.signature(getattr(torchvision.datasets, name)).parameters
    assert "root" in parameters
    assert "download" in parameters
    for arguments in DATA_SETS[name].values():
        assert set(arguments) <= set(parameters)
    if "split" in parameters:
        assert all("split" in arguments for arguments in DATA_SETS[name].values())
