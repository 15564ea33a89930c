from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.evaluation.measured_images import images_of
from cnnkit.api.evaluation.ood import evaluate_ood, ood_files, without_own_images
from cnnkit.api.inference.target import find_target
from cnnkit.errors import DataError
from cnnkit.metrics.abstention import Abstention

OWN = np.linspace(0.8, 1.0, 21)  # top probabilities of the evaluated images; 95 % are at least 0.81
RULE = Abstention(0.99, 0.02, 0.01, 0.95, 0.5, 500, 1, 1000, "val")


def test_images_in_and_below_a_folder_are_found(gray_images, tmp_path):
    files = [*gray_images(3, folder="odd"), *gray_images(4, folder="odd/deep/er")]
    assert sorted(ood_files(tmp_path / "odd")) == sorted(files)
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        ood_files(tmp_path / "void")
    with pytest.raises(DataError, match="--ood gone: no such folder; name a folder of images that belong to none of the model's classes"):
        ood_files("gone")


def test_without_a_rule_the_threshold_accepts_95_percent_of_the_evaluated_images(brightness, gray_images):
    calls: list[tuple[int, int]] = []
    files = gray_images(255, 128, 230, 5)  # top probabilities of 1, 0.5, 0.9 and 0.98
    found = evaluate_ood(brightness(), files, OWN, None, lambda done, total: calls.append((done, total)))
    assert (found.report.n, found.report.stored, found.report.threshold) == (4, False, pytest.approx(0.81))
    assert [prediction.abstained for prediction in found.predictions] == [False, True, False, False]
    assert found.report.accepted.value == 0.75
    assert found.report.kept.value == pytest.approx(20 / 21)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_rule_of_the_model_gives_the_threshold(brightness, gray_images):
    found = evaluate_ood(brightness(), gray_images(255, 128, 230, 5), OWN, RULE)
    assert (found.report.threshold, found.report.stored) == (0.99, True)
    assert [prediction.abstained for prediction in found.predictions] == [False, True, True, True]


def test_unreadable_images_are_named_and_not_counted(brightness, gray_images, read_rows):
    files = gray_images(255, 128)
    files.append(Path("broken.png"))
    files[2].write_bytes(b"no image")
    found = evaluate_ood(brightness(), files, OWN, None)
    (bad,) = found.to_dict()["unreadable"]
    assert (found.report.n, bad["path"]) == (2, "broken.png")
    assert found.to_dict()["accepted"]["value"] == 0.5
    found.write(Path("ood.csv"))
    rows = read_rows("ood.csv")
    assert list(rows[0]) == ["path", "predicted", "probability", "abstained", "error"]
    assert [(row["predicted"], row["abstained"], row["error"] != "") for row in rows] == [
        ("light", "false", False),
        ("light", "true", False),
        ("", "false", True),
    ]


def test_a_folder_without_a_readable_image_is_refused(brightness):
    Path("broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"--ood: none of 1 images can be read, such as broken\.png: not an image"):
        evaluate_ood(brightness(), [Path("broken.png")], OWN, None)


def test_images_of_the_run_are_not_out_of_distribution(trained, gray_images, read_rows):
    run, unknown = images_of(find_target(trained.run))
    rows = [next(row for row in read_rows(trained.run / "split.csv") if row["split"] == split) for split in ("train", "val", "test")]
    own = [trained.data / row["path"] for row in rows]
    files = [*own, *gray_images(10, 200)]
    found = without_own_images(files, run, unknown)
    assert found.files == tuple(files[3:])
    assert found.notes == ("--ood: 3 of 5 images are images of 001-custom-cnn; they are left out, and --include-trained counts them too",)
    assert found.lookup is not None
    assert found.lookup.to_dict()["exact"] == {"train": 1, "val": 1, "test": 1}
    included = without_own_images(files, run, unknown, include_trained=True)
    assert (included.files, included.notes[0].endswith("--include-trained counts them as out-of-distribution")) == (tuple(files), True)
    with pytest.raises(DataError, match="--ood: 3 of 3 images are images of 001-custom-cnn, so no image is left; name a folder of images"):
        without_own_images(own, run, unknown)


def test_without_a_run_out_of_distribution_images_cannot_be_checked(gray_images):
    files = gray_images(10)
    assert without_own_images(files, None, "it cannot be checked").notes == ("--ood: it cannot be checked",)
