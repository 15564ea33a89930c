"""Explanation: where in an image the evidence for a class stands, what the layers see in it, and a check by another method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.inference.predict import image_paths
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.image import read_image
from cnnkit.errors import ConfigError, DataError, ModelFileError, closest, listed
from cnnkit.explain.explanation import MAX_PHOTO_SIZE, Explanation, Pictures
from cnnkit.explain.gradcam import GradCam
from cnnkit.explain.methods import Method, MethodName, open_method
from cnnkit.explain.occlusion import Occlusion
from cnnkit.explain.stages import FeatureMaps
from cnnkit.model.file import Model, load_model
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.registry import EXPORTERS, find

BATCH = 16  # images whose photos, maps and features are in memory at the same time


@dataclass(frozen=True, eq=False)
class Explainer:
    """A model ready to explain its answers: `layer` is the one whose maps are shown, of `places` a side (Grad-CAM alone has one).

    `patch` and `step` are those of occlusion, as the method or as the check, in pixels of the canvas; None without it.
    """

    model: Model
    method: MethodName
    layer: str | None
    places: int | None
    label: int | None
    patch: int | None
    step: int | None
    _method: Method
    _check: Occlusion | None
    _features: FeatureMaps | None

    def explain(self, files: Sequence[Path]) -> Iterator[Explanation]:
        """Yield one `Explanation` per file, in the order given."""
        classifier = TorchClassifier(self.model)
        for start in range(0, len(files), BATCH):
            read = {file: _read(file) for file in files[start : start + BATCH]}
            images = {file: image for file, image in read.items() if not isinstance(image, str)}
            explained = dict(zip(images, self._explanations(classifier, list(images), list(images.values())), strict=True))
            for file in files[start : start + BATCH]:
                error = read[file]
                yield Explanation(str(file), error) if isinstance(error, str) else explained[file]

    def _explanations(self, classifier: TorchClassifier, files: list[Path], images: list[NDArray[np.uint8]]) -> list[Explanation]:
        canvases = Preprocess(self.model.header.preprocessing).canvases(images)
        probabilities = classifier.canvas_probabilities(canvases)
        answers = probabilities.argmax(1) if len(images) else np.empty(0, np.int64)
        labels = answers if self.label is None else np.full(len(images), self.label)
        heats = self._method.heat_maps(canvases, labels)
        drops = self._check.drops(canvases, labels) if self._check else None
        stages = self._features.stages(canvases) if self._features else [()] * len(images)
        names = classifier.classes
        found: list[Explanation] = []
        for row, (file, image) in enumerate(zip(files, images, strict=True)):
            photo, window = self._shown(image)
            agreement = self._check.agreement(heats[row], drops[row]) if self._check and drops is not None else None
            found.append(
                Explanation(
                    str(file),
                    "",
                    names[answers[row]],
                    float(probabilities[row, answers[row]]),
                    names[labels[row]],
                    float(probabilities[row, labels[row]]),
                    agreement,
                    Pictures(photo, window, _rgb(canvases[row]), heats[row], stages[row]),
                )
            )
        return found

    def _shown(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
        from cnnkit.report.pictures.thumbnail import shrunk

        photo = shrunk(image, MAX_PHOTO_SIZE)
        top, left, bottom, right = self.model.header.preprocessing.window(*image.shape[:2])
        down, across = (small / large for small, large in zip(photo.shape[:2], image.shape[:2], strict=True))
        return photo, (top * down, left * across, bottom * down, right * across)


def explain(
    images: str | Path | Sequence[str | Path],
    model: str | Path | None = None,
    *,
    class_name: str | None = None,
    layer: str | None = None,
    method: MethodName = "gradcam",
    check: bool = True,
    features: bool = True,
) -> Iterator[Explanation]:
    """Yield one `Explanation` per file, in the order given; a folder stands for the images in it.

    The class `class_name` is explained, or of each image the one that the model answers. `check` compares the map with
    occlusion, which takes some fifty answers an image (a map of occlusion is not checked); `features` adds the feature maps of every stage.

    Raises `DataError` if a folder holds no image, `ModelFileError` if there is no such model, `ConfigError` for a class or
    layer that it does not have, `CnnkitError` for a network that the method cannot explain; a file that is missing or
    unreadable is an explanation with its error.
    """
    files = image_paths([images] if isinstance(images, str | Path) else images)
    explainer = open_explainer(find_target(model), class_name=class_name, layer=layer, method=method, check=check, features=features)
    return explainer.explain(files)


def open_explainer(
    target: Target,
    *,
    class_name: str | None = None,
    layer: str | None = None,
    method: MethodName = "gradcam",
    check: bool = True,
    features: bool = True,
) -> Explainer:
    """Load the model of `target` for `explain`, whose errors about the model and settings this raises."""
    if layer is not None and method != "gradcam":
        raise ConfigError(f"--layer {layer}: --method {method} looks at no layer; leave out one of the two")
    model = _load(target)
    label = _class_number(class_name, model.header.classes)
    way = open_method(method, model, layer)
    checking = Occlusion(model) if check and not isinstance(way, Occlusion) else None
    occlusion = way if isinstance(way, Occlusion) else checking
    return Explainer(
        model,
        method,
        *((way.layer.name, way.layer.grid.size) if isinstance(way, GradCam) else (None, None)),
        label,
        occlusion.patch if occlusion else None,
        occlusion.step if occlusion else None,
        way,
        checking,
        FeatureMaps(model) if features else None,
    )


def _load(target: Target) -> Model:
    if target.path.suffix.lower().removeprefix(".") in find(EXPORTERS):
        instead = target.run.path if target.run else "RUN or best.safetensors"
        raise ModelFileError(
            f"--model {target.path}: an exported file has neither layers nor gradients; name the model it was made of: --model {instead}"
        )
    return load_model(target.path)


def _class_number(name: str | None, classes: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in classes:
        raise ConfigError(f"--class {name}: the model knows no such class{closest(name, classes)} Its classes: {listed(classes)}")
    return classes.index(name)


def _read(file: Path) -> NDArray[np.uint8] | str:
    """The decoded file, or why it cannot be read."""
    try:
        return read_image(file)
    except DataError as error:
        return str(error).removeprefix(f"{file}: ")


def _rgb(canvas: torch.Tensor) -> NDArray[np.uint8]:
    """Turn a canvas (C, S, S) into RGB (S, S, 3)."""
    return canvas.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
