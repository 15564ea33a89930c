from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from cnnkit.engine import runtime as room
from cnnkit.engine.runtime import Runtime, choose_device, choose_runtime, pick
from cnnkit.errors import ConfigError

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


class Watched(nn.Module):
    """A small network that notes what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
        self.seen: list[tuple[int, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((len(images), self.training))
        return self.layers(images)

    def __deepcopy__(self, _: object) -> Watched:  # trials are copies; let them write to one list
        copy = Watched()
        copy.load_state_dict(self.state_dict())
        copy.seen = self.seen
        return copy


def probe(model: nn.Module, clock: Iterator[float], **options: object) -> Runtime:
    given = {"device": CPU, "precision": "auto", "image_shape": SHAPE, "batch_size": 4, "deterministic": False, **options}
    return choose_runtime(model, clock=clock.__next__, **given)  # pyright: ignore[reportArgumentType]


def ticking(*seconds: float) -> Iterator[float]:
    """A clock that is read before and after every step; the steps take so many seconds each."""
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
def test_the_fastest_wins_if_it_is_worth_it(seconds: list[float], expected: tuple[str, bool], reason: str) -> None:
    candidates = [Runtime(CPU), Runtime(CPU, channels_last=True), Runtime(CPU, "bf16", channels_last=True)]
    won = pick(candidates, seconds)
    assert (won.precision, won.channels_last) == expected
    assert won.reason == reason
    assert won.device == CPU


def test_a_tenth_faster_is_where_it_begins_to_be_worth_it() -> None:
    candidates = [Runtime(CPU), Runtime(CPU, "bf16")]
    assert pick(candidates, [1.1001, 1.0]).precision == "bf16"
    assert pick(candidates, [1.0999, 1.0]).precision == "fp32"


def test_the_probe_takes_the_arithmetic_that_the_clock_favours() -> None:
    # Each candidate takes two steps: the warm-up, which does not count, and one so long that the probe ends.
    chosen = probe(Watched(), ticking(*[1, 1.0], *[1, 0.9], *[2, 0.3]))
    assert (chosen.precision, chosen.channels_last) == ("bf16", True)
    assert "3.3x as fast" in chosen.reason
    chosen = probe(Watched(), ticking(*[9, 1.0], *[0.1, 1.0], *[0.1, 1.0]))
    assert (chosen.precision, chosen.channels_last) == ("fp32", False)


def test_the_probe_takes_the_least_of_several_steps_and_not_the_first() -> None:
    clock = ticking(0.01, 0.1, 0.06, 0.1)  # the warm-up, and three steps until 0.25 s are spent
    assert room._seconds_per_step(Watched(), Runtime(CPU), SHAPE, 4, clock.__next__) == pytest.approx(0.06)
    assert list(clock) == []


def test_the_probe_gives_a_hopeless_candidate_one_step() -> None:
    clock = ticking(1.0, 0.1, 0.1)
    assert room._seconds_per_step(Watched(), Runtime(CPU), SHAPE, 4, clock.__next__, give_up=0.9) == pytest.approx(1.0)
    assert len(list(clock)) == 4  # two steps were not taken


def test_the_probe_ends_even_where_the_clock_stands_still() -> None:
    model = Watched()
    probe(model, count(0.0, 1e-6))
    assert len(model.seen) <= 3 * 20


def test_the_probe_trains_copies_on_a_batch_of_bounded_size() -> None:
    model = Watched()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe(model, count(0.0, 1.0), batch_size=1)
    assert set(model.seen) == {(2, True)}  # BatchNorm cannot train on one image
    model.seen.clear()
    probe(model, count(0.0, 1.0), batch_size=16)
    assert set(model.seen) == {(16, True)}
    model.seen.clear()
    probe(model, count(0.0, 1.0), batch_size=10**6)
    assert set(model.seen) == {(room.PROBE_PIXELS // 64, True)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_is_not_probed(precision: str) -> None:
    model = Watched()
    chosen = probe(model, iter([]), precision=precision)
    assert chosen == Runtime(CPU, precision, channels_last=precision == "bf16", reason="--precision")
    assert model.seen == []


def test_deterministic_is_plain_fp32_without_a_probe() -> None:
    model = Watched()
    assert probe(model, iter([]), deterministic=True) == Runtime(CPU, "fp32", channels_last=False, reason="--deterministic")
    assert model.seen == []


def test_deterministic_keeps_a_precision_that_is_asked_for() -> None:
    assert probe(Watched(), iter([]), deterministic=True, precision="bf16").precision == "bf16"


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match="--precision fp16 needs a CUDA GPU; on cpu use auto, bf16 or fp32"):
        probe(Watched(), iter([]), precision="fp16")


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_not_probed(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    chosen = probe(Watched(), iter([]), device=torch.device("cuda"))
    assert (chosen.precision, chosen.channels_last) == (precision, True)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=rf"--device {name}: there is none that torch .* can use; here: cpu$"):
            choose_device(name)


def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu").type == "cpu"


def test_preparing_moves_the_model_into_the_memory_format() -> None:
    model = nn.Conv2d(3, 4, 3)
    assert Runtime(CPU).prepare(model) is model
    assert not model.weight.is_contiguous(memory_format=torch.channels_last)
    Runtime(CPU, channels_last=True).prepare(model)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_autocast_computes_in_the_precision() -> None:
    layer, images = nn.Linear(3, 2), torch.ones(1, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Runtime(CPU, precision).autocast():
            assert layer(images).dtype == dtype


def test_a_runtime_says_what_was_chosen() -> None:
    assert Runtime(CPU).describe() == "cpu, fp32"
    assert Runtime(CPU, "bf16", channels_last=True, reason="asked for").describe() == "cpu, bf16, channels last (asked for)"
