"""Integrated gradients (Sundararajan et al., arXiv:1703.01365), computed by captum."""

from __future__ import annotations

import importlib

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cnnkit.errors import MissingExtraError
from cnnkit.explain.heat import class_numbers, heat
from cnnkit.explain.network import Network
from cnnkit.model.file import Model
from cnnkit.model.torch_classifier import true_fp32

STEPS = 50  # of the integral; the paper found 20 to 300 enough (section 5), captum takes 50
BATCH = 50  # canvases in one pass forward and back
FULL = 0.98  # of the pixels are drawn by their value, the rest as the most: a few pixels tower above all (captum shows it so too)


class IntegratedGradients:
    """Which pixels of an image speak for a class of `model`, against the mean colour of its training images.

    Raises `MissingExtraError` without captum.
    """

    def __init__(self, model: Model) -> None:
        try:
            attribution = importlib.import_module("captum.attr")
        except ImportError:
            raise MissingExtraError("--method integrated-gradients needs the package captum; type: pip install 'cnnkit[explain]'") from None
        self._network = Network(model)
        self._attribution = attribution.IntegratedGradients(self._network.module)

    def heat_maps(self, canvases: Tensor, classes: ArrayLike) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), and the class to explain on each, (N,) int64, to heat (N, S, S) in [0, 1].

        A pixel has the sum over its channels; 0 is none or evidence against the class, 1 the most in that image, which
        two in a hundred pixels reach.
        """
        wanted = class_numbers(classes, len(canvases), len(self._network.classes))
        parts = [self._part(canvas, label) for canvas, label in zip(canvases.split(1), wanted.split(1), strict=True)]
        size = self._network.spec.image_size
        return heat(torch.cat([torch.empty(0, size, size), *parts]), size)

    def _part(self, canvas: Tensor, label: Tensor) -> Tensor:
        with true_fp32(), torch.inference_mode(mode=False), torch.enable_grad():
            image = self._network.images(canvas).clone().requires_grad_()
            target = label.to(image.device, copy=True)
            given = self._attribution.attribute(image, target=target, n_steps=STEPS, internal_batch_size=BATCH)
        evidence = given.detach().sum(1).clamp(min=0).cpu()
        limit = evidence.quantile(FULL)
        return evidence.clamp(max=float(limit)) if limit > 0 else evidence
