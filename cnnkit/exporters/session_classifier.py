"""An exported file as a `Classifier`, run by the session of a runtime without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ModelFileError
from cnnkit.exporters.protocol import FLOAT, IMAGES, INPUTS, LOGITS, OUTPUTS, PROBABILITIES, input_shape
from cnnkit.exporters.session_process import CPU_PROVIDER, Batch, Interface, Runtime, open_session
from cnnkit.files import parse_json
from cnnkit.metrics.temperature import softmax
from cnnkit.model.canvas import make_canvases, normalise, scales
from cnnkit.model.preprocessing import Preprocessing, group_by_shape
from cnnkit.model.rules import Rules, from_metadata

MAX_BATCH_SIZE = 64  # images in one run of the session
MAX_BATCH_PIXELS = 16_000_000  # of all images in one run: 200 MB, as the graph holds them as float32 RGB
MAX_CANVAS_PIXELS = 2**15  # of all canvases in one run; more take memory and no less time: see docs/benchmarks/LOG.md, "Prediction alone"


@dataclass(frozen=True)
class _Kinds:
    """The kinds of input and output of a file, and the `dtype` of its input as an `Interface` names it."""

    input: str
    output: str

    @property
    def dtype(self) -> str:
        return "tensor(float)" if self.input == FLOAT else "tensor(uint8)"


class SessionClassifier:
    """A file of cnnkit that `runtime` runs, such as the ONNX file of ``cnnkit export --onnx``; `provider` names the part that computes.

    A file whose input is `canvas` or `float` gets canvases, which the same arithmetic makes as for a model file.

    Raises `ModelFileError` if the file is missing, damaged, or written by another program.
    """

    def __init__(self, path: str | Path, runtime: Runtime) -> None:
        self.path = Path(path)
        self.runtime = runtime
        if not self.path.is_file():
            raise ModelFileError(f"{self.path}: no such file; write one with: {runtime.command}")
        self._session = open_session(self.path, runtime)
        found = self._session.interface
        self.provider = found.provider
        self._kinds = _read_kinds(found.metadata)
        self._classes = self._read_classes(found)
        self.rules, self.preprocessing = _read_rules(self.path, found.metadata, len(self._classes))
        if self._kinds.input != IMAGES:
            self._check_canvas(found)
        self._edge = _identity_edge(self.preprocessing) if self.preprocessing and self._kinds.input == IMAGES else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the probabilities."""
        return self._classes

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map decoded RGB images, uint8 (H, W, 3) of any and differing sizes, to probabilities (N, K) float32."""
        if self._kinds.input != IMAGES and self.preprocessing:
            return self.predict_canvases(make_canvases(images, self.preprocessing))
        result = np.empty((len(images), len(self.classes)), np.float32)
        for rows in _batches_of_one_size(images):
            result[rows] = self._run(np.stack([images[row] for row in rows]))
        return result

    @property
    def canvas_spec(self) -> Preprocessing | None:
        """The preprocessing of the canvases; None if the file does not name it, or if the graph would resize a canvas."""
        return self.preprocessing if self._edge or self._kinds.input != IMAGES else None

    def batch_of(self, size: int) -> int:
        """Return the largest number of canvases of `size` px that one run of the session takes."""
        return max_canvases(self._edge or size) if self.provider == CPU_PROVIDER else MAX_BATCH_SIZE

    def predict_canvases(self, canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), to probabilities (N, K) float32; only if `canvas_spec` is not None."""
        size, edge = canvases.shape[-1], self._edge or canvases.shape[-1]
        inside = slice((edge - size) // 2, (edge + size) // 2)
        result = np.empty((len(canvases), len(self.classes)), np.float32)
        count = self.batch_of(size)
        for start in range(0, len(canvases), count):
            part = canvases[start : start + count]
            if self._kinds.input == IMAGES:
                images = np.zeros((len(part), edge, edge, 3), np.uint8)
                images[:, inside, inside] = part.transpose(0, 2, 3, 1)  # a gray canvas has the same luma in three channels
                result[start : start + count] = self._run(images)
            else:
                result[start : start + count] = self._run(self.as_input(part))
        return result

    def as_input(self, canvases: NDArray[np.uint8]) -> Batch:
        """Return canvases, uint8 (N, C, S, S), as the input of a file that takes `canvas` or `float`."""
        if self._kinds.input == FLOAT and self.preprocessing:
            return normalise(canvases, self.preprocessing)
        return np.ascontiguousarray(canvases.transpose(0, 2, 3, 1))

    def _run(self, images: Batch) -> NDArray[np.float32]:
        """Return the probabilities (N, K) of a batch of the input; raises `ModelFileError` for other values."""
        found = self._session.run(images)
        if found.shape != (len(images), len(self._classes)) or not np.isfinite(found).all():
            wanted = f"{self._kinds.output} of {len(self._classes)} classes"
            raise ModelFileError(f"{self.path}: its graph gives no {wanted}; write another with: {self.runtime.command}")
        return softmax(found, self.rules.temperature).astype(np.float32) if self._kinds.output == LOGITS else found

    def _read_classes(self, found: Interface) -> tuple[str, ...]:
        """Return the class names in the metadata, after a check of the names, types and ranks of inputs and outputs."""
        kinds = self._kinds
        inputs = [(name, kind, len(shape)) for name, kind, shape in found.inputs]
        outputs = {name: shape for name, _, shape in found.outputs}
        text = found.metadata.get("classes")
        problem = ""
        if kinds.input not in INPUTS:
            problem = f"its metadata name the input {kinds.input!r:.80}, expected one of {', '.join(INPUTS)}"
        elif inputs != [(kinds.input, kinds.dtype, 4)] or (kinds.input == IMAGES and found.inputs[0][2][-1] != 3):  # noqa: PLR2004 (RGB)
            problem = f"its input is {_shown(found)}, expected {kinds.input!r} {kinds.dtype} {input_shape(kinds.input, None)}"
        elif kinds.output not in OUTPUTS or not {kinds.output, "labels"} <= outputs.keys():
            problem = f"its outputs are {', '.join(map(repr, outputs))}, expected {kinds.output!r} and 'labels'"
        elif text is None:
            problem = "its metadata names no 'classes'"
        else:
            classes = _names(text)
            width = (outputs[kinds.output] or [None])[-1]
            if width == len(classes):
                return classes
            problem = f"its metadata names {len(classes)} classes, its output has {width}"
        raise self._foreign(problem)

    def _check_canvas(self, found: Interface) -> None:
        """Raise `ModelFileError` unless the input of a file that takes `canvas` or `float` has the size that its preprocessing makes."""
        kinds, spec = self._kinds, self.preprocessing
        if spec is None:
            raise self._foreign(f"its metadata name the input {kinds.input!r} without a preprocessing for it")
        expected = input_shape(kinds.input, spec)
        if list(found.inputs[0][2])[1:] != expected[1:]:
            raise self._foreign(f"its input is {_shown(found)}, its preprocessing makes {expected}")

    def _foreign(self, problem: str) -> ModelFileError:
        return ModelFileError(
            f"{self.path}: {self.runtime.file} that cnnkit export did not write: {problem}; write one with: {self.runtime.command}"
        )


def max_canvases(edge: int) -> int:
    """Return the largest number of canvases of `edge` px in one run of a session."""
    return max(1, min(MAX_BATCH_SIZE, MAX_CANVAS_PIXELS // edge**2))


def _identity_edge(spec: Preprocessing) -> int | None:
    """Return the edge of the square image from which the graph cuts the middle `image_size` pixels unchanged; None if there is none."""
    edge = spec.image_size if spec.resize_mode != "crop" else round(spec.image_size / spec.crop)
    scale, _ = scales(np, np.float32(edge), np.float32(edge), spec)
    return edge if scale == 1 and (edge - spec.image_size) % 2 == 0 else None


def _batches_of_one_size(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Return batches of indices; the images of a batch have one size, so that the graph accepts them together."""
    batches: list[list[int]] = []
    for rows in group_by_shape(images):
        height, width, _ = images[rows[0]].shape
        count = min(MAX_BATCH_SIZE, max(1, MAX_BATCH_PIXELS // (height * width)))
        batches += [rows[start : start + count] for start in range(0, len(rows), count)]
    return batches


def _read_kinds(metadata: Mapping[str, str]) -> _Kinds:
    """Return the kinds in the metadata; a file that names none takes images and returns probabilities."""
    return _Kinds(metadata.get("input", IMAGES), metadata.get("output", PROBABILITIES))


def _shown(found: Interface) -> str:
    return ", ".join(f"{name!r} {kind} {shape}" for name, kind, shape in found.inputs)


def _read_rules(path: Path, metadata: Mapping[str, str], classes: int) -> tuple[Rules, Preprocessing | None]:
    """Return the rules and the preprocessing in the metadata; the graph needs neither, so a file may lack them."""
    try:
        rules = from_metadata(metadata)
        rules.check_classes(classes)
        known = Preprocessing.model_validate_json(metadata["preprocessing"]) if metadata.get("preprocessing") else None
        if known:
            known.check_channels()
    except ValueError as error:  # pydantic's ValidationError too
        first = str(error).splitlines()[0]
        raise ModelFileError(f"{path}: this version of cnnkit cannot read its metadata ({first}); export the model again") from error
    return rules, known


def _names(text: str) -> tuple[str, ...]:
    try:
        names = parse_json(text)
    except ValueError:
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
