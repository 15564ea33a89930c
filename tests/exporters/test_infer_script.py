from __future__ import annotations

import itertools
import textwrap
from typing import Any

import numpy as np
import pytest

from cnnkit.exporters.infer_script import _canvas_lines, _weights_lines, infer_script
from cnnkit.exporters.protocol import INPUTS, OUTPUTS, ExportOptions
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocessing import Preprocessing

NAMES: dict[str, Any] = {"description": 'm"1.json', "golden": "golden", "tolerance": 3e-4}
SIZES = [(1, 1), (37, 501), (24, 24), (23, 25), (375, 500), (2, 300)]
SETTINGS = list(itertools.product(("crop", "pad", "squash"), ("bilinear", "bicubic"), (1, 3), (24, 33)))


def preprocessing(mode: str, interpolation: Any, channels: Any, size: int) -> Preprocessing:
    level = (0.5,) * channels
    kind: Any = mode
    return Preprocessing(
        image_size=size, channels=channels, resize_mode=kind, interpolation=interpolation, crop=0.9, mean=level, std=level, draft_side=360
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_script_makes_the_same_canvases(settings):
    spec = preprocessing(*settings)
    lines = textwrap.dedent(_canvas_lines(spec))
    images = [np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    for image, canvas in zip(images, make_canvases(images, spec), strict=True):
        space: dict[str, Any] = {"np": np, "image": image}
        exec(_weights_lines(spec) + lines, space)  # noqa: S102 (the text under test)
        np.testing.assert_array_equal(space["levels"], canvas)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_script_has_at_most_30_lines(settings):
    for kind, output in itertools.product(INPUTS, OUTPUTS):
        text = infer_script(preprocessing(*settings), ExportOptions(kind, output), **NAMES)
        compile(text, "infer.py", "exec")
        assert len(text.splitlines()) <= 30
        assert max(map(len, text.splitlines())) <= 140
