from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import cnnkit
from cnnkit.errors import CnnkitError, ConfigError

SMALL: dict[str, Any] = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16}


def test_train_returns_the_best_model_and_its_run(image_folder):
    result = cnnkit.train(image_folder(images=12), epochs=3, **SMALL)
    best = min(result.epochs, key=lambda epoch: math.inf if epoch.val_loss is None else epoch.val_loss)
    assert result.model.header.training["epoch"] == best.epoch
    assert result.model.header.training["value"] == pytest.approx(best.val_loss)
    assert result.model.header.classes == ("ants", "bees", "wasps")
    assert result.run.path.name == "001-custom-cnn"
    assert result.best is best
    assert repr(result).startswith("TrainingResult('runs/001-custom-cnn', best of 3 epochs: ")
    assert len(repr(result)) < 200
    assert result._repr_html_().count("<tr>") == 4
    facts = result.to_dict()
    assert (facts["run"], facts["best_epoch"], len(facts["epochs"])) == ("runs/001-custom-cnn", best.epoch, 3)


def test_images_and_labels_train_like_a_folder():
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = np.clip(random.normal(60 + 60 * labels[:, None, None], 40, (90, 12, 12)), 0, 255).astype(np.uint8)
    result = cnnkit.train(images=images, labels=[f"level {label}" for label in labels], epochs=2, **SMALL)
    assert result.model.header.classes == ("level 0", "level 1", "level 2")
    assert sum(result.model.header.training["data"]["images"].values()) == 90
    evaluation = cnnkit.evaluate(result.model)
    assert (evaluation.report.split, evaluation.report.n) == ("test", result.run.read_record().data.images.test)
    again = cnnkit.evaluate(result.run, images=images, labels=[f"level {label}" for label in labels])
    assert again.report.to_dict(confusion=True) == evaluation.report.to_dict(confusion=True)
    with pytest.raises(CnnkitError, match=r"were given in memory, as arrays-\w{8}; give them again: cnnkit.evaluate\('runs"):
        cnnkit.evaluate(result.run)


@pytest.mark.parametrize("given", [{}, {"data": "digits", "images": [], "labels": []}, {"images": []}, {"labels": []}])
def test_train_takes_data_or_images_with_labels(given):
    with pytest.raises(ConfigError, match="needs either data or both images and labels"):
        cnnkit.train(**given)


def test_an_unknown_setting_is_refused(image_folder):
    with pytest.raises(ConfigError, match="'learning_rate' is not a setting of a training"):
        cnnkit.train(image_folder(), learning_rate=1.0)  # pyright: ignore[reportCallIssue]


def test_a_file_name_that_is_not_utf8_is_trained_and_evaluated(image_folder):
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


def test_every_cache_setting_trains_the_same_model(image_folder):
    data = image_folder(images=16)
    heads = [
        torch.load(cnnkit.train(data, epochs=2, cache=cache, **SMALL).run.last / "state.pt", weights_only=True)["model"]
        for cache in ("disk", "ram", "none")
    ]
    for name, weights in heads[0].items():
        assert torch.equal(weights, heads[1][name])
        assert torch.equal(weights, heads[2][name])


def test_epochs_are_shown_in_a_notebook_or_if_asked(image_folder, monkeypatch, capsys):
    data = image_folder(images=12)
    cnnkit.train(data, epochs=1, **SMALL)
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("COLUMNS")
    cnnkit.train(data, epochs=2, show=True, **SMALL)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["epoch", "lr", "train"]
    assert [line.split()[0] for line in lines[1:]] == ["1/2", "2/2"]
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    displayed: list[str] = []
    monkeypatch.setattr("rich.jupyter.display", lambda _, text: displayed.append(text))
    cnnkit.train(data, epochs=1, **SMALL)
    assert ["lr" in displayed[0], displayed[1].split()[0]] == [True, "1/1"]


def test_a_table_trains_like_a_folder(image_folder):
    class Frame(dict[str, list[str]]):
        columns = ("path", "label")

    files = sorted(image_folder(images=12).rglob("*.jpg"))
    result = cnnkit.train(Frame(path=[str(file) for file in files], label=[file.parent.name for file in files]), epochs=1, **SMALL)
    assert result.model.classes == ("ants", "bees", "wasps")
    assert result.model.predict(files[0]).label in result.model.classes
