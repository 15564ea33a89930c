"""Tests of the plugin: it keeps the contract, and an installed cnnkit finds it."""

from __future__ import annotations

import pytest
from cnnkit_convmixer import convmixer
from torch import nn

from cnnkit.architecture import parse_options
from cnnkit.registry import load_architecture
from cnnkit.testing import check_architecture


def test_convmixer_keeps_the_contract() -> None:
    check_architecture(convmixer, "convmixer")


def test_cnnkit_finds_convmixer_by_name() -> None:
    architecture, entry = load_architecture("convmixer")
    assert architecture.summary == convmixer.summary
    assert isinstance(architecture.build(2, 3, depth=1, width=8), nn.Module)
    assert entry.package == "cnnkit-convmixer"


@pytest.mark.parametrize("depth", [1, 4])
def test_depth_is_the_number_of_blocks(depth: int) -> None:
    chosen = parse_options(convmixer, "convmixer", [f"depth={depth}", "width=8"])
    depthwise = [layer for layer in convmixer.build(2, 3, **chosen).modules() if isinstance(layer, nn.Conv2d) and layer.groups == 8]
    assert len(depthwise) == depth
