"""The torch network of a model file as a `Classifier`, computing in true fp32."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.errors import ModelFileError, is_out_of_memory
from cnnkit.model.file import Model
from cnnkit.model.head import head_layers
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules
from cnnkit.model.tta import PLAIN_VIEW, Views

MAX_BATCH_SIZE = 256  # canvases in one forward pass
MAX_CPU_BATCH_PIXELS = 2**20  # as fast as more, in less memory: see docs/benchmarks/LOG.md, "Batches without gradients"


class TorchClassifier:
    """A trained model as a `Classifier`.

    It always computes in true fp32, even if the training did not. So evaluation, prediction and the exported file give the
    same probabilities for the same image. The module is moved to `device`, or stays where it is for
    None, and is put into eval mode. The logits are averaged over `views`. A batch that does not fit in memory is halved.
    """

    def __init__(self, model: Model, *, device: str | torch.device | None = "cpu", views: Views = PLAIN_VIEW) -> None:
        self.model = model
        self._views = views
        self._device = device_of(model.module) if device is None else torch.device(device)
        self._max_batch_size = MAX_BATCH_SIZE
        self._module = model.module.to(self._device).eval()
        self._preprocess = Preprocess(model.header.preprocessing)  # on the CPU, as in the store
        self._normalise = Preprocess(model.header.preprocessing).to(self._device).normalise

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self._device

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the probabilities."""
        return self.model.header.classes

    @property
    def rules(self) -> Rules:
        """The rules of the model file."""
        return self.model.header

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of decoded images to canvases."""
        return self.model.header.preprocessing

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map decoded RGB images, uint8 (H, W, 3) of any and differing sizes, to probabilities (N, K) float32."""
        return self.canvas_probabilities(self.canvases(images))

    def canvases(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Map decoded RGB images, uint8 (H, W, 3) of any and differing sizes, to canvases, uint8 (N, C, S, S)."""
        return self._preprocess.canvases(images)

    def canvas_probabilities(self, canvas: Tensor) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S) as the store keeps them, to probabilities (N, K)."""
        rows = [(logits / self.model.header.temperature).softmax(1).cpu().numpy() for logits in self._logits(canvas, self._views)]
        found = np.concatenate([np.empty((0, len(self.classes)), np.float32), *rows])
        if not np.isfinite(found).all():
            raise ModelFileError(
                f"{self.model.path}: the network gives probabilities that are no numbers, so its weights are damaged; restore the "
                "file from a copy, or train again"
            )
        return found

    @property
    def canvas_spec(self) -> Preprocessing:
        """The preprocessing of the canvases that `predict_canvases` takes."""
        return self.preprocessing

    def predict_canvases(self, canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), to probabilities (N, K)."""
        return self.canvas_probabilities(torch.from_numpy(canvases))

    def canvas_features(self, canvas: Tensor) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), N > 0, to the inputs of the last layer (N, D).

        If the last layer cannot be found, the features are the logits.
        """
        layers = head_layers(self._module, len(self.classes))
        if len(layers) != 1:
            return np.concatenate([logits.cpu().numpy() for logits in self._logits(canvas)])
        seen: list[NDArray[np.float32]] = []

        def keep(_: object, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0].float().flatten(2).mean(2).cpu().numpy() if inputs[0].ndim > 2 else inputs[0].float().cpu().numpy())  # noqa: PLR2004

        hook = layers[0].register_forward_pre_hook(keep)
        try:
            for _ in self._logits(canvas):
                pass
        finally:
            hook.remove()
        return np.concatenate(seen)

    @torch.inference_mode()
    def _logits(self, canvas: Tensor, views: Views = PLAIN_VIEW) -> Iterator[Tensor]:
        """Yield the mean logits over `views`, (n, K) float32, batch by batch."""
        with true_fp32():
            start = 0
            while start < len(canvas):
                size = min(self._max_batch_size, inference_batch(canvas.shape[-1], self._device))
                part = canvas[start : start + size]
                logits = self._fitting_logits(part, views)
                if logits is None:
                    self._max_batch_size = len(part) // 2
                    free_cached_memory(self._device)
                else:
                    start += len(part)
                    yield logits

    def _fitting_logits(self, canvas: Tensor, views: Views) -> Tensor | None:
        """Return the mean logits of one batch, or None if several images need more memory than there is."""
        try:
            return reduce(torch.add, (weight * self._forward(view) for weight, view in views.of(canvas.to(self._device))))
        except RuntimeError as error:
            if len(canvas) == 1 or not is_out_of_memory(error):
                raise
        return None

    def _forward(self, canvas: Tensor) -> Tensor:
        """Map canvases of one batch, on the device, to logits (n, K), float32."""
        images = self._normalise(canvas).contiguous(memory_format=torch.channels_last)
        return self._module(images).float()


def inference_batch(image_size: int, device: torch.device) -> int:
    """Return the batch size for images of `image_size` px in a forward pass without gradients."""
    return MAX_BATCH_SIZE if device.type != "cpu" else max(1, min(MAX_BATCH_SIZE, MAX_CPU_BATCH_PIXELS // image_size**2))


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the first parameter of `module`; the CPU without parameters."""
    weight = next(module.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def free_cached_memory(device: torch.device) -> None:
    """Return the memory that torch keeps for later tensors of `device` to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def true_fp32() -> Generator[None]:
    """Switch off TF32 in convolutions, where it is torch's default, and in matrix products.

    TF32 has a mantissa of 10 bits instead of 23. An exported file computes in fp32 too, so it gives the same predictions.
    """
    matmul = torch.backends.cuda.matmul
    before = torch.backends.cudnn.allow_tf32, matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, matmul.allow_tf32 = before
