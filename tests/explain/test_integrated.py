from __future__ import annotations

import sys

import numpy as np
import pytest
from torch import nn

from cnnkit.errors import MissingExtraError
from cnnkit.explain.methods import open_method


def test_the_error_without_captum_names_the_install_command(model_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"^--method integrated-gradients needs .* type: pip install 'cnnkit\[explain\]'$"):
        open_method("integrated-gradients", model_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 2))))


def test_the_evidence_of_a_linear_network_is_weight_times_pixel(model_of, noise):
    pytest.importorskip("captum.attr")
    layer = nn.Linear(192, 2)
    canvases = noise(2, 8)
    heat = open_method("integrated-gradients", model_of(nn.Sequential(nn.Flatten(), layer))).heat_maps(canvases, [1, 0])
    for row, label in enumerate((1, 0)):
        share = (layer.weight[label].detach().view(3, 8, 8) * canvases[row] / 255).sum(0).clamp(min=0)
        limit = share.quantile(0.98)
        np.testing.assert_allclose(heat[row], (share / limit).clamp(max=1), atol=1e-5)
        assert (heat[row] == 1).sum() == 2
    assert layer.weight.grad is None
