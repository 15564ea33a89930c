"""Integrated gradients (Sundararajan et al., arXiv:1703.01365), computed by captum."""

from __future__ import annotations

import importlib

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cnnkit.errors import MissingExtraError
from cnnkit.explain.heat import heat, to_class_indices
from cnnkit.explain.network import ExplainedNetwork
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import true_fp32

INTEGRATION_STEPS = 50  # captum's default; the paper found 20 to 300 enough (section 5)
BATCH_SIZE = 50  # canvases in one forward and backward pass
CLIP_QUANTILE = 0.98  # of the pixels, as in captum: without a limit a few pixels exceed all others


class IntegratedGradients:
    """The evidence of each pixel for a class of `model`, compared with the mean colour of its training images.

    Raises `MissingExtraError` if captum is not installed.
    """

    def __init__(self, model: Model) -> None:
        try:
            attribution = importlib.import_module("captum.attr")
        except ImportError:
            raise MissingExtraError("--method integrated-gradients needs the package captum; type: pip install 'cnnkit[explain]'") from None
        self._network = ExplainedNetwork(model)
        self._attribution = attribution.IntegratedGradients(self._network.module)

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1].

        The evidence of a pixel is the sum over its channels. 0 is none, or evidence against the class. 1 is the most in that
        image, which two of a hundred pixels reach.
        """
        indices = to_class_indices(classes, len(canvases), len(self._network.classes))
        parts = [self._evidence(canvas, label) for canvas, label in zip(canvases.split(1), indices.split(1), strict=True)]
        size = self._network.spec.image_size
        return heat(torch.cat([torch.empty(0, size, size), *parts]), size)

    def _evidence(self, canvas: Tensor, label: Tensor) -> Tensor:
        with true_fp32(), torch.inference_mode(mode=False), torch.enable_grad():
            image = self._network.images(canvas).clone().requires_grad_()
            target = label.to(image.device, copy=True)
            attribution = self._attribution.attribute(image, target=target, n_steps=INTEGRATION_STEPS, internal_batch_size=BATCH_SIZE)
        evidence = attribution.detach().sum(1).clamp(min=0).cpu()
        limit = evidence.quantile(CLIP_QUANTILE)
        return evidence.clamp(max=float(limit)) if limit > 0 else evidence
