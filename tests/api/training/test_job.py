from __future__ import annotations

import json
import shutil
from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cnnkit
import cnnkit.api
from cnnkit.api.training.prepare import prepare
from cnnkit.architecture import Architecture
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.data.batches import Batches
from cnnkit.data.store.stream import gather
from cnnkit.errors import CnnkitError, ConfigError, TrainingStoppedError
from cnnkit.registry import Entry

SMALL: dict[str, Any] = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16}


def job(data, **settings):
    return prepare(resolve(by_section({"data": str(data), **SMALL, **settings})), dry_run=True)


def test_the_average_of_the_weights_is_the_model_that_is_kept(image_folder):
    made = prepare(resolve(by_section({"data": str(image_folder(images=12)), **SMALL, "ema": 0.8, "epochs": 2, "lr": 1e-4})))
    last = list(made.epochs())[-1]
    assert last.is_best
    assert made.run is not None
    assert made.state.average is not None
    kept = cnnkit.load_model(made.run.best).module.state_dict()
    averaged, raw = made.state.average.module.state_dict(), made.model.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in kept.items())
    assert not any(torch.equal(value, raw[name]) for name, value in kept.items())
    assert made.run.read_record().config.optim.ema == 0.8


def test_the_model_file_alone_says_how_it_came_to_be(trained):
    header = cnnkit.load_model(trained.run / "best.safetensors").header
    assert header.arch == "custom-cnn"
    assert header.options["width"] == 8
    assert header.versions["cnnkit"] == metadata.version("cnnkit")
    assert header.training["data"]["images"] == {"train": 37, "val": 12, "test": 11}
    assert (header.training["augmentation"]["flip"], header.training["augmentation"]["shift"]) == ("h", 0.1)
    assert "runs" not in json.dumps(header.training)  # no path of the machine it was made on


def test_mean_and_std_are_those_of_the_training_images_alone(image_folder):
    made = job(image_folder(images=12))
    rows, _ = made.dataset.arrays("train")
    levels = next(gather(made.batches.canvases, [rows])).astype(np.float64) / 255
    assert made.header.preprocessing.mean == pytest.approx(levels.mean(axis=(0, 2, 3)))
    assert made.header.preprocessing.std == pytest.approx(levels.std(axis=(0, 2, 3)))


@pytest.mark.parametrize(("pixels", "size"), [((40, 32), 32), ((70, 90), 72), ((300, 400), 128)])
def test_the_image_size_is_that_of_the_images_up_to_the_architectures(image_folder, pixels, size):
    assert job(image_folder(images=4, size=pixels)).header.preprocessing.image_size == size


def test_gray_images_train_a_network_of_one_channel(image_folder):
    made = job(image_folder(images=6), channels=1)
    assert made.batches.canvases.shape[1] == 1
    (images, _) = next(iter(made.batches.epoch(1)))
    assert made.model(images).shape == (len(images), 3)


def test_the_sampler_and_the_weights_balance(image_folder):
    data = image_folder(classes={"ants": 24, "bees": 8})
    equal = job(data, balance="sampler").batches
    labels = torch.cat([labels for _, labels in equal.epoch(1)])
    assert torch.bincount(labels).tolist() == [16, 16]
    weighed = job(data, balance="weights").weights
    assert weighed is not None
    assert weighed[1] > weighed[0]


def test_an_architecture_that_cannot_be_built_is_a_message(image_folder):
    with pytest.raises(CnnkitError, match="--set blocks=0: must be at least 1"):
        job(image_folder(images=4), set=("blocks=0",))


def test_what_a_strangers_build_raises_is_a_message_that_names_its_package(image_folder, monkeypatch):
    def broken(num_classes: int, in_channels: int, *, width: int = 3) -> torch.nn.Module:
        raise RuntimeError("no such width")

    entry = Entry("cnnkit.architectures", "strange", "strange:strange", "cnnkit-strange", "0.3")
    monkeypatch.setattr("cnnkit.api.training.network.load_architecture", lambda _: (Architecture(broken, "", 32), entry))
    with pytest.raises(ConfigError) as refused:
        prepare(resolve(by_section({"data": str(image_folder(images=4)), "arch": "strange"})), dry_run=True)
    assert "architecture 'strange' of cnnkit-strange 0.3 cannot be built for 3 classes and 3 channels with width=3" in str(refused.value)
    assert "RuntimeError: no such width" in str(refused.value)


