"""A trained model in Python: loaded once, it predicts paths, Pillow images and arrays."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cnnkit.api.inference.device import open_on_device
from cnnkit.api.inference.inputs import as_inputs
from cnnkit.api.inference.predict import Prediction, find_inputs, predictions
from cnnkit.api.inference.target import ModelName, Target, find_target
from cnnkit.errors import DataError, ModelFileError, counted, shortened
from cnnkit.model.classifier import Classifier
from cnnkit.model.torch_classifier import TorchClassifier

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from cnnkit.data.source import Source
    from cnnkit.model.file import ModelHeader
    from cnnkit.run_dir import RunDir

MAX_SHOWN_CLASSES = 5
MAX_SHOWN_ROWS = 20  # predictions of a table in a notebook


class PredictionList(list[Prediction]):
    """Predictions in the order of their images; a notebook shows them as a table."""

    def __repr__(self) -> str:
        ends = ", ...]" if len(self) > 1 else "]"
        return f"{counted(len(self), 'prediction')}: [{self[0]!r}{ends}" if self else "[]"

    def _repr_html_(self) -> str:
        from cnnkit.report.page.notebook import table_html

        rows = [
            (each.path or f"images[{index}]", *(("", "", each.error) if each.error else (each.label, f"{each.probability:.3f}", "")))
            for index, each in enumerate(self[:MAX_SHOWN_ROWS])
        ]
        return table_html(("image", "predicted", "probability", "error"), rows, total=len(self))

    def to_dict(self) -> dict[str, list[object]]:
        """Return the columns of ``predict --out``, each with one cell per image, as a DataFrame takes them."""
        rows = [prediction.row() for prediction in self]
        return {column: [row[column] for row in rows] for column in (rows[0] if rows else ())}


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """A model that is ready to predict: its file, its run if it has one, and the network.

    `classifier` computes the probabilities. `source` holds the images of the training if they were given in memory.
    """

    target: Target
    classifier: Classifier
    source: Source | None = None

    def __repr__(self) -> str:
        names = ", ".join(shortened(self.classes, MAX_SHOWN_CLASSES))
        return f"TrainedModel({str(self.path)!r}, {self._kind}, {len(self.classes)} classes: {names})"

    @property
    def _kind(self) -> str:
        classifier = self.classifier
        return f"{classifier.model.header.arch} on {classifier.device}" if isinstance(classifier, TorchClassifier) else "exported"

    @property
    def path(self) -> Path:
        """The file of the model."""
        return self.target.path

    @property
    def run(self) -> RunDir | None:
        """The run of the model; None for a file outside of a run."""
        return self.target.run

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the probabilities."""
        return self.classifier.classes

    @property
    def header(self) -> ModelHeader:
        """The header of the model file; raises `ModelFileError` for an exported file."""
        return self._network("header").model.header

    @property
    def module(self) -> nn.Module:
        """The network, which maps images (N, C, S, S) to logits (N, K); raises `ModelFileError` for an exported file."""
        return self._network("torch module").model.module

    def _network(self, wanted: str) -> TorchClassifier:
        if not isinstance(self.classifier, TorchClassifier):
            raise ModelFileError(f"{self.path}: an exported file has no {wanted}; load the run or its best.safetensors")
        return self.classifier

    @overload
    def predict(self, images: str | PathLike[str] | bytes | Image) -> Prediction: ...
    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> PredictionList: ...
    @overload
    def predict(self, images: Any) -> Any: ...
    def predict(self, images: Any) -> Prediction | PredictionList:
        """Return the prediction for an image, or a list of predictions for a list of images, in its order.

        An image is a path, a Pillow image, a uint8 array (H, W), (H, W, 1) or (H, W, 3), or the bytes of an image file. An array
        (N, H, W, 3), (N, H, W, 1) or (N, H, W) counts as a list. A folder in a list stands for the images in it. Raises `DataError` if a
        single image cannot be read. In a list, its prediction holds the error.
        """
        given, is_single = as_inputs(images)
        if is_single and isinstance(given[0], Path) and given[0].is_dir():
            raise DataError(f"{given[0]}: a folder; for a prediction of every image in it, give a list: predict([{str(given[0])!r}])")
        inputs, _ = find_inputs(given)
        found = PredictionList(predictions(self.classifier, inputs))
        if not is_single:
            return found
        if found[0].error:
            raise DataError(f"{found[0].path or 'image'}: {found[0].error}")
        return found[0]


def load_model(model: ModelName = None, *, device: str = "auto") -> TrainedModel:
    """Load a model once, for many predictions.

    `model` is a run, its folder or name, a model file or an exported file; by default the newest finished run. The
    network runs on `device`: auto (a GPU if there is one), cpu, cuda or mps; a loaded model stays where it is on auto. Raises
    `ModelFileError` if there is no such model, `PluginError` if its architecture is not installed, and `ConfigError` for a device that is
    not here.
    """
    if isinstance(model, TrainedModel) and device == "auto":
        return model
    target = find_target(model)
    source = model.source if isinstance(model, TrainedModel) else None
    return TrainedModel(target, open_on_device(target, device), source)
