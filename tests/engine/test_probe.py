from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from cnnkit.engine import probe as module
from cnnkit.engine.probe import check_compiler, choose_runtime, pick_replicas, pick_runtime, take_turns, training_speed
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import ConfigError

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


class Watched(nn.Module):
    """A small network that records its batches and modes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
        self.seen: list[tuple[int, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((len(images), self.training))
        return self.layers(images)

    def __deepcopy__(self, _: object) -> Watched:  # trials use copies, which share one list
        copy = Watched()
        copy.load_state_dict(self.state_dict())
        copy.seen = self.seen
        return copy


def probe(model: nn.Module, **options: object) -> Runtime:
    given = {"device": CPU, "precision": "auto", "image_shape": SHAPE, "batch_size": 4, "deterministic": False, **options}
    return choose_runtime(model, **given)  # pyright: ignore[reportArgumentType]


def ticking(*seconds: float) -> Iterator[float]:
    """Yield the times before and after steps that take `seconds`."""
    now = 0.0
    for took in seconds:
        yield now
        now += took
        yield now


@pytest.mark.parametrize(
    ("seconds", "expected", "reason"),
    [
        ([1.0, 1.0, 1.0], ("fp32", False), "fastest in the probe"),
        ([1.0, 0.95, 0.92], ("fp32", False), "fastest in the probe"),  # not worth leaving plain fp32
        ([1.0, 0.8, 0.9], ("fp32", True), "1.2x as fast as plain fp32 in the probe"),
        ([1.0, 0.8, 0.4], ("bf16", True), "2.5x as fast as plain fp32 in the probe"),
        ([1.0, 2.0, 3.0], ("fp32", False), "fastest in the probe"),
    ],
)
def test_the_fastest_wins_if_it_gains_enough(seconds: list[float], expected: tuple[str, bool], reason: str) -> None:
    candidates = [Runtime(CPU), Runtime(CPU, channels_last=True), Runtime(CPU, "bf16", channels_last=True)]
    won = pick_runtime(candidates, seconds)
    assert (won.precision, won.channels_last) == expected
    assert won.reason == reason
    assert won.device == CPU


def test_a_tenth_is_enough_to_gain() -> None:
    candidates = [Runtime(CPU), Runtime(CPU, "bf16")]
    assert pick_runtime(candidates, [1.1001, 1.0]).precision == "bf16"
    assert pick_runtime(candidates, [1.0999, 1.0]).precision == "fp32"


def fake_turns(monkeypatch: pytest.MonkeyPatch, *seconds: list[float]) -> list[int]:
    """Make `take_turns` return `seconds`, call by call; return the list of the numbers of candidates."""
    left, asked = iter(seconds), list[int]()

    def take(steps: Sequence[Callable[[], object]], clock: object) -> list[float]:
        del clock
        asked.append(len(steps))
        for step in steps:
            step()
        return next(left)

    monkeypatch.setattr(module, "take_turns", take)
    return asked


@pytest.fixture(autouse=True)
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def test_the_probe_chooses_the_arithmetic_that_the_clock_favours(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_turns(monkeypatch, [1.0, 0.9, 0.3], [1.0, 1.0, 1.0])
    chosen = probe(Watched())
    assert (chosen.precision, chosen.channels_last) == ("bf16", True)
    assert "3.3x as fast" in chosen.reason
    chosen = probe(Watched())
    assert (chosen.precision, chosen.channels_last) == ("fp32", False)


def test_a_cpu_without_bf16_does_not_try_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    asked = fake_turns(monkeypatch, [1.0, 0.5])
    assert probe(Watched()).precision == "fp32"
    assert asked == [2]


def test_the_least_of_several_turns_counts_and_not_the_first() -> None:
    log: list[str] = []
    clock = ticking(9, 5, *[0.1, 0.2], *[0.05, 0.3], *[0.15, 0.18], *[0.2, 0.4])
    best = take_turns([lambda: log.append("a"), lambda: log.append("b")], clock.__next__)
    assert best == pytest.approx([0.05, 0.18])
    assert log == ["a", "b"] * 5
    assert list(clock) == []


def test_slow_steps_take_fewer_turns() -> None:
    log: list[str] = []
    clock = ticking(9, 5, *[0.5, 0.4], *[0.3, 0.6])  # 1.8 s in all
    best = take_turns([lambda: log.append("a"), lambda: log.append("b")], clock.__next__)
    assert best == pytest.approx([0.3, 0.4])
    assert log == ["a", "b"] * 3


def test_a_hopeless_candidate_gets_no_turn() -> None:
    log: list[str] = []
    clock = ticking(1.0, 3.0, *[0.3] * 4)
    best = take_turns([lambda: log.append("a"), lambda: log.append("b")], clock.__next__)
    assert best == pytest.approx([0.3, 3.0])
    assert log == ["a", "b", *"aaaa"]


def test_the_training_speed_comes_from_the_fastest_step() -> None:
    model = Watched()
    clock = ticking(9, 0.2, 0.3, 0.1, 0.35)
    speed = training_speed(model, Runtime(CPU), image_shape=(3, 8, 8), batch_size=16, clock=clock.__next__)
    assert speed == pytest.approx(16 / 0.1)
    assert model.seen == [(16, True)] * 5
    assert all(parameter.grad is None for parameter in model.parameters())


def test_turns_end_where_the_clock_stands_still() -> None:
    assert take_turns([list, dict], lambda: 0.0) == [0.0, 0.0]


def test_the_probe_trains_copies_on_a_batch_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    model = Watched()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe(model, batch_size=1)
    assert set(model.seen) == {(2, True)}  # BatchNorm cannot train on one image
    model.seen.clear()
    probe(model, batch_size=16)
    assert set(model.seen) == {(16, True)}
    model.seen.clear()
    probe(model, batch_size=10**6)
    assert set(model.seen) == {(module.MAX_PROBE_PIXELS // 64, True)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_given_precision_is_not_probed(precision: str) -> None:
    model = Watched()
    chosen = probe(model, precision=precision)
    assert chosen == Runtime(CPU, precision, channels_last=precision == "bf16", reason="--precision")
    assert model.seen == []


def test_deterministic_is_plain_fp32_without_a_probe() -> None:
    model = Watched()
    assert probe(model, deterministic=True) == Runtime(CPU, "fp32", channels_last=False, reason="--deterministic")
    assert model.seen == []


def test_deterministic_keeps_a_given_precision() -> None:
    assert probe(Watched(), deterministic=True, precision="bf16").precision == "bf16"


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match="--precision fp16 needs a CUDA GPU; on cpu use auto, bf16 or fp32"):
        probe(Watched(), precision="fp16")


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_not_probed(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    chosen = probe(Watched(), device=torch.device("cuda"))
    assert (chosen.precision, chosen.channels_last) == (precision, True)


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)


@pytest.mark.usefixtures("four_threads")
def test_replicas_are_tried_with_the_fastest_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_turns(monkeypatch, *([1.0, 0.8, 1.0], [0.8, 0.4]) * 2, [1.0, 0.8, 1.0], [0.8, 0.75])
    chosen = probe(Watched(), batch_size=64)
    assert (chosen.channels_last, chosen.replicas, chosen.threads) == (True, 2, 2)  # 64 images: 32 for each of two
    assert chosen.reason == "1.2x as fast as plain fp32 in the probe; replicas 2.0x as fast as one"
    chosen = probe(Watched(), batch_size=1000)
    assert (chosen.replicas, chosen.threads) == (4, 1)
    chosen = probe(Watched(), batch_size=64)
    assert (chosen.channels_last, chosen.replicas) == (True, 1)


@pytest.mark.usefixtures("four_threads")
def test_replicas_of_few_large_images_need_frozen_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_turns(monkeypatch, [1.0, 0.8, 1.0], [1.0, 0.8, 1.0], [0.8, 0.4])
    model, large = Wide(), {"image_shape": (3, 512, 512), "batch_size": 32}
    assert probe(model, **large).replicas == 1
    assert set(model.seen) == {(module.MIN_PROBE_IMAGES, True)}
    assert probe(model, freeze_norm=True, **large).replicas == 4


class Wide(Watched):
    """A small network for images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    def __deepcopy__(self, _: object) -> Wide:
        copy = Wide()
        copy.seen = self.seen
        return copy


@pytest.mark.usefixtures("four_threads")
def test_replicas_need_enough_images_and_repeatable_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_turns(monkeypatch, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert probe(Watched(), batch_size=63).replicas == 1
    noisy = nn.Sequential(Noise(), nn.Flatten(), nn.Linear(192, 2))
    assert probe(noisy, batch_size=64).replicas == 1
    assert asked == [3, 3]


class Noise(nn.Module):
    """A layer that draws from torch's own generator."""

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.rand_like(images)


def test_replicas_must_gain_enough() -> None:
    single, replicated = Runtime(CPU, reason="fastest"), Runtime(CPU, replicas=2)
    assert pick_replicas(single, 1.0, replicated, 0.92) == single
    assert pick_replicas(single, 1.0, replicated, 0.9).replicas == 2


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"--compile needs a C\+\+ compiler, and none of .* is on the PATH; install one, or leave it out"):
        check_compiler(CPU)
    with pytest.raises(ConfigError, match="--compile supports cpu and cuda, not mps; leave it out"):
        check_compiler(torch.device("mps"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="--compile needs Triton on a GPU; type: pip install triton; or leave it out"):
        check_compiler(torch.device("cuda"))