def test_weights_bring_their_preprocessing_and_a_new_head(trained, image_folder):
    file = trained.run / "best.safetensors"
    before = cnnkit.load_model(file)
    other = image_folder(classes=["hornets", "ladybirds"], images=8, size=(60, 50), folder="other")
    made = job(other, weights=str(file), freeze_epochs=0)
    assert made.header.preprocessing == before.header.preprocessing
    assert made.config.recipe == "finetune"
    said = "\n".join(made.notes)
    assert f"weights {file}: loaded" in said
    assert "2 left as built, other shape" in said
    assert "the new last layer starts as a mixture" in said
    old, new = before.module.state_dict(), made.model.state_dict()
    same = [name for name in old if old[name].shape == new[name].shape]
    assert len(same) == len(old) - 2
    assert all(torch.equal(old[name], new[name]) for name in same)


def test_a_head_for_other_classes_is_not_taken_for_its_shape(trained, image_folder):
    file = str(trained.run / "best.safetensors")
    same = job(image_folder(images=8, folder="same"), weights=file)
    other = job(image_folder(classes=["cats", "dogs", "eels"], images=8, folder="other"), weights=file)
    old = cnnkit.load_model(file).module.state_dict()
    head = next(name for name in old if old[name].shape == (3, 32))
    assert torch.equal(same.model.state_dict()[head], old[head])
    assert not torch.equal(other.model.state_dict()[head], old[head])
    assert "left as built" not in "\n".join(same.notes)
    assert "2 left as built, other shape or classes" in "\n".join(other.notes)
    assert "the new last layer starts as a mixture" in "\n".join(other.notes)


def test_frozen_epochs_train_the_head_alone(trained, image_folder):
    other = image_folder(classes=["hornets", "ladybirds"], images=8, folder="other")
    result = cnnkit.train(other, weights=str(trained.run / "best.safetensors"), epochs=1, freeze_epochs=1, **SMALL)
    old, new = cnnkit.load_model(trained.run / "best.safetensors").module.state_dict(), result.model.module.state_dict()
    assert {name for name in new if new[name].shape != old[name].shape or not torch.equal(new[name], old[name])} == {
        name for name in new if new[name].shape != old[name].shape
    }


def test_a_start_size_is_of_a_side_that_the_network_takes_and_below_the_image_size(image_folder, monkeypatch):
    data = image_folder(images=4, size=(32, 32))
    fast: dict[str, Any] = {"arch": "fast-cnn", "set": ("width=8",)}
    made = prepare(resolve(by_section({"data": str(data), **SMALL, **fast, "start_size": 24})), dry_run=True)
    assert made.optim.start_size == 24
    assert made.model.training
    with pytest.raises(ConfigError, match=r"--start-size \(=32\) must be below --image-size \(=32\).*--start-size 0 shows all"):
        job(data, **fast, start_size=32)

    def rigid(num_classes: int, in_channels: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(in_channels * 32 * 32, num_classes))

    entry = Entry("cnnkit.architectures", "rigid", "rigid:rigid", "cnnkit-rigid", "0.3")
    monkeypatch.setattr("cnnkit.api.training.network.load_architecture", lambda _: (Architecture(rigid, "", 32), entry))
    with pytest.raises(ConfigError, match=r"--start-size \(=16\): rigid takes images of 32 px, and none of 16 px \(mat1 .*--start-size 0"):
        job(data, arch="rigid", set=(), start_size=16)


def test_weights_of_another_architecture_are_refused(image_folder, tmp_path):
    save_file({"strange.weight": torch.ones(3)}, tmp_path / "strange.safetensors")
    with pytest.raises(ConfigError, match="Was it made for another architecture"):
        job(image_folder(images=4), weights=str(tmp_path / "strange.safetensors"))


