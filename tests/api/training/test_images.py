from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnkit.api.training import images as images_module
from cnnkit.api.training.images import TrainingImages, load_images, open_training_source
from cnnkit.api.training.network import draw_up
from cnnkit.config.settings import DataConfig, TrainConfig
from cnnkit.data.store.stream import gather
from cnnkit.errors import CnnkitError, DataError
from cnnkit.model.preprocessing import Preprocessing

OWN = Preprocessing(image_size=24, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3), draft_side=360)


@pytest.fixture
def loaded(small_config: Callable[..., TrainConfig]) -> Callable[..., TrainingImages]:
    """Return a function that loads training images: ``loaded(data, image_size=16)``; `weights` is the preprocessing of weights."""

    def load(data: Path, *, weights: Preprocessing | None = None, **flags: Any) -> TrainingImages:
        more = {name: flags.pop(name) for name in ("dataset", "progress") if name in flags}
        config = small_config(data, **flags)
        blueprint = replace(draw_up(config.model), preprocessing=weights)
        return load_images(config, blueprint, source=open_training_source(config.data), **more)

    return load


def test_images_are_decoded_into_splits_at_the_size_of_the_network(image_folder, loaded):
    images = loaded(image_folder(images=12), image_size=16)
    assert images.classes == ("ants", "bees", "wasps")
    assert {split: images.count(split) for split in ("train", "val", "test")} == {"train": 24, "val": 6, "test": 6}
    assert (images.shape, images.canvases.shape) == ((3, 16, 16), (36, 3, 16, 16))
    assert (images.augmentation.flip, images.augmentation.rotate) == ("h", 10)
    assert images.notes == images.dataset.notes


def test_mean_and_std_are_computed_from_train_alone(image_folder, loaded):
    images = loaded(image_folder(images=12))
    rows, _ = images.dataset.arrays("train")
    levels = next(gather(images.canvases, [rows])).astype(np.float64) / 255
    assert images.preprocessing.mean == pytest.approx(levels.mean(axis=(0, 2, 3)))
    assert images.preprocessing.std == pytest.approx(levels.std(axis=(0, 2, 3)))


def test_mean_and_std_of_weights_are_kept(image_folder, loaded):
    images = loaded(image_folder(images=6), weights=OWN)
    assert images.preprocessing == OWN
    assert images.shape == (3, 24, 24)


def test_notes_name_the_image_size_and_an_omitted_flip(image_folder, loaded):
    images = loaded(image_folder(["left", "right"], images=8))
    *data_notes, size, flip = images.notes
    assert tuple(data_notes) == images.dataset.notes
    assert size == "images are 32 px (median of the shorter side): --image-size 32"
    assert flip == "no mirroring: mirrored images of class 'left' may no longer belong to it (--flip h mirrors anyway)"


def test_known_images_are_decoded_again_only_without_canvases(image_folder, loaded, monkeypatch):
    data = image_folder(images=6)
    known = loaded(data)
    decoded: list[object] = []
    decode = images_module.load_dataset
    monkeypatch.setattr(images_module, "load_dataset", lambda *given: decoded.append(given) or decode(*given))
    again = loaded(data, dataset=known.dataset)
    assert again.dataset is known.dataset
    assert again.preprocessing == known.preprocessing
    assert decoded == []
    without = known.dataset.stored_in(replace(known.dataset.store, canvases=None, folder=None))
    assert loaded(data, dataset=without).dataset.store.canvases is not None
    assert len(decoded) == 1


def test_progress_follows_the_scan(image_folder, loaded):
    calls: list[tuple[int, int]] = []
    loaded(image_folder(images=4), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12)


def test_a_class_name_that_is_no_text_is_refused_before_training(image_folder, loaded):
    data = image_folder(images=12)
    try:
        (data / "ants").rename(data / b"caf\xe9".decode("utf-8", "surrogateescape"))
    except OSError:
        pytest.skip("this file system knows names in UTF-8 only")
    with pytest.raises(
        CnnkitError, match=r"the class b'caf\\xe9' has a name that is not UTF-8; in Windows-1252 it is 'café'; rename its folder, or"
    ):
        loaded(data)


def test_data_without_val_images_are_refused(image_folder, loaded, monkeypatch):
    data = image_folder(images=6)
    whole = images_module.load_dataset

    def without_val(*given: Any) -> Any:
        dataset = whole(*given)
        kept = [row for row, sample in enumerate(dataset.samples) if sample.split != "val"]
        return replace(dataset, samples=dataset.samples.take(np.array(kept)))

    monkeypatch.setattr(images_module, "load_dataset", without_val)
    with pytest.raises(
        DataError, match=rf"^{data}: there are no images to validate with; give train and val a share: --split 0.7/0.15/0.15$"
    ):
        loaded(data)


def test_a_table_is_opened_with_its_groups(image_folder):
    data = image_folder(["ants", "bees"], images=1)
    Path("images.csv").write_text(
        f"path,label,patient\n{data}/ants/ants-000.jpg,ants,p1\n{data}/bees/bees-000.jpg,bees,p2\n",
    )
    source = open_training_source(DataConfig(data="images.csv", group_by="patient"))
    assert [record.group for record in source.records] == ["p1", "p2"]
    with pytest.raises(DataError, match="--data is missing: name a folder of class folders"):
        open_training_source(DataConfig())
