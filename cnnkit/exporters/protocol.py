"""The exporter contract: the value behind an entry point of the group ``cnnkit.exporters``, and the options of an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.errors import ConfigError, closest
from cnnkit.model.classifier import Classifier

if TYPE_CHECKING:
    from cnnkit.model.file import Model
    from cnnkit.model.preprocessing import Preprocessing

IMAGES, CANVAS, FLOAT = "images", "canvas", "float"
PROBABILITIES, LOGITS = "probabilities", "logits"
INPUTS = {
    IMAGES: "decoded images of any size, uint8 (N, H, W, 3)",
    CANVAS: "images after the resize and the crop, uint8 (N, S, S, C)",
    FLOAT: "normalised images, float32 (N, C, S, S)",
}
OUTPUTS = {PROBABILITIES: "probabilities after the temperature, float32 (N, K)", LOGITS: "logits before the temperature, float32 (N, K)"}


def input_shape(kind: str, spec: Preprocessing | None) -> list[int | str]:
    """Return the dimensions of an input of `kind`, one of `INPUTS`; a dynamic dimension has a name.

    Without `spec`, size and channels of a canvas are named as in `INPUTS`.
    """
    size, channels = (spec.image_size, spec.channels) if spec else ("S", "C")
    return {IMAGES: ["N", "H", "W", 3], CANVAS: ["N", size, size, channels], FLOAT: ["N", channels, size, size]}[kind]


@dataclass(frozen=True)
class ExportOptions:
    """The options of one export, each a choice that its exporter offers.

    `input` is a key of `INPUTS`, `output` of `OUTPUTS`. With `half`, the network computes in 16 bits; inputs and outputs stay as they
    are. `opset` is the version of the format's operators, 0 for a format without versions. `int8` marks a file that was quantised after
    the export; no exporter gets it.
    """

    input: str = IMAGES
    output: str = PROBABILITIES
    half: bool = False
    opset: int = 0
    int8: bool = False


@dataclass(frozen=True)
class Exporter:
    """An export format.

    `write(model, path)` writes one self-contained file that maps images to probabilities; its result is ignored. `open(path)` returns
    the file as a `Classifier`, and raises `ModelFileError` if the exporter did not write it. `name` is the name of the entry point.
    `suffix` is that of the files, with its dot; by default the name, so ``onnx`` writes and opens ``.onnx``.

    The remaining fields are the choices that the format offers, the default first: kinds of input and output, whether it can compute in
    16 bits, and versions of its operators. An exporter that changes any of them gets the choice: ``write(model, path, options)``.
    `batch` is the fixed number of images of one run of the file; 0 stands for any number. A format that runs on other `devices` than the
    CPU is opened as ``open(path, device)``, where `device` is one of them or auto. `script(preprocessing, options, ...)`, if given,
    returns the text of the script ``infer.py`` beside the file, as `cnnkit.exporters.infer_script` does.
    """

    name: str
    summary: str
    write: Callable[..., object]
    open: Callable[..., Classifier]
    suffix: str = ""
    inputs: tuple[str, ...] = (IMAGES,)
    outputs: tuple[str, ...] = (PROBABILITIES,)
    half: bool = False
    opsets: tuple[int, ...] = ()
    batch: int = 0
    script: Callable[..., str] | None = None
    devices: tuple[str, ...] = ("cpu",)

    def __post_init__(self) -> None:
        if not self.suffix:
            object.__setattr__(self, "suffix", f".{self.name}")

    @property
    def has_choices(self) -> bool:
        """Whether `write` takes options."""
        return (self.inputs, self.outputs, self.half, self.opsets) != ((IMAGES,), (PROBABILITIES,), False, ())

    def options(
        self,
        *,
        input: str | None = None,  # noqa: A002 (the flag)
        output: str | None = None,
        half: bool = False,
        opset: int | None = None,
    ) -> ExportOptions:
        """Return the options of an export; None stands for the default of the format.

        Raises `ConfigError` for a value that does not exist, and for one that the format does not offer.
        """
        for flag, value, known, offered in (("--input", input, INPUTS, self.inputs), ("--output", output, OUTPUTS, self.outputs)):
            if value is not None and value not in known:
                raise ConfigError(f"{flag} {value}: no such kind{closest(value, known)} Allowed: {', '.join(known)}")
            if value is not None and value not in offered:
                raise ConfigError(f"{flag} {value}: the exporter {self.name!r} writes {', '.join(offered)} only; leave out {flag}")
        if half and not self.half:
            raise ConfigError(f"--half: the exporter {self.name!r} has no computation in 16 bits; leave out --half")
        if opset is not None and opset not in self.opsets:
            versions = f"opsets {min(self.opsets)} to {max(self.opsets)}" if self.opsets else "files without opsets"
            raise ConfigError(f"--opset {opset}: the exporter {self.name!r} writes {versions}; leave out --opset")
        default = self.opsets[0] if self.opsets else 0
        return ExportOptions(input or self.inputs[0], output or self.outputs[0], half, default if opset is None else opset)

    def open_file(self, path: Path, device: str) -> Classifier:
        """Open `path` on `device`: one of `devices`, or auto. Raises `ConfigError` for another one."""
        if device not in {"auto", *self.devices}:
            raise ConfigError(f"--device {device}: {path} is an exported file, which runs on {' or '.join(self.devices)}")
        return self.open(path, device) if len(self.devices) > 1 else self.open(path)

    def write_file(self, model: Model, path: Path, options: ExportOptions) -> None:
        """Write `model` to `path` with `options`, which an exporter without choices does not get."""
        if self.has_choices:
            self.write(model, path, options)
        else:
            self.write(model, path)
