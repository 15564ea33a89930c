from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.optim import build_optimizer
from cnnkit.engine.replicas import Replicas, draws_by_itself
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step

CPU = torch.device("cpu")
K, N = 3, 9


def network(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *more, nn.Flatten(), nn.Linear(4 * 36, K))
    model.train()
    return model


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((N, 1, 8, 8), generator=generator), torch.arange(N) % K


def gradients(model: nn.Module, runtime: Runtime, batches: list[tuple[Tensor, Tensor]], weights: Tensor | None = None) -> list[Tensor]:
    """Return the gradients of one step over `batches`, and check its losses and logits."""
    config = OptimConfig(label_smoothing=0.1)
    step = Step(model, build_optimizer(model, config), config, runtime, weights)
    criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
    for (loss, logits, labels), (images, expected) in zip(step.gradients(batches), batches, strict=True):
        assert labels is expected
        assert logits.shape == (len(images), K)
        assert not loss.requires_grad
        assert not logits.requires_grad
        torch.testing.assert_close(loss, criterion(logits, labels))
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("replicas", [2, 3, 20])  # 20: more than there are images
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0])])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_gradients_equal_those_of_the_whole_batch(
    batch: tuple[Tensor, Tensor], replicas: int, weights: Tensor | None, mixed: bool
) -> None:
    images, labels = batch
    if mixed:
        labels = functional.one_hot(labels, K).float() * 0.7 + 0.1
    model = network()
    accumulated = [(images, labels), (images.flip(0), labels)]
    expected = gradients(copy.deepcopy(model), Runtime(CPU), accumulated, weights)
    found = gradients(model, Runtime(CPU, replicas=replicas), accumulated, weights)
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_replicas_use_the_new_weights_after_an_update(batch: tuple[Tensor, Tensor]) -> None:
    results: list[dict[str, Tensor]] = []
    for count in (1, 2):
        model = network()
        config = OptimConfig(optimizer="sgd", lr=0.1)
        step = Step(model, build_optimizer(model, config), config, Runtime(CPU, replicas=count), None)
        for _ in range(3):
            list(step.gradients([batch]))
            step.update()
        results.append(model.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-5, atol=1e-6)


def test_batch_normalisation_sees_parts_and_its_statistics_are_averaged(batch: tuple[Tensor, Tensor]) -> None:
    images = batch[0][:8]
    model = nn.Sequential(nn.BatchNorm2d(1, momentum=1.0), nn.Flatten(), nn.Linear(64, K))
    gradients(model, Runtime(CPU, replicas=2), [(images, batch[1][:8])])
    norm = model[0]
    assert isinstance(norm, nn.BatchNorm2d)
    halves = images[:4], images[4:]
    torch.testing.assert_close(norm.running_mean, torch.stack([half.mean() for half in halves]).mean(0, keepdim=True))
    torch.testing.assert_close(norm.running_var, torch.stack([half.var() for half in halves]).mean(0, keepdim=True))
    assert norm.num_batches_tracked == 1


def test_dropout_repeats_itself_and_differs_between_steps_and_parts() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    model.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    images = torch.ones(4, 1, 8, 8)

    def masks(steps: int) -> Iterator[Tensor]:
        torch.manual_seed(7)
        replicas = Replicas(model, 2, 1)
        for _ in range(steps):
            leaf = torch.zeros(4, requires_grad=True)
            yield replicas.gradients(images, leaf, lambda net, part, labels: ((out := net(part)).sum() + labels.sum(), out))[1]

    first, second = masks(2)
    again, _ = masks(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:2], first[2:])
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < float((first > 0).float().mean()) < 0.7


def test_dropout_is_off_in_eval_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, K)).eval()
    images = torch.ones(4, 1, 8, 8)
    _, logits = Replicas(model, 2, 1).gradients(images, torch.zeros(4), lambda net, part, _: ((out := net(part)).sum(), out))
    torch.testing.assert_close(logits, model(images).detach())


def test_frozen_parameters_and_statistics_do_not_change(batch: tuple[Tensor, Tensor]) -> None:
    model = network(nn.BatchNorm2d(4))
    model[0].requires_grad_(False)
    model[2].eval()
    before = copy.deepcopy(model[2].state_dict())
    config = OptimConfig()
    step = Step(model, build_optimizer(model, config), config, Runtime(CPU, replicas=2), None)
    list(step.gradients([batch]))
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == ["0.weight", "0.bias"]
    assert all(torch.equal(value, before[name]) for name, value in model[2].state_dict().items())
    model[0].requires_grad_(True)  # frozen epochs end
    list(step.gradients([batch]))
    assert all(parameter.grad is not None for parameter in model.parameters())


class Noise(nn.Module):
    """A layer that draws from torch's own generator."""

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.rand_like(images)


@pytest.mark.parametrize(("layer", "expected"), [(nn.Dropout(0.5), False), (Noise(), True), (nn.Dropout2d(0.5), True)])
def test_random_draws_outside_dropout_are_found(layer: nn.Module, expected: bool) -> None:
    model = network(layer).eval()
    before = torch.get_rng_state()
    assert draws_by_itself(model, torch.zeros(2, 1, 8, 8)) is expected
    assert torch.equal(torch.get_rng_state(), before)
    assert model[2] is layer
    assert not model.training
