"""The choice of a batch size by trial: steps of a copy of the network on images of noise."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.custom import BUILT_IN, Custom
from cnnkit.engine.optim import build_optimizer
from cnnkit.engine.random_state import own_random_state
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step
from cnnkit.errors import ConfigError, counted

MIN_BATCH_SIZE = 2  # BatchNorm cannot learn from one image
SMALL_BATCH_SIZE = 32  # per replica; the first size tried on a CPU, allowed for all data: up to 32 generalise best (arXiv:1804.07612)
MAX_BATCH_SIZE = 1024  # airbench's for CIFAR-10 (arXiv:2404.00498); larger batches need another optimizer (arXiv:1708.03888)
MAX_CPU_BATCH_SIZE = 512  # for many cores; one core is fastest below 256: see docs/benchmarks/LOG.md, "Batch size on a CPU"
MIN_STEPS_PER_EPOCH = 16  # fewer than ten cost accuracy, see docs/benchmarks/LOG.md, "Steps of an epoch"
MAX_MEMORY_SHARE = 0.6  # of free memory, as in Ultralytics: validation, augmentation and other programs need the rest
GOOD_SPEED_SHARE = 0.95  # of the best speed; a smaller batch this fast is preferred
MAX_SEARCH_SECONDS = 2.0  # for the trials of speed
TIMING_SECONDS = 0.2  # for the timed steps of one size


@dataclass(frozen=True)
class BatchSize:
    """The number of images per step, and the reason in words."""

    images: int
    reason: str


def choose_batch_size(  # noqa: PLR0913 (values flow, not namespaces)
    model: nn.Module,
    config: OptimConfig,
    runtime: Runtime,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    images: int,
    free: int,
    custom: Custom = BUILT_IN,
    clock: Callable[[], float] = time.perf_counter,
    ranks: int = 1,
) -> BatchSize:
    """Return the batch size for training `model` on `images` images of `image_shape` (C, H, W), a power of two.

    On a CUDA GPU it is the largest batch whose step fits into `MAX_MEMORY_SHARE` of the free memory. On a CPU larger
    batches soon stop being faster, so it is the smallest that is about as fast as the fastest. `free` is the free memory
    of the CPU in bytes. `max_batch_size` is the upper bound of both. ``config.batch_size`` and ``config.lr`` are not used.
    `model` and the random state do not change. With several `ranks`, the size is that of the part of one rank; the images of all ranks
    stay below the bound for one process. Raises `ConfigError` if not even `MIN_BATCH_SIZE` images fit.
    """
    is_cuda = runtime.device.type == "cuda"
    whole = max_batch_size(images, config.accumulate, MAX_BATCH_SIZE if is_cuda else MAX_CPU_BATCH_SIZE)
    bound = whole if ranks == 1 else replace(whole, images=max(MIN_BATCH_SIZE, _power_of_two(whole.images / ranks)))
    runtime = replace(runtime, compiled=False)  # compiling for every size would take minutes
    with own_random_state(runtime.device, seed=0):
        trial = _Trial(copy.deepcopy(model).train(), config, runtime, image_shape, classes, custom)
        if is_cuda:
            return find_largest(lambda size: _gpu_bytes(trial, size), bound, free_gpu_bytes(runtime.device))
        fitting = _power_of_two(MAX_MEMORY_SHARE * free / trial.bytes_per_image())
        if fitting < MIN_BATCH_SIZE:
            raise _nothing_fits()
        limit = (
            bound
            if bound.images <= fitting
            else BatchSize(fitting, f"the largest that fits in {100 * MAX_MEMORY_SHARE:.0f} % of {free / 1e9:.1f} GB of free memory")
        )
        return find_fast(trial.step, min(SMALL_BATCH_SIZE * runtime.replicas, limit.images), limit, clock)


def max_batch_size(images: int, accumulate: int, limit: int = MAX_BATCH_SIZE) -> BatchSize:
    """Return the largest batch size for `images` training images, from `SMALL_BATCH_SIZE` to `limit`.

    An epoch keeps at least `MIN_STEPS_PER_EPOCH` steps, unless the images are too few for that.
    """
    allowed = _power_of_two(images / (MIN_STEPS_PER_EPOCH * accumulate))
    if allowed >= limit:
        return BatchSize(limit, "larger batches are not tried")
    few = f"with {counted(images, 'training image')}, larger batches leave fewer than {MIN_STEPS_PER_EPOCH} steps per epoch"
    return BatchSize(max(SMALL_BATCH_SIZE, allowed), few)


def find_fast(step: Callable[[int], object], least: int, most: BatchSize, clock: Callable[[], float]) -> BatchSize:
    """Return the smallest batch size from `least` to `most` that reaches `GOOD_SPEED_SHARE` of the best images/s.

    ``step(size)`` is timed for doubling sizes, as long as the next one fits into `MAX_SEARCH_SECONDS`.
    """
    sizes = list(_doubling(least, most.images))
    if len(sizes) == 1:
        return most
    began = clock()
    speeds: dict[int, float] = {}
    for size in sizes:
        seconds = _seconds(lambda size=size: step(size), clock)
        speeds[size] = size / max(seconds, 1e-9)
        if clock() - began + 4 * seconds > MAX_SEARCH_SECONDS:  # the next size takes two steps of twice the images
            break
    chosen = next(size for size in speeds if speeds[size] >= GOOD_SPEED_SHARE * max(speeds.values()))
    measured = ", ".join(f"{size}: {speed:,.0f}" for size, speed in speeds.items())
    return BatchSize(chosen, f"the smallest within {100 * (1 - GOOD_SPEED_SHARE):.0f} % of the fastest; images/s {measured}")


def find_largest(step: Callable[[int], int], most: BatchSize, free: int) -> BatchSize:
    """Return the largest batch size up to `most` whose step needs at most `MAX_MEMORY_SHARE` of `free` bytes.

    ``step(size)`` returns the bytes that it needed, or raises `torch.OutOfMemoryError`. Raises `ConfigError` if not even
    `MIN_BATCH_SIZE` images fit.
    """
    fits, took = 0, 0
    for size in _doubling(MIN_BATCH_SIZE, most.images):
        try:
            needed = step(size)
        except torch.OutOfMemoryError:
            break
        if needed > MAX_MEMORY_SHARE * free:
            break
        fits, took = size, needed
    if not fits:
        raise _nothing_fits()
    why = most.reason if fits == most.images else f"twice the images do not fit in {100 * MAX_MEMORY_SHARE:.0f} % of it"
    return BatchSize(fits, f"a step takes {took / 1e9:.1f} of {free / 1e9:.1f} GB of free memory; {why}")


class _Trial:
    """Training steps on noise, with a learning rate that hardly changes the weights."""

    def __init__(
        self, model: nn.Module, config: OptimConfig, runtime: Runtime, image_shape: tuple[int, int, int], classes: int, custom: Custom
    ) -> None:
        self._model = model
        self._step = Step(model, build_optimizer(model, config, custom.optimizer), config, runtime, None, custom.loss)
        self._runtime = runtime
        self._shape = image_shape
        self._classes = classes

    def step(self, size: int) -> None:
        """Make one update from `size` images and wait for its end."""
        losses = [loss for loss, _, _ in self._step.gradients([self._batch(size)])]
        self._step.update()
        losses[0].item()

    def bytes_per_image(self) -> float:
        """Return the bytes per image that the forward pass keeps for the backward pass."""
        parameters = {parameter.data_ptr() for parameter in self._model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in parameters:
                kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        images, _ = self._batch(MIN_BATCH_SIZE)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), self._runtime.autocast():
            logits = self._model(self._runtime.to_memory_format(images))  # keeps the tensors alive, so that no address is used twice
        del logits
        return max(1.0, sum(kept.values()) / MIN_BATCH_SIZE)

    def _batch(self, size: int) -> tuple[Tensor, Tensor]:
        device = self._runtime.device
        return torch.rand((size, *self._shape), device=device), torch.randint(self._classes, (size,), device=device)


def _gpu_bytes(trial: _Trial, size: int) -> int:
    """Return the peak memory in bytes of two steps; the first step also allocates the state of the optimizer."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        for _ in range(2):
            trial.step(size)
        return torch.cuda.max_memory_allocated() - before
    finally:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def free_gpu_bytes(device: torch.device) -> int:
    """Return the free bytes of the GPU, including the unused bytes that torch has reserved."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _seconds(step: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the least seconds of the steps that fit into `TIMING_SECONDS`.

    The first step does not count, because it also allocates memory. It is the only one if it takes `MAX_SEARCH_SECONDS`.
    """
    best, spent = float("inf"), 0.0
    for attempt in range(20):
        started = clock()
        step()
        took = clock() - started
        if not attempt and took >= MAX_SEARCH_SECONDS:
            return took
        if attempt:
            best, spent = min(best, took), spent + took
        if spent > TIMING_SECONDS:
            break
    return best


def _doubling(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def _power_of_two(number: float) -> int:
    """Return the largest power of two up to `number`; 0 below 1."""
    return 1 << (int(number).bit_length() - 1) if number >= 1 else 0


def _nothing_fits() -> ConfigError:
    return ConfigError(
        f"--batch-size auto: not even {MIN_BATCH_SIZE} images fit in {100 * MAX_MEMORY_SHARE:.0f} % of the free memory; "
        "try a smaller --image-size or --arch, or close other programs"
    )
