"""Explanations of predictions: the heat map of the evidence for a class, the feature maps, and a check by a second method."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.inference.predict import find_images
from cnnkit.api.inference.prepared import decoded_images
from cnnkit.api.inference.samples import spelled
from cnnkit.api.inference.target import ModelName, Target, find_target
from cnnkit.engine.runtime import choose_device
from cnnkit.errors import CnnkitError, ConfigError, ModelFileError, closest, listed
from cnnkit.explain.explanation import MAX_PHOTO_SIZE, Explanation, Pictures
from cnnkit.explain.gradcam import GradCam
from cnnkit.explain.methods import Method, MethodName, open_method
from cnnkit.explain.occlusion import Occlusion
from cnnkit.explain.stages import FeatureMaps
from cnnkit.exporters.opening import is_exported
from cnnkit.model.file import Model, load_model
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.torch_classifier import TorchClassifier

BATCH_IMAGES = 16  # the number of images whose photos, heat maps and features are in memory at the same time


@dataclass(frozen=True, eq=False)
class Explainer:
    """A model that is ready to explain its predictions.

    Grad-CAM reads the maps of `layer`, which have `places` rows and as many columns; both are None for other methods. `label` is
    the index of the class to explain, None for the predicted class. `patch` and `step` are the size and the stride of the occluded
    square, in pixels of the canvas; both are None if neither method nor check is occlusion. `labels` holds the true class of every
    image of the model's run by the absolute path of its file.
    """

    model: Model
    method: MethodName
    layer: str | None
    places: int | None
    label: int | None
    patch: int | None
    step: int | None
    labels: Mapping[str, str]
    _method: Method
    _check: Occlusion | None
    _features: FeatureMaps | None

    def explain(self, files: Sequence[Path]) -> Iterator[Explanation]:
        """Yield one `Explanation` per file, in the order given."""
        classifier = TorchClassifier(self.model, device=None)
        images = decoded_images(files, self.model.header.preprocessing.draft_side)
        waiting = iter(files)
        while batch := list(zip(islice(waiting, BATCH_IMAGES), images, strict=False)):
            readable = [(file, image.pixels) for file, image in batch if image.pixels is not None]
            explained = iter(self._explanations(classifier, [file for file, _ in readable], [pixels for _, pixels in readable]))
            for file, image in batch:
                yield Explanation(str(file), image.error) if image.error else next(explained)

    def _explanations(self, classifier: TorchClassifier, files: list[Path], images: list[NDArray[np.uint8]]) -> list[Explanation]:
        canvases = Preprocess(self.model.header.preprocessing).canvases(images)
        probabilities = classifier.canvas_probabilities(canvases)
        predicted = probabilities.argmax(1) if len(images) else np.empty(0, np.int64)
        labels = predicted if self.label is None else np.full(len(images), self.label)
        heats = self._method.heat_maps(canvases, labels)
        drops = self._check.drops(canvases, labels) if self._check else None
        stages = self._features.stages(canvases) if self._features else [()] * len(images)
        names = classifier.classes
        found: list[Explanation] = []
        for row, (file, image) in enumerate(zip(files, images, strict=True)):
            photo, window = self._photo_and_window(image)
            agreement = self._check.agreement(heats[row], drops[row]) if self._check and drops is not None else None
            found.append(
                Explanation(
                    str(file),
                    "",
                    names[predicted[row]],
                    float(probabilities[row, predicted[row]]),
                    names[labels[row]],
                    float(probabilities[row, labels[row]]),
                    agreement,
                    Pictures(photo, window, _rgb(canvases[row]), heats[row], stages[row]),
                    self._true_class(file),
                )
            )
        return found

    def _true_class(self, file: Path) -> str:
        """Return the class of `file` in the run of the model, else the class that its folder is named after, else nothing."""
        (folder,) = spelled([file.absolute().parent.name], self.model.header.classes)
        return self.labels.get(os.path.abspath(file), folder if folder in self.model.header.classes else "")  # noqa: PTH100 (as in _labels)

    def _photo_and_window(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
        """Return `image` shrunk to at most `MAX_PHOTO_SIZE` and the window (top, left, bottom, right) that the canvas shows of it."""
        from cnnkit.report.pictures.thumbnail import shrunk

        photo = shrunk(image, MAX_PHOTO_SIZE)
        top, left, bottom, right = self.model.header.preprocessing.window(*image.shape[:2])
        down, across = (small / large for small, large in zip(photo.shape[:2], image.shape[:2], strict=True))
        return photo, (top * down, left * across, bottom * down, right * across)


def explain(
    images: str | Path | Sequence[str | Path],
    model: ModelName = None,
    *,
    class_name: str | None = None,
    layer: str | None = None,
    method: MethodName = "gradcam",
    check: bool = True,
    features: bool = True,
    device: str = "auto",
) -> Iterator[Explanation]:
    """Yield one `Explanation` per file, in the order given; a folder stands for the images in it.

    The evidence is for the class `class_name`, or for the predicted class of each image. `check` compares the map with occlusion,
    which takes about 50 predictions per image; a map of occlusion itself is not checked. `features` adds the feature maps of
    every stage. `device` is that of the network. A missing or unreadable file yields an explanation with its error.

    Raises `DataError` if a folder holds no image, and `ModelFileError` if the model cannot be loaded. Raises `ConfigError` if the model
    has no such class or layer, and `CnnkitError` if the method cannot explain the network.
    """
    files, _ = find_images([images] if isinstance(images, str | Path) else images)
    explainer = open_explainer(
        find_target(model), class_name=class_name, layer=layer, method=method, check=check, features=features, device=device
    )
    return explainer.explain(files)


def open_explainer(
    target: Target,
    *,
    class_name: str | None = None,
    layer: str | None = None,
    method: MethodName = "gradcam",
    check: bool = True,
    features: bool = True,
    device: str = "auto",
) -> Explainer:
    """Load the model of `target` for `explain`; raise the same errors as `explain` about the model and the settings."""
    if layer is not None and method != "gradcam":
        raise ConfigError(f"--layer {layer}: --method {method} uses no layer; leave out one of the two")
    model = _load(target).to(choose_device(device))
    label = _class_index(class_name, model.header.classes)
    opened = open_method(method, model, layer)
    second = Occlusion(model, device=None) if check and not isinstance(opened, Occlusion) else None
    occlusion = opened if isinstance(opened, Occlusion) else second
    return Explainer(
        model,
        method,
        *((opened.layer.name, opened.layer.grid.size) if isinstance(opened, GradCam) else (None, None)),
        label,
        occlusion.patch if occlusion else None,
        occlusion.step if occlusion else None,
        _labels(target),
        opened,
        second,
        FeatureMaps(model) if features else None,
    )


def _labels(target: Target) -> dict[str, str]:
    """Return the class of every image of the run by the absolute path of its file; empty if there is no run or if it is damaged."""
    if target.run is None:
        return {}
    try:
        location = Path(target.run.read_record().data.location)
        rows = target.run.read_split()
    except CnnkitError:  # an explanation needs the model alone; the names of folders still tell classes
        return {}
    root = location if location.is_dir() else location.parent  # the paths in a table are relative to its folder
    return {os.path.abspath(os.path.join(root, row["path"])): row["label"] for row in rows}  # noqa: PTH100,PTH118 (a million rows are usual)


def _load(target: Target) -> Model:
    if is_exported(target.path):
        instead = target.run.path if target.run else "RUN or best.safetensors"
        raise ModelFileError(
            f"--model {target.path}: an exported file has no layers and no gradients; name the model that was exported: --model {instead}"
        )
    return load_model(target.path)


def _class_index(name: str | None, classes: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in classes:
        raise ConfigError(f"--class {name}: the model has no such class{closest(name, classes)} Its classes: {listed(classes)}")
    return classes.index(name)


def _rgb(canvas: torch.Tensor) -> NDArray[np.uint8]:
    """Turn a canvas (C, S, S) of one or three channels into RGB (S, S, 3)."""
    return canvas.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
