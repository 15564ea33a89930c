"""The script ``infer.py`` beside an exported file: at most 30 lines of a runtime, numpy and Pillow, without cnnkit and torch.

A file that takes canvases needs the resize of `cnnkit.model.canvas`, which the script computes as two dense products of the same whole
numbers. So its pixels are those of cnnkit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cnnkit.exporters.protocol import CANVAS, FLOAT, IMAGES, LOGITS, ExportOptions
from cnnkit.model.canvas import LUMA_UNIT, LUMA_WEIGHTS, WEIGHT_UNIT
from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing


@dataclass(frozen=True)
class RuntimeLines:
    """The lines of the script that are about its runtime.

    `module` is the one to import. `opening` opens the file `FOLDER / MODEL["file"]`. `outputs` is the expression of the `{output}`
    for a `{batch}` of the `{input}`.
    """

    module: str
    opening: str
    outputs: str


ONNXRUNTIME_LINES = RuntimeLines(
    "onnxruntime",
    'session = onnxruntime.InferenceSession(str(FOLDER / MODEL["file"]), providers=["CPUExecutionProvider"])',
    'session.run(["{output}"], {{"{input}": {batch}}})[0]',
)

_HEAD = '''\
"""Classify images with the exported file beside this script. Without an image as an argument, check the golden images."""
import json, sys
from pathlib import Path
import numpy as np, {module}
from PIL import Image, ImageOps
FOLDER, GOLDEN = Path(__file__).parent, Path(__file__).parent / {golden}
MODEL = json.loads((FOLDER / {description}).read_text("utf-8"))
golden = {{GOLDEN / i["file"]: i["probabilities"] for i in json.loads((GOLDEN / "golden.json").read_text("utf-8"))["images"]}}
{opening}
'''
_WEIGHTS = """\
def weights(pixels, scale):  # of one line, whole numbers: a filter that is stretched when shrinking
    offsets = (np.arange({size}, dtype="f4") + np.float32({start})) * np.float32(scale)
    away = abs(np.arange(pixels, dtype="f4") + np.float32(0.5) - (np.float32(pixels / 2) + offsets)[:, None]) / max(np.float32(scale), 1)
"""
_FILTERS = {
    "bilinear": "    whole = np.round((1 - away).clip(min=0) * {unit})\n",
    "bicubic": (
        "    near, far = (1.5 * away - 2.5) * away * away + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2\n"
        "    whole = np.round(np.where(away < 1, near, np.where(away < 2, far, 0)) * {unit})\n"
    ),
}
_NORMED = "np.round(whole / whole.sum(1, keepdims=True).clip(min=1) * {unit})"
_INSIDE = """\
    inside = abs(offsets) <= max(np.float32(pixels), scale) / 2
    return inside[:, None] * {normed}, inside
"""
_READ = """\
for path in sys.argv[1:] or golden:
    image = Image.open(path)
"""
_DRAFT = '    image.draft("RGB", ({side}, {side}))  # a large JPEG at a fraction of its size, as in the training\n'
_PIXELS = '    image = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))\n'
_SCALES = {
    "crop": "np.float32(min(image.shape[:2])) * {crop} / {size}",
    "pad": "np.float32(max(image.shape[:2])) / {size}",
    "squash": "np.float32(n) / {size}",
}
_CANVAS = """\
    {rows}, {columns} = (weights(n, {scale}) for n in image.shape[:2])
    levels = np.floor(image.transpose(2, 0, 1).astype("f4") @ columns.T / {unit} + 0.5).clip(0, 255)
    levels = np.floor(rows @ levels / {unit} + 0.5).clip(0, 255)
"""
_LUMA = "    levels = np.floor((levels * np.array({luma}, 'f4')[:, None, None]).sum(0, keepdims=True) / {unit} + 0.5)\n"
_NORMALISE = "    levels = (levels - np.array({mean}, 'f4')[:, None, None]) / np.array({std}, 'f4')[:, None, None]\n"
_TAIL = """\
    found = {outputs}[0]
{softmax}    print(path, MODEL["classes"][found.argmax()], *(f"{{p:.6f}}" for p in found))
    assert path not in golden or abs(found - golden[path]).max() < {tolerance}, f"golden.json has {{golden[path]}}"
"""
_SOFTMAX = '    found = np.exp(found / MODEL["temperature"] - np.logaddexp.reduce(found / MODEL["temperature"]))\n'
_BATCHES = {IMAGES: "image[None]", CANVAS: 'levels.transpose(1, 2, 0).astype("u1")[None]', FLOAT: 'levels.astype("f4")[None]'}


def infer_script(
    spec: Preprocessing,
    options: ExportOptions,
    *,
    description: str,
    golden: str,
    tolerance: float,
    runtime: RuntimeLines = ONNXRUNTIME_LINES,
) -> str:
    """Return the text of the script for the file of the document `description` and of the folder `golden`, beside the script.

    A probability of a golden image may differ by `tolerance`. `runtime` runs the file.
    """
    names = {"description": _literal(description), "golden": _literal(golden)}
    lines = _HEAD.format(**names, module=runtime.module, opening=runtime.opening)
    if options.input != IMAGES:
        lines += _weights_lines(spec)
    lines += _READ + (_DRAFT.format(side=spec.draft_side) if spec.draft_side else "") + _PIXELS
    if options.input != IMAGES:
        lines += _canvas_lines(spec)
    if options.input == FLOAT:
        lines += _NORMALISE.format(mean=[255 * value for value in spec.mean], std=[255 * value for value in spec.std])
    softmax = _SOFTMAX if options.output == LOGITS else ""
    outputs = runtime.outputs.format(input=options.input, output=options.output, batch=_BATCHES[options.input])
    return lines + _TAIL.format(outputs=outputs, softmax=softmax, tolerance=tolerance)


def _literal(name: str) -> str:
    """Return a name as a string of Python in double quotes."""
    return json.dumps(name, ensure_ascii=False)


def _weights_lines(spec: Preprocessing) -> str:
    """Return the function of the filter weights; only a padded image has outputs that are not inside."""
    unit = int(WEIGHT_UNIT)
    normed = _NORMED.format(unit=unit)
    last = _INSIDE.format(normed=normed) if spec.resize_mode == "pad" else f"    return {normed}\n"
    return _WEIGHTS.format(size=spec.image_size, start=0.5 - spec.image_size / 2) + _FILTERS[spec.interpolation].format(unit=unit) + last


def _canvas_lines(spec: Preprocessing) -> str:
    """Return the lines that turn `image` (H, W, 3) into `levels` (C, S, S), whole numbers."""
    padded = spec.resize_mode == "pad"
    rows, columns = ("(rows, in_rows)", "(columns, in_columns)") if padded else ("rows", "columns")
    scale = _SCALES[spec.resize_mode].format(crop=spec.crop, size=spec.image_size)
    lines = _CANVAS.format(rows=rows, columns=columns, scale=scale, unit=int(WEIGHT_UNIT))
    if spec.channels == 1:
        lines += _LUMA.format(luma=[int(weight) for weight in LUMA_WEIGHTS], unit=int(LUMA_UNIT))
    if padded:
        lines += f"    levels[:, ~(in_rows[:, None] & in_columns)] = {PAD_LEVEL:g}\n"
    return lines
