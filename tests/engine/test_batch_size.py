from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine import batch_size as module
from cnnkit.engine.batch_size import BatchSize, choose_batch_size, find_fast, find_largest, max_batch_size
from cnnkit.engine.custom import BUILT_IN
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import ConfigError

CPU = torch.device("cpu")
GB = 10**9
ANY = BatchSize(512, "larger batches are not tried")


class Machine:
    """A clock, and steps that take `takes[size]` seconds."""

    def __init__(self, takes: dict[int, float]) -> None:
        self.takes, self.now = takes, 0.0
        self.asked: list[int] = []

    def clock(self) -> float:
        return self.now

    def step(self, size: int) -> None:
        self.asked.append(size)
        self.now += self.takes[size]

    def choose(self, least: int = 32, most: BatchSize = ANY) -> BatchSize:
        return find_fast(self.step, least, most, self.clock)


class Watched(nn.Module):
    """A small network that records its batch sizes and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 2))
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return self.layers(images)

    def __deepcopy__(self, _: object) -> Watched:  # trials use copies, which share one list
        copy = Watched()
        copy.load_state_dict(self.state_dict())
        copy.seen = self.seen
        return copy


def chosen(model: nn.Module, *, images: int = 10**6, free: int = GB, accumulate: int = 1, runtime: Runtime | None = None) -> BatchSize:
    ticks: Iterator[float] = iter(range(10**6))
    return choose_batch_size(
        model,
        OptimConfig(accumulate=accumulate),
        runtime or Runtime(CPU),
        image_shape=(3, 8, 8),
        classes=2,
        images=images,
        free=free,
        clock=lambda: next(ticks) / 100,
    )


# --- by speed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("takes", "size"),
    [
        ({32: 0.032, 64: 0.032, 128: 0.032, 256: 0.032, 512: 0.032}, 512),  # a step takes the same time for all sizes
        ({32: 0.032, 64: 0.040, 128: 0.080, 256: 0.160, 512: 0.320}, 64),  # no faster above 64
        ({32: 0.032, 64: 0.062, 128: 0.123, 256: 0.246, 512: 0.492}, 32),  # within 5 %
        ({32: 0.032, 64: 0.060, 128: 0.120, 256: 0.240, 512: 0.480}, 64),  # 6.7 % faster
        ({32: 0.032, 64: 0.050, 128: 0.120, 256: 0.300, 512: 0.700}, 64),  # slower again
    ],
)
def test_the_smallest_of_the_fastest_sizes_is_chosen(takes: dict[int, float], size: int) -> None:
    found = Machine(takes).choose()
    assert found.images == size
    assert "the smallest within 5 % of the fastest; images/s 32: 1,000, 64: " in found.reason


def test_the_search_ends_when_the_time_is_up() -> None:
    machine = Machine({32: 0.3, 64: 0.3})
    assert machine.choose().images == 64
    assert machine.asked == [32, 32, 64, 64]  # two steps of 128 would take 1.2 s and end after 2.4 s


def test_a_step_of_many_seconds_is_made_once() -> None:
    machine = Machine({32: 9.0})
    assert machine.choose().images == 32
    assert machine.asked == [32]


def test_the_first_step_of_a_size_does_not_count() -> None:
    class Cold(Machine):
        def step(self, size: int) -> None:
            self.now += 0.3 * (size not in self.asked)
            super().step(size)

    assert Cold({32: 0.1, 64: 0.1}).choose(most=BatchSize(64, "")).images == 64


def test_a_single_size_needs_no_trial() -> None:
    machine, only = Machine({}), BatchSize(32, "few images")
    assert machine.choose(most=only) is only


def test_the_search_ends_even_if_the_clock_stands_still() -> None:
    machine = Machine({32: 0.0, 64: 0.0})
    assert machine.choose(most=BatchSize(64, "")).images in {32, 64}


# --- by memory --------------------------------------------------------------------------------------------------------


def test_the_largest_size_that_fits_into_memory_is_chosen() -> None:
    asked: list[int] = []

    def step(size: int) -> int:
        asked.append(size)
        return size * GB // 10

    found = find_largest(step, BatchSize(1024, "larger batches are not tried"), free=10 * GB)
    assert found == BatchSize(32, "a step takes 3.2 of 10.0 GB of free memory; twice the images do not fit in 60 % of it")
    assert asked == [2, 4, 8, 16, 32, 64]


def test_running_out_of_memory_ends_the_search() -> None:
    def step(size: int) -> int:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return GB

    assert find_largest(step, BatchSize(1024, ""), free=10 * GB).images == 16


def test_with_memory_to_spare_the_bound_is_chosen() -> None:
    found = find_largest(lambda _: GB, BatchSize(256, "few training images"), free=10 * GB)
    assert found == BatchSize(256, "a step takes 1.0 of 10.0 GB of free memory; few training images")


def test_a_network_too_large_for_two_images_is_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match=r"not even 2 images fit in 60 % of the free memory; try a smaller --image-size"):
        find_largest(lambda _: GB, BatchSize(256, ""), free=GB)
    with pytest.raises(ConfigError, match="not even 2 images fit"):
        chosen(Watched(), free=1000)


def test_on_a_cpu_memory_is_a_limit_too() -> None:
    model = Watched()
    kept = module._Trial(model, OptimConfig(), Runtime(CPU), (3, 8, 8), 2, BUILT_IN).bytes_per_image()
    maps = 4 * 36 * 4  # bytes of the feature maps of an image
    assert kept >= 3 * 64 * 4 + 2 * maps  # the image, and the maps that normalisation and the last layer read again
    assert kept <= 3 * 64 * 4 + 6 * maps
    found = chosen(model, free=int(kept * 8 / module.MAX_MEMORY_SHARE) + 1)
    assert found == BatchSize(8, "the largest that fits in 60 % of 0.0 GB of free memory")


def test_a_step_on_a_gpu_is_measured_and_its_memory_released(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    values = {"memory_allocated": 100, "max_memory_allocated": 700, "memory_reserved": 300, "mem_get_info": (1000, 5000)}
    for name in ("reset_peak_memory_stats", "empty_cache", *values):

        def fake(*_: object, name: str = name) -> object:
            calls.append(name)
            return values.get(name)

        monkeypatch.setattr(torch.cuda, name, fake)
    model = Watched()
    noise = module._Trial(model, OptimConfig(), Runtime(CPU), (3, 8, 8), 2, BUILT_IN)
    assert module._gpu_bytes(noise, 16) == 600
    assert model.seen == [16, 16]
    assert calls[-2:] == ["empty_cache", "reset_peak_memory_stats"]
    assert module.free_gpu_bytes(torch.device("cuda")) == 1000 + 300 - 100


# --- by the data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "accumulate", "most", "expected"),
    [
        (10**6, 1, 1024, 1024),
        (41_000, 1, 1024, 1024),
        (10_000, 1, 1024, 512),
        (10_000, 4, 1024, 128),
        (1237, 1, 512, 64),
        (245, 1, 512, 32),
    ],
)
def test_an_epoch_keeps_enough_steps(images: int, accumulate: int, most: int, expected: int) -> None:
    found = max_batch_size(images, accumulate, most)
    assert found.images == expected
    few = f"with {images:,} training images, larger batches leave fewer than 16 steps per epoch"
    assert found.reason == ("larger batches are not tried" if expected == most else few)


# --- the trial leaves no trace ----------------------------------------------------------------------------------------


def test_the_trial_changes_neither_the_network_nor_the_random_state() -> None:
    model = Watched().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    found = chosen(model)
    assert torch.equal(torch.rand(1), expected)
    assert set(model.seen) >= {32, 64, found.images}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


def test_every_replica_counts_for_the_first_size() -> None:
    found = chosen(Watched(), images=2100, runtime=Runtime(CPU, replicas=4))
    assert found.images == 128


def test_a_trial_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", refused)
    assert chosen(Watched(), images=1100, runtime=Runtime(CPU, compiled=True)).images in {32, 64}
