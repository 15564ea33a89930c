"""Augmentations of other packages: in the batches and the preview, recorded, bit-equal on resume, refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice

import pytest
import torch

from cnnkit.api.extensions.augmentations import extra_augmentations, load_augmentations
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import resume
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import ConfigError, PluginError
from cnnkit.registry import AUGMENTATIONS

Install = Callable[..., None]
SOURCE = """
import torch
from cnnkit import Augmentation
def apply(images, draws, *, depth: float = 1.0):
    {body}
dark = Augmentation(apply=apply, summary="darker images", num_draws=1)
"""
DARKER = "return images * (1 - depth * draws[:, :, None, None])"
FAST = {"set": ["width=4", "blocks=1"], "epochs": 2, "batch_size": 16, "precision": "fp32", "device": "cpu"}


def install(install_package: Install, body: str = DARKER) -> None:
    install_package("acme-dark", "dark", "acme_dark:dark", SOURCE.format(body=body), group=AUGMENTATIONS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", r"it returns a NoneType; expected float32 of shape \(2, 3, 16, 16\)"),
        ("return images.mean(1)", r"it returns float32 of shape \(2, 16, 16\); expected float32 of shape \(2, 3, 16, 16\)"),
        ("return images.double()", "it returns float64 of shape"),
        ("return images * 2", "it returns levels from 0 to 5[01][0-9]; expected levels from 0 to 255, without NaN"),
        ("return images / 0", "it returns levels from nan to nan"),
        ("return 1 / 0", r"fails with depth=1\.0: ZeroDivisionError: division by zero; check its options, or choose another augmentation"),
    ],
)
def test_a_broken_augmentation_is_refused_before_training(install_package: Install, body: str, message: str) -> None:
    install(install_package, body)
    with pytest.raises(PluginError, match=rf"^augmentation 'dark' of acme-dark 1\.0 (with depth=1\.0: )?{message}"):
        extra_augmentations(load_augmentations(["dark"]), 3)


def test_a_name_that_is_given_twice_or_not_installed_is_refused(install_package: Install) -> None:
    install(install_package)
    with pytest.raises(ConfigError, match="--augment-with dark: dark is given twice, with the same random numbers; leave one out"):
        load_augmentations(["dark", "acme-dark:dark:depth=0.5"])
    with pytest.raises(PluginError, match="no augmentation named 'drak' is installed; did you mean 'dark'"):
        load_augmentations(["drak"])


def test_a_training_uses_records_and_resumes_the_augmentation(image_folder, install_package: Install) -> None:
    install(install_package)
    chosen = {**FAST, "data": str(image_folder(images=12)), "augment": "none", "augment_with": ["dark:depth=0.5"]}
    settings, plain = (resolve(by_section({**chosen, "augment_with": names})) for names in (["dark:depth=0.5"], []))
    whole, parted, without = prepare(settings), prepare(settings), prepare(plain)
    (images, labels), (others, same) = next(whole.batches.epoch(1)), next(without.batches.epoch(1))
    assert torch.equal(labels, same)
    assert not torch.equal(images, others)
    epochs = list(whole.epochs())
    list(islice(parted.epochs(), 1))
    assert whole.run is not None
    assert parted.run is not None
    continued = list(resume(parted.run.path).epochs())
    assert [each.train_loss for each in continued] == [epochs[1].train_loss]
    record = json.loads((whole.run.path / "config.json").read_text())
    assert record["config"]["augment"]["augment_with"] == ["dark:depth=0.5"]
    assert record["extensions"] == [
        {"kind": "augmentation", "name": "dark", "package": "acme-dark", "version": "1.0", "options": {"depth": 0.5}}
    ]


def test_preview_shows_the_augmentation(cli, image_folder, install_package: Install) -> None:
    install(install_package)
    folder = image_folder(images=4)
    shown = cli("preview", str(folder), "--augment", "none", "--augment-with", "dark:depth=0.5")
    assert shown.code == 0, shown.err
    assert "dark:depth=0.5" in shown.out
    document = cli("preview", str(folder), "--augment-with", "dark", "--json").json()
    assert document["augment_with"] == ["dark"]
