"""The methods of explanation, by name; each returns a heat map of the canvas."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cnnkit.explain.gradcam import GradCam
from cnnkit.explain.integrated import IntegratedGradients
from cnnkit.explain.occlusion import Occlusion
from cnnkit.model.file import Model

MethodName = Literal["gradcam", "occlusion", "integrated-gradients"]


class Method(Protocol):
    """A method that locates the evidence for a class in an image."""

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1]."""
        ...


def open_method(name: MethodName, model: Model, layer: str | None = None) -> Method:
    """Return the method `name` for `model`; `layer` is for Grad-CAM. Raises the errors of the method for this model."""
    if name == "gradcam":
        return GradCam(model, layer)
    return Occlusion(model, device=None) if name == "occlusion" else IntegratedGradients(model)
