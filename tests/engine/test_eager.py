"""Optimizers without torch's compiler: the steps equal torch's, and the compiler is not imported."""

from __future__ import annotations

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


@pytest.mark.parametrize("flags", [[], ["--optimizer", "muon", "--layer-decay", "0.8"], ["--optimizer", "sgd", "--ema", "0.99"]])
def test_a_training_does_not_import_the_compiler(image_folder: Callable[..., Path], flags: list[str]) -> None:
    flags = [
        "train",
        "--data",
        str(image_folder(images=12)),
        "--epochs",
        "1",
        "--set",
        "width=4",
        "--set",
        "blocks=2",
        "--image-size",
        "16",
        *flags,
    ]
    program = (
        f"import sys; from cnnkit.cli.app import main; code = main({flags!r});"
        "print(code, {'torch._dynamo', 'torch._inductor'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr
