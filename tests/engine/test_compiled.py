from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine import compiled as module
from cnnkit.engine.compiled import CompileTimes, Work, decide, time_compilation
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import CompiledNetwork, Step

CPU = Runtime(torch.device("cpu"), reason="probed")
SHAPE = (4, 3, 8, 8)


class Network(nn.Module):
    """A network with statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 2))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@pytest.fixture
def fake_compiler(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Replace torch.compile; return the list of the shapes of the batches that pass the compiled network."""
    seen: list[tuple[int, ...]] = []

    def compiled(model: nn.Module, **options: object) -> Callable[[Tensor], Tensor]:
        assert options == {"dynamic": False, "mode": "default"}
        return lambda images: seen.append(tuple(images.shape)) or model(images)

    monkeypatch.setattr(torch, "compile", compiled)
    return seen


def timed(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Make `take_turns` return the `seconds` of one step, then of two."""
    left = iter(seconds)

    def take(steps: Sequence[Callable[[], object]], _: object) -> list[float]:
        for step in steps:
            step()
        return [next(left) for _ in steps]

    monkeypatch.setattr(module, "take_turns", take)


def test_other_shapes_and_paused_batches_pass_the_network_uncompiled(fake_compiler) -> None:
    network = CompiledNetwork(Network(), "default", SHAPE)
    for size, edge in ((4, 8), (3, 8), (4, 8)):
        network(torch.rand(size, 3, edge, edge))
    network.paused = True
    network(torch.rand(SHAPE))
    network.paused = False
    first = CompiledNetwork(Network(), "default")
    first(torch.rand(3, 3, 8, 8))
    first(torch.rand(SHAPE))
    assert fake_compiler == [SHAPE, SHAPE, (3, 3, 8, 8)]


def test_a_compiled_step_has_the_gradients_of_the_step(fake_compiler) -> None:
    labels = torch.tensor([0, 1, 1, 0])
    found: list[list[Tensor]] = []
    for runtime in (CPU, CPU.with_compilation()):
        torch.manual_seed(0)
        model = Network()
        step = Step(model, torch.optim.SGD(model.parameters()), OptimConfig(), runtime, None, compiled_shape=SHAPE)
        list(step.gradients([(torch.rand(SHAPE), labels), (torch.rand(3, 3, 8, 8), labels[:3])]))
        found.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert fake_compiler == [SHAPE]
    assert all(map(torch.equal, *found))


def test_the_graphs_of_a_gpu_need_one_batch_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: modes.append(options["mode"]) or model)
    model = Network()
    runtime = Runtime(torch.device("cuda"), compiled=True)
    for accumulate in (1, 2):
        Step(model, torch.optim.SGD(model.parameters()), OptimConfig(accumulate=accumulate), runtime, None)
    assert modes == ["reduce-overhead", "default"]


def test_graphs_begin_a_step_and_return_logits_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    buffer = torch.zeros(4, 2)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda images: buffer.fill_(float(images[0, 0, 0, 0])))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(True))
    network = CompiledNetwork(Network(), "reduce-overhead", SHAPE)
    first, second = network(torch.full(SHAPE, 1.0)), network(torch.full(SHAPE, 2.0))
    assert (float(first.mean()), float(second.mean()), begun) == (1.0, 2.0, [True, True])


@pytest.mark.parametrize(
    ("work", "times", "compiled", "reason", "note"),
    [
        (
            Work(1000, 0, 1.0), CompileTimes(0.1, 0.05, 20), True, "probed; saves 50 s for 20 s",
            "--compile: compiling takes 20 s and saves 50 s of 100 s of training (a compiled step takes 0.50 of the time)",
        ),
        (
            Work(1000, 0, 0.25), CompileTimes(0.1, 0.05, 20), False, "probed; not compiled",
            ("--compile: not compiled, because compiling takes 20 s and saves 12 s of 100 s of training "
            "(a compiled step takes 0.50 of the time)"),
        ),
        (
            Work(1000, 30, 1.0), CompileTimes(0.1, 0.2, 20), False, "probed; not compiled",
            ("--compile: not compiled, because compiling takes 20 s and saves 0 s of 30 s of training "
            "(a compiled step takes 2.00 of the time)"),
        ),
        (
            Work(1000, 20, 1.0), CompileTimes(0.1, None, 10), False, "probed; not compiled",
            "--compile: not compiled, because compiling takes more than 10 s here, and it can save at most 6 s of 20 s of training",
        ),
    ],
)  # fmt: skip
def test_a_compilation_must_save_more_than_it_takes(work: Work, times: CompileTimes, compiled: bool, reason: str, note: str) -> None:
    runtime, told = decide(CPU, times, work)
    assert (runtime.compiled, runtime.reason, told) == (compiled, reason, note)


def test_the_times_are_those_of_the_step_and_nothing_else_changes(fake_compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 0.5, 0.4, 0.1)
    ticks = iter([0.0, 33.0])
    model = Network().eval()
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    found = time_compilation(model, OptimConfig(), CPU, SHAPE, Work(1000, 0, 1.0), lambda: next(ticks))
    assert found == CompileTimes(0.4, 0.1, 33.0)
    assert fake_compiler == [SHAPE, SHAPE]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_short_training_is_not_compiled_at_all(fake_compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 0.5)
    found = time_compilation(Network(), OptimConfig(), CPU, SHAPE, Work(1000, 15.0, 1.0))
    assert found == CompileTimes(0.5, None, module.MIN_COMPILE_SECONDS)
    assert fake_compiler == []


def test_a_compilation_stops_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **__: object) -> Callable[[Tensor], Tensor]:
        def compile_for_ever(images: Tensor) -> Tensor:
            while True:
                images = images + 0

        return compile_for_ever

    monkeypatch.setattr(torch, "compile", endless)
    monkeypatch.setattr(module, "MIN_COMPILE_SECONDS", 0.1)
    found = time_compilation(Network(), OptimConfig(), CPU, SHAPE, Work(1000, 1.0, 1.0))
    assert (found.compiled, found.seconds) == (None, pytest.approx(module.MAX_SAVED_SHARE))


@pytest.mark.slow
def test_torch_compiles_once_and_the_training_uses_its_code() -> None:
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler")
    torch.manual_seed(0)
    model, labels = Network(), torch.tensor([0, 1, 1, 0])
    counters.clear()
    found = time_compilation(model, OptimConfig(), CPU, SHAPE, Work(1000, 10_000.0, 1.0))
    assert found.compiled is not None
    graphs = counters["stats"]["unique_graphs"]
    assert graphs >= 1
    images = torch.rand(SHAPE)
    model.train()
    with config.patch(error_on_recompile=True):
        step = Step(model, torch.optim.SGD(model.parameters()), OptimConfig(), CPU.with_compilation(), None, compiled_shape=SHAPE)
        for size in (4, 3, 4, 3):
            list(step.gradients([(images[:size], labels[:size])]))
    assert counters["stats"]["unique_graphs"] == graphs
