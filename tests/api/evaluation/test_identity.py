from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.api.evaluation.identity import HASH_LENGTH, Images, evaluation_folder
from cnnkit.run_dir import RunDir

RUN = RunDir(Path("runs/001-a"))
TEST = Images("test")
OTHER = Images("all", data="photos", sha256="ab")


def name(images: Images, file: Path = RUN.best, *, tta: bool = False) -> str:
    folder = evaluation_folder(RUN, file, images, tta=tta)
    assert folder.parent == RUN.path / "eval"
    return folder.name


def test_the_plain_names_are_short():
    assert name(TEST) == "test"
    assert name(TEST, tta=True) == "test-tta"
    assert name(Images("val"), RUN.export / "model.onnx") == "val-model.onnx"


@pytest.mark.parametrize(
    ("images", "start"),
    [
        (Images("test", ("cats",)), "test-cats-"),
        (Images("test", ("dogs", "cats")), "test-cats+dogs-"),
        (Images("test", tuple(f"a long class name {number}" for number in range(3))), "test-3-classes-"),
        (Images("test", ("a/b: c",)), "test-a_b_c-"),
        (OTHER, "photos-all-"),
        (Images("test", data="hf:user/name", sha256="ab"), "hf_user_name-test-"),
        (Images("all", ("cats",), "photos", "ab"), "photos-all-cats-"),
    ],
)
def test_parts_of_a_split_and_other_data_have_readable_names_with_a_hash(images, start):
    assert name(images).startswith(start)
    assert len(name(images)) == len(start) + HASH_LENGTH


def test_a_name_does_not_depend_on_the_order_of_the_classes():
    assert name(Images("test", ("dogs", "cats"))) == name(Images("test", ("cats", "dogs")))


def test_every_identity_has_a_folder_of_its_own():
    identities = [
        *((images, file, tta) for images in (TEST, OTHER) for file in (RUN.best, RUN.export / "model.onnx") for tta in (False, True)),
        (TEST, RUN.path / "model.onnx", False),
        (TEST, RUN.path / "other/model.onnx", False),
        (Images("test", ("tta",)), RUN.best, False),
        (Images("test", ("model.onnx",)), RUN.best, False),
        (Images("test", ("a", "b")), RUN.best, False),
        (Images("test", ("a+b",)), RUN.best, False),
        (Images("all", data="photos", sha256="cd"), RUN.best, False),
        (Images("all", data="elsewhere/photos", sha256="ab"), RUN.best, False),
        (Images("test", data="photos", sha256="ab"), RUN.best, False),
    ]
    names = [name(images, file, tta=tta) for images, file, tta in identities]
    assert len({each.lower() for each in names}) == len(identities)


def test_one_folder_under_several_paths_is_one_identity(tmp_path):
    (tmp_path / "photos").mkdir()
    same = {Images("all", data=data, sha256="ab").label() for data in ("photos", "./photos", str(tmp_path / "photos"))}
    assert len(same) == 1
    assert Images("all", data=".", sha256="ab").label().startswith(f"{tmp_path.name}-all-")
