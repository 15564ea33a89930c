from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnnkit.engine.runtime import Runtime
from cnnkit.engine.validation import validate

RUNTIME = Runtime(torch.device("cpu"))


class Fixed:
    """A source of one batch of images, of which the first pixel is the logit of the second class."""

    steps = 1

    def __init__(self, labels: list[int]) -> None:
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def epoch(self, number: int, first: int = 0):
        del number, first
        pixels = torch.where(self.labels == 1, 2.0, -1.0)
        yield torch.stack([torch.zeros(len(pixels)), pixels], 1)[:, :, None, None], self.labels


def test_ranks_score_as_one_process_even_if_one_has_no_image(run_ranks):
    network, labels = nn.Flatten(), [1, 0]
    one = validate(network, Fixed(labels), RUNTIME, 2)
    found = run_ranks(3, lambda ranks: validate(network, Fixed(ranks.part(np.array(labels)).tolist()), RUNTIME, 2, ranks))
    for validation in found:
        assert validation.loss == pytest.approx(one.loss)
        assert (validation.table == one.table).all()
    assert (found[0].logits == one.logits).all()
    assert found[0].labels.tolist() == labels
