from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.engine.trial import MAX_ERROR_LENGTH, forward_failure, learning_failure


def network(*, classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(classes))


class Answering(nn.Module):
    """A network that returns what `answer` makes of a batch."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> object:
        return self.answer(images)


def test_a_network_that_trains_has_no_failure() -> None:
    assert forward_failure(network(), torch.rand(2, 3, 8, 8), 3) == ""


def test_the_failure_is_the_first_line_of_the_error() -> None:
    def fail(_: Tensor) -> None:
        raise KeyError("size\nadvice to programmers")

    assert forward_failure(Answering(fail), torch.rand(2, 3, 8, 8), 3) == "KeyError: 'size\\nadvice to programmers'"
    assert forward_failure(network(), torch.rand(2, 3, 2, 2), 3).startswith(
        "RuntimeError: Calculated padded input size per channel: (2 x 2)"
    )

    def long(_: Tensor) -> None:
        raise ValueError("x" * 999)

    assert forward_failure(Answering(long), torch.rand(2, 3, 8, 8), 3) == f"ValueError: {'x' * MAX_ERROR_LENGTH}"


def test_one_image_fails_only_where_a_batch_norm_sees_one_value() -> None:
    tall = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten())
    assert forward_failure(tall, torch.rand(1, 3, 8, 8), 3).startswith("ValueError: Expected more than 1 value per channel when training")
    assert forward_failure(tall, torch.rand(2, 3, 8, 8), 3) == ""
    assert forward_failure(network(), torch.rand(1, 3, 16, 16), 3) == ""


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (lambda images: (images, images), "it returns a tuple; expected logits of shape (2, 3), for 2 images and 3 classes"),
        (lambda images: torch.zeros(len(images), 5), "it returns float32 of shape (2, 5); expected logits of shape (2, 3), for"),
        (lambda images: torch.zeros(len(images), 3, 1), "it returns float32 of shape (2, 3, 1); expected"),
        (lambda images: torch.zeros(len(images), 3, dtype=torch.int64), "it returns int64 of shape (2, 3); expected"),
    ],
)
def test_only_logits_of_the_classes_are_accepted(answer, failure) -> None:
    assert forward_failure(Answering(answer), torch.rand(2, 3, 8, 8), 3).startswith(failure)


def test_neither_the_network_nor_any_random_state_changes() -> None:
    class Drawing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images + random.random() + np.random.rand() + torch.rand(1)  # noqa: NPY002

    model = nn.Sequential(Drawing(), *network())
    model(torch.rand(2, 3, 8, 8))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002 # pyright: ignore[reportArgumentType]
    assert forward_failure(model, torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 3) == ""
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002 # pyright: ignore[reportArgumentType]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


class OtherInEval(nn.Linear):
    """A layer that forgets its batch in eval mode."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as in torch)
        return super().forward(input)[0 if not self.training else slice(None)]


def test_learning_takes_gradients_and_logits_in_eval_mode() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert learning_failure(network(), images, 3) == ""
    detached = Answering(lambda images: torch.zeros(len(images), 3))
    assert learning_failure(detached, images, 3).startswith("RuntimeError: element 0 of tensors does not require grad")
    forgetful = nn.Sequential(nn.Flatten(), OtherInEval(192, 3))
    assert forward_failure(forgetful, images, 3) == ""
    assert learning_failure(forgetful, images, 3).startswith(
        "in eval mode it returns float32 of shape (3,); expected logits of shape (2, 3)"
    )


def test_a_trial_leaves_no_gradient_behind() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    before = torch.get_rng_state()
    learning_failure(model, torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)
