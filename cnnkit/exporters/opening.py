"""The opening of a model file or an exported file as a `Classifier`, by its suffix, and the loading of an exporter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import PluginError
from cnnkit.exporters.protocol import INPUTS, OUTPUTS, Exporter
from cnnkit.model.classifier import CanvasClassifier, Classifier, ClassifierWithRules, rules_of
from cnnkit.registry import EXPORTERS, Entry, fence, fenced, find, load, peek

if TYPE_CHECKING:
    import torch

MODEL_SUFFIX = ".safetensors"  # of cnnkit's own model files, which no exporter of another package opens
SUM_TOLERANCE = 1e-2  # of the probabilities of an image, which some formats store in 8 or 16 bits


def open_classifier(path: str | Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Open a model file or an exported file; the suffix names the exporter, so the exporter onnx opens ``.onnx``.

    The file runs on `device`; an exported file also takes auto, a GPU if the exporter can use one.

    Raises `ConfigError` for a device that an exported file cannot use, `ModelFileError` if the file is missing or does not fit its suffix,
    `PluginError` if the architecture or the exporter is not installed or does not work.
    """
    file = Path(path)
    name = _exporter_name(file)
    if name is not None:
        return load_exporter(name).open_file(file, str(device))
    from cnnkit.model.file import load_model  # loads torch, which an exported file does not need
    from cnnkit.model.torch_classifier import TorchClassifier

    return TorchClassifier(load_model(file), device=device)


def is_exported(path: Path) -> bool:
    """Return True if an exporter has the suffix of `path`; a model file is never an exported one."""
    return _exporter_name(path) is not None


def _exporter_name(path: Path) -> str | None:
    """Return the name of the exporter whose files have the suffix of `path`; None without one.

    The suffix is read from the source of the exporters, so nothing is imported. An exporter that is named as the suffix comes first.
    """
    suffix = path.suffix.lower()
    if suffix == MODEL_SUFFIX:
        return None
    found = find(EXPORTERS)
    names = sorted(found, key=lambda name: f".{name}" != suffix)
    return next((name for name in names if suffix == (peek(found[name][0]).suffix or f".{name}")), None)


def load_exporter(name: str) -> Exporter:
    """Return the exporter `name`; that of another package runs inside the fence, and so does each classifier that it opens.

    Raises `PluginError` as `cnnkit.registry.load` does, and if the entry is no usable `Exporter`.
    """
    found, entry = load(EXPORTERS, name)
    if not isinstance(found, Exporter) or not (callable(found.write) and callable(found.open)):
        raise PluginError(f"exporter {name!r} of {entry.origin} is a {type(found).__name__}, not a cnnkit.exporters.protocol.Exporter")
    if entry.is_builtin:
        return found
    for field, values, known in (("inputs", found.inputs, INPUTS), ("outputs", found.outputs, OUTPUTS)):
        if not isinstance(values, tuple) or not values or set(values) - known.keys():  # pyright: ignore[reportUnnecessaryIsInstance]
            allowed = f"it must be a tuple of one or more of {', '.join(known)}"
            raise PluginError(f"exporter {name!r} of {entry.origin}: {field} is {values!r:.80}; {allowed}")

    def write(*arguments: Any) -> None:
        path: Path = arguments[1]
        with fence(entry, "cannot write the model"):
            found.write(*arguments)
        if not path.is_file():
            raise PluginError(f"exporter {name!r} of {entry.origin} wrote no file {path}")

    def opened(path: Path, *device: str) -> Classifier:
        return FencedClassifier(fenced(entry, f"cannot open {path}", found.open)(path, *device), entry)

    script = found.script and fenced(entry, "writes no script", found.script)
    return replace(found, name=entry.name, write=write, open=opened, script=script)


class FencedClassifier:
    """The classifier `found` of another package behind the fence; it takes canvases if `found` does.

    Raises `PluginError` for values that are no classes or probabilities.
    """

    def __init__(self, found: Classifier, entry: Entry) -> None:
        self._found = found
        self._entry = entry
        with fence(entry, "gives no usable classifier"):
            self.classes = tuple(found.classes)
            names = tuple[object, ...](found.classes)
            self.rules = rules_of(found)
            self.preprocessing = found.preprocessing if isinstance(found, ClassifierWithRules) else None
            self._on_canvases = found if isinstance(found, CanvasClassifier) else None
            self.canvas_spec = self._on_canvases.canvas_spec if self._on_canvases else None
        if len(self.classes) < 2 or not all(isinstance(name, str) for name in names):  # noqa: PLR2004 (a classifier needs two)
            raise PluginError(
                f"exporter {entry.name!r} of {entry.origin} gives the classes {self.classes!r:.80}; expected two names or more"
            )

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map decoded RGB images, uint8 (H, W, 3), to probabilities (N, K) float32."""
        return self._checked(len(images), partial(self._found.probabilities, images))

    def predict_canvases(self, canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), to probabilities (N, K) float32; only if `canvas_spec` is not None."""
        if self._on_canvases is None:
            raise TypeError(f"exporter {self._entry.name!r} of {self._entry.origin} takes no canvases")
        return self._checked(len(canvases), partial(self._on_canvases.predict_canvases, canvases))

    def _checked(self, images: int, predict: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the probabilities (N, K) of `predict` for the number of `images`, inside the fence and checked."""
        with fence(self._entry, "cannot predict"):
            found = np.asarray(predict(), np.float32)
        if found.shape != (images, len(self.classes)) or not np.allclose(found.sum(1), 1, atol=SUM_TOLERANCE):
            raise PluginError(
                f"exporter {self._entry.name!r} of {self._entry.origin} predicts {found.shape}; expected probabilities of shape "
                f"({images}, {len(self.classes)}), which add up to 1 for each image"
            )
        return found
