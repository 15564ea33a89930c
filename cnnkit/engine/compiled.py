"""Compilation by torch.compile: the compiled form of a network for batches of one size, its cost, and whether the cost pays back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.eager import eager
from cnnkit.engine.probe import take_turns
from cnnkit.engine.random_state import own_random_state
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step, keep_norm_statistics
from cnnkit.engine.time_limit import TimeLimitReached, run_within

# Chosen; for measured compilations see docs/benchmarks/LOG.md, "Compilation that pays back".
MAX_SAVED_SHARE = 0.3  # of the time of a training that compiled steps are expected to save: 1.4 times the speed
MIN_COMPILE_SECONDS = 10.0  # of a small network


@dataclass(frozen=True)
class CompileTimes:
    """Seconds of a step `uncompiled` and `compiled`, and of the compilation; `compiled` is None if it did not end within `seconds`."""

    uncompiled: float
    compiled: float | None
    seconds: float


@dataclass(frozen=True)
class Work:
    """The training that a compilation may shorten: `batches`, or the `seconds` of a time budget; `share` of the batches can be compiled."""

    batches: int
    seconds: float
    share: float

    def seconds_at(self, step_seconds: float) -> float:
        """Return the seconds of the training with uncompiled steps of `step_seconds`."""
        return self.seconds or self.batches * step_seconds

    def limit(self, step_seconds: float) -> float:
        """Return the most seconds that a compilation may take, as compiled steps cannot save more."""
        return MAX_SAVED_SHARE * self.share * self.seconds_at(step_seconds)


def time_compilation(
    model: nn.Module,
    config: OptimConfig,
    runtime: Runtime,
    shape: tuple[int, ...],
    work: Work,
    clock: Callable[[], float] = time.perf_counter,
) -> CompileTimes:
    """Time a step of `model` by `runtime` on a batch of `shape` (N, C, H, W), uncompiled and compiled, and the compilation.

    The compilation stops at its limit. `model` is on its device. It and the random state do not change, but its compiled code stays for
    the training.
    """
    was_training, buffers = model.training, [buffer.clone() for buffer in model.buffers()]

    def step_of(runtime: Runtime, images: Tensor, labels: Tensor) -> Callable[[], object]:
        optimizer = eager(torch.optim.SGD)(model.parameters())  # it makes no update, so any optimizer will do
        step = Step(model, optimizer, config, runtime, None)
        return lambda: [float(loss) for loss, *_ in step.gradients([(images, labels)])]  # reading the loss waits for a GPU

    try:
        model.train()
        if config.freeze_norm:
            keep_norm_statistics(model)
        with own_random_state(runtime.device, seed=0):
            batch = torch.rand(shape, device=runtime.device), torch.zeros(shape[0], dtype=torch.int64, device=runtime.device)
            plain = step_of(runtime, *batch)
            (uncompiled,) = take_turns([plain], clock)
            limit = work.limit(uncompiled)
            if limit < MIN_COMPILE_SECONDS:
                return CompileTimes(uncompiled, None, MIN_COMPILE_SECONDS)
            step, start = step_of(runtime.with_compilation(), *batch), clock()
            try:
                run_within(limit, step)
            except TimeLimitReached:
                return CompileTimes(uncompiled, None, limit)
            seconds = clock() - start
            uncompiled, compiled = take_turns([plain, step], clock)
            return CompileTimes(uncompiled, compiled, seconds)
    finally:
        model.train(was_training)
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        for parameter in model.parameters():
            parameter.grad = None


def decide(runtime: Runtime, times: CompileTimes, work: Work) -> tuple[Runtime, str]:
    """Return `runtime`, compiled if the compilation saves more seconds than it takes, and a note with both figures.

    The rule is the same for a compilation that has just been done and for a remembered one, so that a repeated command trains the same.
    """
    whole = work.seconds_at(times.uncompiled)
    if times.compiled is None:
        most = MAX_SAVED_SHARE * work.share * whole
        note = f"compiling takes more than {times.seconds:.0f} s here, and it can save at most {most:.0f} s of {whole:.0f} s of training"
        return runtime.with_reason("not compiled"), f"--compile: not compiled, because {note}"
    ratio = times.compiled / times.uncompiled
    saved = whole * work.share * (1 - ratio)
    figures = (
        f"compiling takes {times.seconds:.0f} s and saves {max(saved, 0):.0f} s of {whole:.0f} s of training "
        f"(a compiled step takes {ratio:.2f} of the time)"
    )
    if saved > times.seconds:
        return runtime.with_compilation().with_reason(f"saves {saved:.0f} s for {times.seconds:.0f} s"), f"--compile: {figures}"
    return runtime.with_reason("not compiled"), f"--compile: not compiled, because {figures}"
