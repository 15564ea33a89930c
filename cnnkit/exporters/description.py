"""The description of an exported file, ``model.json``: facts for programs that cannot read the metadata of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from cnnkit.exporters.protocol import CANVAS, FLOAT, IMAGES, INPUTS, LOGITS, OUTPUTS, Exporter, ExportOptions, input_shape
from cnnkit.model.canvas import LUMA_UNIT, LUMA_WEIGHTS, WEIGHT_UNIT
from cnnkit.model.header import ModelHeader
from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing

FORMAT = 1  # of the document
CREDITS = ("faces", "copyrights")  # entries of `training` that a reader of the document must see, if the training recorded them


def describe(header: ModelHeader, options: ExportOptions, exporter: Exporter, *, file: str, sha256: str, size: int) -> dict[str, Any]:
    """Return the document for the `file` of `exporter` with its SHA-256 and its `size` in bytes."""
    first = exporter.batch or "N"
    classes, spec, abstention = len(header.classes), header.preprocessing, header.abstention
    return {
        "format": FORMAT,
        "exporter": exporter.name,
        "file": file,
        "sha256": sha256,
        "bytes": size,
        "input": {"name": options.input, "kind": options.input, **_input(spec, options, first), "meaning": INPUTS[options.input]},
        "outputs": [
            {"name": options.output, "dtype": "float32", "shape": [first, classes], "meaning": OUTPUTS[options.output]},
            {"name": "labels", "dtype": "int64", "shape": [first], "meaning": "index of the class of the highest probability"},
        ],
        "half": options.half,
        "int8": options.int8,
        "opset": options.opset or None,
        "classes": list(header.classes),
        "preprocessing": spec.model_dump(mode="json"),
        "steps": steps(spec, options, header.temperature),
        "temperature": header.temperature,
        "calibration": None if header.calibration is None else header.calibration.to_dict(),
        "threshold": None if abstention is None else abstention.threshold,
        "abstention": None if abstention is None else asdict(abstention),
        "label_sets": None if header.label_sets is None else asdict(header.label_sets),
        **{name: header.training[name] for name in CREDITS if name in header.training},
        "arch": header.arch,
        "options": header.options,
        "versions": {"cnnkit": version("cnnkit"), "training": dict(header.versions)},
    }


def steps(spec: Preprocessing, options: ExportOptions, temperature: float) -> list[Mapping[str, Any]]:
    """Return all steps from the bytes of an image to its probabilities, in words, and whether the file itself takes each step."""
    stage = {IMAGES: 0, CANVAS: 1, FLOAT: 2}[options.input]
    decoding = "Decode to RGB, 8 bits a channel: upright by EXIF, without alpha, 16-bit gray scaled, the first frame."
    if spec.draft_side:
        decoding += f" Decode a JPEG at the smallest of 1/8, 1/4, 1/2 and 1 that keeps its shorter edge at {spec.draft_side} px or more."
    kind = "in 16 bits " if options.half else "in 8 bits " if options.int8 else ""
    found = [
        (decoding, False),
        (_resize(spec), stage < 1),
        (f"Subtract 255 times the mean {list(spec.mean)}, divide by 255 times the std {list(spec.std)}.", stage < 2),  # noqa: PLR2004
        (f"Run the network {kind}to its logits.", True),
        (f"Divide the logits by the temperature {temperature:g}, and apply softmax.", options.output != LOGITS),
    ]
    return [{"step": text, "inside": inside} for text, inside in found]


def _resize(spec: Preprocessing) -> str:
    size = spec.image_size
    share = f" of {spec.crop:g} of the shorter edge" if spec.crop < 1 else ""
    fitted = {
        "crop": f"Keep the middle square{share}, and scale it to {size} × {size} px",
        "pad": f"Scale the longer edge to {size} px, centre, and fill up to {size} × {size} px with level {PAD_LEVEL:g}",
        "squash": f"Scale height and width to {size} px each",
    }[spec.resize_mode]
    kind = "Keys' cubic with a = -0.5" if spec.interpolation == "bicubic" else "a triangle"
    text = (
        f"{fitted}. The filter is {kind}, stretched by the scale when shrinking, with weights rounded to 1/{WEIGHT_UNIT:.0f}; "
        "resize across, round halves up to whole levels, then resize down and round."
    )
    if spec.channels == 1:
        text += f" Gray is the luma by {', '.join(f'{weight:.0f}' for weight in LUMA_WEIGHTS)} / {LUMA_UNIT:.0f}, rounded."
    return text


def _input(spec: Preprocessing, options: ExportOptions, first: int | str) -> dict[str, Any]:
    shape = [first, *input_shape(options.input, spec)[1:]]
    return {"dtype": "float32" if options.input == FLOAT else "uint8", "shape": shape}
