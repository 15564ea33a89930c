"""Losses and optimizers of other packages: in the loop, in the records, resumed exactly, refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from cnnkit.api.extensions.training import load_training_extensions
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import resume
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.engine.custom import Custom
from cnnkit.errors import ConfigError, PluginError
from cnnkit.model.file import read_header
from cnnkit.registry import LOSSES, OPTIMIZERS

Install = Callable[..., None]
LOSS = """
import torch
from cnnkit import Loss
def build(num_classes, *, power: float = 1.0):
    {body}
mine = Loss(build=build, summary="a loss")
"""
TERMS = "return lambda logits, targets: -(targets * logits.log_softmax(1)) * power"
OPTIMIZER = """
import torch
from cnnkit import Optimizer
def build(groups, lr, *, momentum: float = 0.5):
    {body}
mine = Optimizer(build=build, summary="an optimizer")
"""
SGD = "return torch.optim.SGD(groups, lr=lr, momentum=momentum)"
STEP = "kind = type('Kind', (torch.optim.SGD,), {{'step': lambda self, closure=None: {}}}); return kind(groups, lr=lr)"
FAST: dict[str, Any] = {"set": ["width=4", "blocks=1"], "epochs": 2, "batch_size": 16, "precision": "fp32", "device": "cpu"}


def install_loss(install_package: Install, body: str = TERMS) -> None:
    install_package("acme-loss", "mine", "acme_loss:mine", LOSS.format(body=body), group=LOSSES)


def install_optimizer(install_package: Install, body: str = SGD) -> None:
    install_package("acme-optim", "mine", "acme_optim:mine", OPTIMIZER.format(body=body), group=OPTIMIZERS)


def custom(**settings: Any) -> Custom:
    return load_training_extensions(resolve(by_section(settings))).custom(3, torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"optimizer": "adma"}, PluginError, "no optimizer named 'adma' is installed; did you mean 'adam'.* Known: adam, adamw, sgd, muon"),
        ({"loss": "cros-entropy"}, PluginError, "no loss named 'cros-entropy' is installed; did you mean 'cross-entropy'"),
        (
            {"optimizer": "adamw:eps=1"},
            ConfigError,
            "--optimizer adamw:eps=1: adamw has no options of its own; leave out the part",
        ),
        ({"loss": ""}, ConfigError, "--loss '': expected NAME, or NAME:option=value,option=value"),
    ],
)
def test_a_name_that_is_not_installed_is_refused_with_the_nearest(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        custom(**settings)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 5", "its build returns a int; it must return a function of logits and targets"),
        ("return torch.nn.Linear(3, 3)", "its build returns a module with parameters, which no optimizer would train; use buffers"),
        ("return lambda logits, targets: 5.0", r"it returns a float; expected floats of shape \(4,\) or \(4, 3\)"),
        ("return lambda logits, targets: logits.sum()", r"it returns float32 of shape \(\); expected floats of shape \(4,\) or \(4, 3\)"),
        ("return lambda logits, targets: targets", "the loss for one class per image has no gradient for the logits"),
        ("return lambda logits, targets: logits.log()", "the loss for one class per image or its gradient is not finite"),
        ("return lambda logits: logits", r"fails with power=1\.0: TypeError"),
        ("return 1 / 0", r"fails with power=1\.0: ZeroDivisionError"),
    ],
)
def test_a_broken_loss_is_refused_before_training(install_package: Install, body: str, message: str) -> None:
    install_loss(install_package, body)
    with pytest.raises(PluginError, match=rf"^loss 'mine' of acme-loss 1\.0 (with power=1\.0: )?{message}"):
        custom(loss="mine")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 5", "its build returns a int, not a torch.optim.Optimizer"),
        ("return torch.optim.SGD(groups[:1], lr=lr)", "it does not keep the parameters and the weight_decay of the groups"),
        ("return torch.optim.SGD([p for g in groups for p in g['params']], lr=lr)", "it does not keep the parameters and the weight_decay"),
        (STEP.format("None"), "a step leaves the weights as they are, or makes them infinite"),
        (STEP.format("1 / 0"), r"fails with momentum=0\.5: ZeroDivisionError"),
        ("return torch.optim.LBFGS([p for g in groups for p in g['params']], lr=lr)", "it does not keep the parameters"),
    ],
)
def test_a_broken_optimizer_is_refused_before_training(install_package: Install, body: str, message: str) -> None:
    install_optimizer(install_package, body)
    with pytest.raises(PluginError, match=rf"^optimizer 'mine' of acme-optim 1\.0 (with momentum=0\.5: )?{message}"):
        custom(optimizer="mine")


def test_a_loss_without_memory_keeps_its_error(install_package: Install) -> None:
    install_loss(install_package, "def full(logits, targets):\n        raise MemoryError('full')\n    return full")
    with pytest.raises(MemoryError):
        custom(loss="mine")


def test_a_training_records_loss_and_optimizer_and_resumes_exactly(image_folder, install_package: Install) -> None:
    install_loss(install_package)
    install_optimizer(install_package)
    chosen = {"data": str(image_folder(images=12)), "loss": "mine:power=2", "optimizer": "mine", "layer_decay": 0.5, "mixup": 0.2}
    settings = resolve(by_section({**FAST, **chosen, "balance": "weights", "label_smoothing": 0.1}))
    whole, parted = prepare(settings), prepare(settings)
    epochs = list(whole.epochs())
    assert whole.run is not None
    list(islice(parted.epochs(), 1))
    assert parted.run is not None
    continued = list(resume(parted.run.path).epochs())
    assert [each.train_loss for each in continued] == [epochs[1].train_loss]
    assert all(map(torch.equal, whole.model.state_dict().values(), resume_weights(parted.run)))
    expected = [
        {"kind": "loss", "name": "mine", "package": "acme-loss", "version": "1.0", "options": {"power": 2.0}},
        {"kind": "optimizer", "name": "mine", "package": "acme-optim", "version": "1.0", "options": {"momentum": 0.5}},
    ]
    record = json.loads((whole.run.path / "config.json").read_text())
    header = read_header(whole.run.best)
    assert record["extensions"] == header.training["extensions"] == expected
    assert (record["config"]["optim"]["loss"], record["config"]["optim"]["optimizer"]) == ("mine:power=2", "mine")
    assert record["versions"]["acme-loss"] == header.versions["acme-optim"] == "1.0"
    assert {group["lr_scale"] for group in whole.state.optimizer.param_groups} >= {1.0, 0.5}


def resume_weights(run: Any) -> list[torch.Tensor]:
    return list(torch.load(run.last / "state.pt", weights_only=True)["model"].values())


def test_another_version_of_the_package_is_refused_on_resume(image_folder, install_package: Install, site) -> None:
    install_loss(install_package)
    job = prepare(resolve(by_section({**FAST, "data": str(image_folder(images=12)), "loss": "mine"})))
    list(islice(job.epochs(), 1))
    assert job.run is not None
    (site / "acme_loss-1.0.dist-info").rename(site / "acme_loss-1.3.dist-info")
    metadata = site / "acme_loss-1.3.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.3"))
    with pytest.raises(ConfigError, match=r"the versions have changed since the run began: acme-loss 1\.0, now 1\.3"):
        resume(job.run.path)