def test_sixteen_fixed_images_are_learned_by_heart(image_folder):
    data = image_folder(images=12)
    made = job(data, augment="none", weight_decay=0.0, lr=3e-3, epochs=30, patience=0, set=("width=8", "blocks=2", "dense=64", "dropout=0"))
    few: Batches = made.batches
    rows, labels = few.rows[:16], few.labels[:16]
    made.batches = Batches(few.canvases, rows, labels, 16, few.preprocess, few.device)
    made.val_batches = made.batches
    epochs = list(made.epochs())
    assert epochs[-1].train_accuracy == 1.0
    assert epochs[-1].train_loss < 0.1 < epochs[0].train_loss


def test_a_file_name_that_is_no_text_survives(image_folder):
    data = image_folder(images=12)
    odd = data / "ants" / b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    try:
        (data / "ants" / "ants-000.jpg").rename(odd)
    except OSError:
        pytest.skip("this file system knows names in UTF-8 only")
    result = cnnkit.train(data, epochs=1, **SMALL)
    evaluation = cnnkit.evaluate(result.run.path, split="train")
    assert any("\udce9" in row["path"] for row in result.run.read_split())
    assert evaluation.report.n == sum(row["split"] == "train" for row in result.run.read_split())


def test_streaming_memory_and_disk_train_the_same_model(image_folder):
    data = image_folder(images=16)
    heads = [
        torch.load(cnnkit.train(data, epochs=2, cache=cache, **SMALL).run.last / "state.pt", weights_only=True)["model"]
        for cache in ("disk", "ram", "none")
    ]
    for name, weights in heads[0].items():
        assert torch.equal(weights, heads[1][name])
        assert torch.equal(weights, heads[2][name])


def test_an_image_that_changes_during_a_streamed_training_stops_it_with_a_way_on(image_folder):
    data = image_folder(images=16)
    interrupted = prepare(resolve(by_section({"data": str(data), "epochs": 3, "cache": "none", **SMALL})))
    run = interrupted.begin()
    epochs = interrupted.epochs()
    next(epochs)
    victim = data / interrupted.dataset.of("train")[0].path
    content = victim.read_bytes()
    victim.write_bytes(content + b"\0")
    with pytest.raises(
        TrainingStoppedError, match=rf"{victim.name} has changed since it was scanned.*\n.*cnnkit resume {run.path}"
    ) as caught:
        list(epochs)
    assert caught.value.exit_code == 3
    assert len(run.read_history()) == 1
    assert run.read_record().status == "stopped"
    victim.write_bytes(content)
    assert len(list(cnnkit.api.resume(run.path).epochs())) == 2


def test_a_split_file_survives_a_resume_from_another_folder(image_folder, tmp_path, monkeypatch):
    data = image_folder(images=16)
    first = cnnkit.train(data, epochs=1, **SMALL)
    shutil.copy(first.run.split_file, tmp_path / "mine.csv")
    stopped = prepare(resolve(by_section({"data": str(data), "epochs": 2, "seed": 5, "split_file": "mine.csv", **SMALL})))
    run = stopped.begin()
    next(stopped.epochs())
    assert run.read_split() == first.run.read_split()
    stopped.record("stopped")
    (tmp_path / "mine.csv").unlink()
    (tmp_path / "elsewhere").mkdir()
    run_path = run.path.resolve()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(list(cnnkit.api.resume(run_path).epochs())) == 1


def test_a_class_name_that_is_no_text_is_refused_before_training(image_folder):
    data = image_folder(images=12)
    try:
        (data / "ants").rename(data / b"caf\xe9".decode("utf-8", "surrogateescape"))
    except OSError:
        pytest.skip("this file system knows names in UTF-8 only")
    with pytest.raises(CnnkitError, match=r"class b'caf\\xe9': its name has bytes that are no text; rename the folder"):
        job(data)
