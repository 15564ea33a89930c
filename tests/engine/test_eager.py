"""Optimizers without torch's compiler: the steps equal torch's, and the compiler is not imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnkit.engine.eager import eager


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_the_steps_equal_those_of_torch(name: str) -> None:
    plain = getattr(torch.optim, name)
    ends = []
    for kind in (plain, eager(plain)):
        weight = nn.Parameter(torch.arange(6.0).view(2, 3))
        optimizer = kind([weight], lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
        again = kind([nn.Parameter(weight.detach().clone())], lr=0.5)
        again.load_state_dict(optimizer.state_dict())
        assert again.param_groups[0]["lr"] == 0.1
        ends.append(weight.detach())
    assert isinstance(optimizer, plain)
    torch.testing.assert_close(*ends, atol=0, rtol=0)


def test_hooks_are_called() -> None:
    calls: list[str] = []
    weight = nn.Parameter(torch.ones(2))
    optimizer = eager(torch.optim.SGD)([weight], lr=0.1)
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    weight.grad = torch.ones(2)
    optimizer.step()
    assert calls == ["after"]


# One process runs all, because its start takes longer than the trainings; an import counts against the later ones too.
TRAIN = """
import json, sys
from cnnkit.cli.app import main
told = []
for flags in json.loads(sys.argv[1]):
    told.append([main(["train", *flags]), sorted({"torch._dynamo", "torch._inductor"} & set(sys.modules))])
json.dump(told, open(sys.argv[2], "w"))
"""
OPTIMIZERS = [[], ["--optimizer", "muon", "--layer-decay", "0.8"], ["--optimizer", "sgd", "--ema", "0.99"]]


@pytest.fixture
def trainings(image_folder: Callable[..., Path], made_once: Callable[..., Path]) -> list[tuple[int, list[str]]]:
    """The exit code of a training with each of `OPTIMIZERS`, and the parts of the compiler that have been imported then."""

    def train(folder: Path) -> None:
        small = ["--data", str(image_folder(images=12)), "--epochs", "1", "--set", "width=4", "--set", "blocks=2", "--image-size", "16"]
        flags = [[*small, *more] for more in OPTIMIZERS]
        command = [sys.executable, "-c", TRAIN, json.dumps(flags), str(folder / "told.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return json.loads((made_once("trainings", train) / "told.json").read_text())


@pytest.mark.parametrize("number", range(len(OPTIMIZERS)), ids=["adamw", "muon", "sgd"])
def test_a_training_does_not_import_the_compiler(trainings: list[tuple[int, list[str]]], number: int) -> None:
    assert trainings[number] == [0, []]
