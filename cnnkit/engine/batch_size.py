"""How many images make a step well: found by making some, with a copy of the network and images of noise."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.optim import build_optimizer
from cnnkit.engine.random_state import own_random_state
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step
from cnnkit.errors import ConfigError

LEAST = 2  # BatchNorm cannot learn from one image
SMALL = 32  # for each replica tried first on a CPU, and never too many for the data: up to 32 generalise best (arXiv:1804.07612)
MOST = 1024  # what airbench (arXiv:2404.00498) trains CIFAR-10 with; larger ones want another optimizer (arXiv:1708.03888)
MOST_ON_CPU = 512  # room for many cores; one core is fastest below 256: see docs/benchmarks/LOG.md, "Batch size on a CPU"
# Of an epoch: fewer than ten cost accuracy, see docs/benchmarks/LOG.md, "Steps of an epoch".
STEPS = 16
MEMORY_SHARE = 0.6  # of what is free, as Ultralytics takes: validation, augmentation and other programs want some
GOOD = 0.95  # of the best speed is as good as the best
SECONDS = 2.0  # after which no larger batch is tried for its speed
EACH = 0.2  # seconds in which one size is timed, after a step that is not


@dataclass(frozen=True)
class BatchSize:
    """Images per step, and why so many, in words."""

    images: int
    reason: str


def choose_batch_size(
    model: nn.Module,
    config: OptimConfig,
    runtime: Runtime,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    images: int,
    free: int,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchSize:
    """Return the batch size for training `model` on so many `images` of `image_shape` (C, H, W); always a power of two.

    On a CUDA GPU it is the largest whose step takes no more than `MEMORY_SHARE` of the free memory; elsewhere, where more images
    make no step cheaper from some number on, the smallest that is as good as the fastest, and of `free` bytes of memory only that
    share may be needed. It is no larger than `most_images` says. ``config.batch_size`` and ``config.lr`` play no part; `model` and
    the random state are left as they were. Raises `ConfigError` if not even `LEAST` images fit.
    """
    cuda = runtime.device.type == "cuda"
    bound = most_images(images, config.accumulate, MOST if cuda else MOST_ON_CPU)
    runtime = replace(runtime, compiled=False)  # to compile for every size would take minutes
    with own_random_state(runtime.device, seed=0):
        noise = _Noise(copy.deepcopy(model).train(), config, runtime, image_shape, classes)
        if cuda:
            return largest_that_fits(lambda size: _gpu_bytes(noise, size), bound, _free_on_gpu(runtime.device))
        room = _power_of_two(MEMORY_SHARE * free / noise.bytes_per_image())
        if room < LEAST:
            raise _nothing_fits()
        limit = (
            bound
            if bound.images <= room
            else BatchSize(room, f"all that {100 * MEMORY_SHARE:.0f} % of {free / 1e9:.1f} GB of free memory hold")
        )
        return fast_enough(noise.step, min(SMALL * runtime.replicas, limit.images), limit, clock)


def most_images(images: int, accumulate: int, most: int = MOST) -> BatchSize:
    """Return the largest batch that leaves an epoch of so many training `images` `STEPS` steps, from `SMALL` to `most`."""
    allowed = _power_of_two(images / (STEPS * accumulate))
    if allowed >= most:
        return BatchSize(most, "no larger one is tried")
    few = f"{images:,} training images leave larger ones fewer than {STEPS} steps an epoch"
    return BatchSize(max(SMALL, allowed), few)


def fast_enough(step: Callable[[int], object], least: int, most: BatchSize, clock: Callable[[], float]) -> BatchSize:
    """Time ``step(size)`` for doubling sizes from `least` to `most`; return the smallest that reaches `GOOD` of the best images/s.

    A size is tried only while `SECONDS` have room for it.
    """
    sizes = list(_doubling(least, most.images))
    if len(sizes) == 1:
        return most
    began = clock()
    speeds: dict[int, float] = {}
    for size in sizes:
        seconds = _seconds(lambda size=size: step(size), clock)
        speeds[size] = size / max(seconds, 1e-9)
        if clock() - began + 4 * seconds > SECONDS:  # twice the images, and twice: the first step does not count
            break
    chosen = next(size for size in speeds if speeds[size] >= GOOD * max(speeds.values()))
    measured = ", ".join(f"{size}: {speed:,.0f}" for size, speed in speeds.items())
    return BatchSize(chosen, f"the smallest within {100 * (1 - GOOD):.0f} % of the fastest; images/s {measured}")


def largest_that_fits(step: Callable[[int], int], most: BatchSize, free: int) -> BatchSize:
    """Return the largest size up to `most` for which ``step(size)`` says that it took no more than its share of `free` bytes.

    ``step`` may raise `torch.OutOfMemoryError`. Raises `ConfigError` if not even `LEAST` images fit.
    """
    fits, took = 0, 0
    for size in _doubling(LEAST, most.images):
        try:
            needed = step(size)
        except torch.OutOfMemoryError:
            break
        if needed > MEMORY_SHARE * free:
            break
        fits, took = size, needed
    if not fits:
        raise _nothing_fits()
    why = most.reason if fits == most.images else f"twice as many do not fit in {100 * MEMORY_SHARE:.0f} % of it"
    return BatchSize(fits, f"a step takes {took / 1e9:.1f} of {free / 1e9:.1f} GB of free memory; {why}")


class _Noise:
    """Steps of training on noise, at a rate that changes next to nothing."""

    def __init__(self, model: nn.Module, config: OptimConfig, runtime: Runtime, image_shape: tuple[int, int, int], classes: int) -> None:
        self._model = model
        self._step = Step(model, build_optimizer(model, config), config, runtime, None)
        self._runtime = runtime
        self._shape = image_shape
        self._classes = classes

    def step(self, size: int) -> None:
        """Make one update from `size` images, and wait until it is done."""
        losses = [loss for loss, _, _ in self._step.gradients([self._batch(size)])]
        self._step.update()
        losses[0].item()

    def bytes_per_image(self) -> float:
        """Return the memory that the forward pass keeps for the backward pass, per image."""
        parameters = {parameter.data_ptr() for parameter in self._model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in parameters:
                kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        images, _ = self._batch(LEAST)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), self._runtime.autocast():
            logits = self._model(self._runtime.laid_out(images))  # what was kept is not freed, and no address used twice, while this lives
        del logits
        return max(1.0, sum(kept.values()) / LEAST)

    def _batch(self, size: int) -> tuple[Tensor, Tensor]:
        device = self._runtime.device
        return torch.rand((size, *self._shape), device=device), torch.randint(self._classes, (size,), device=device)


def _gpu_bytes(noise: _Noise, size: int) -> int:
    """Make two steps, the first of which also makes the optimizer's memory, and return the bytes that they needed at most."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        for _ in range(2):
            noise.step(size)
        return torch.cuda.max_memory_allocated() - before
    finally:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _free_on_gpu(device: torch.device) -> int:
    """Bytes of the GPU that nobody uses, those that torch holds in reserve included."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _seconds(step: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of a step: the least of as many as fit into `EACH`, after one that is not counted unless it took `SECONDS`."""
    best, spent = float("inf"), 0.0
    for attempt in range(20):
        started = clock()
        step()
        took = clock() - started
        if not attempt and took >= SECONDS:
            return took
        if attempt:
            best, spent = min(best, took), spent + took
        if spent > EACH:
            break
    return best


def _doubling(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def _power_of_two(number: float) -> int:
    """The largest power of two up to `number`; 0 below 1."""
    return 1 << (int(number).bit_length() - 1) if number >= 1 else 0


def _nothing_fits() -> ConfigError:
    return ConfigError(
        f"--batch-size auto: not even {LEAST} images fit in {100 * MEMORY_SHARE:.0f} % of the free memory; "
        "try a smaller --image-size or --arch, or end other programs"
    )
