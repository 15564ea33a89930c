"""What to do about the figures of a benchmark: explicit rules, and of what they find the single best change.

A rule looks at the figures and returns a `Change` or None. Changes of the training come before those of prediction, those
that cost nothing before those that may cost accuracy, and then the larger gain wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cnnkit.speed.values import DATA_STAGES, Benchmark, ModelSpeed, TrainingSpeed

WAITS = 0.1  # share of the time spent waiting for data from which on the data is the thing to look at
GAIN = 1.1  # times as fast: what is less drowns in the noise of two measurements of two seconds
DECODE_BOUND = 0.5  # share of a prediction's time spent on reading and decoding
SMALLEST_HALVED = 64  # px: half of it is 32, the smallest size cnnkit trains at by itself


@dataclass(frozen=True)
class Change:
    """One thing to change, in a sentence, and how many times as fast it makes the work; `free` if it changes no result."""

    gain: float
    text: str
    free: bool = True


def verdict(benchmark: Benchmark) -> str:
    """Return the single best change to make, in one sentence; or that there is none, and why."""
    training, models = benchmark.training, benchmark.models
    if training and (found := _best(rule(training) for rule in TRAINING_RULES)):
        return found.text
    if found := _best(rule(models) for rule in MODEL_RULES):
        return found.text
    if training is None:
        return f"nothing to change: {_percent(1 - _decode_share(models[0]))} of the time of predict is the network's arithmetic"
    if training.data_wait_share > WAITS:
        return (
            f"the network is quick enough to wait {_percent(training.data_wait_share)} of the time for its data, mostly for "
            f"{_slowest(training)}; no flag makes that faster, so what is left over may go into a larger network"
        )
    return (
        f"nothing to change: training reaches {_percent(training.efficiency)} of what its steps alone do; only a smaller network "
        f"or a faster machine makes it faster"
    )


def decode_bound(training: TrainingSpeed) -> Change | None:
    """Images are decoded anew in every epoch, and the training waits for them."""
    lost = max(training.data_wait_share, 1 - training.efficiency)  # on a CPU decoding also takes time from the steps
    if training.cache != "none" or lost <= WAITS:
        return None
    seconds = sum(1 / training.stages[name].images_per_second for name in (*DATA_STAGES, "step"))
    gain = 1 / seconds / training.stages["train"].images_per_second
    return Change(
        gain,
        f"decode-bound, which costs {_percent(lost)} of the time: `--cache disk` needs "
        f"{size(training.canvas_bytes)}, about {gain:.1f} times as fast",
    )


def read_bound(training: TrainingSpeed) -> Change | None:
    """The store on the disk is what the training waits for."""
    if training.cache != "disk" or training.data_wait_share <= WAITS or _slowest(training) != "gather":
        return None
    gain = _without(training.share("gather"))
    return Change(
        gain,
        f"reading-bound, waiting {_percent(training.data_wait_share)} of the time: `--cache ram` needs {size(training.canvas_bytes)} "
        f"of memory, at most {gain:.1f} times as fast",
    )


def augment_bound(training: TrainingSpeed) -> Change | None:
    """Interpolating pixels is what the training waits for."""
    if not training.interpolates or training.data_wait_share <= WAITS or _slowest(training) != "augment":
        return None
    gain = _without(training.share("augment"))
    return Change(
        gain,
        f"augmentation-bound, waiting {_percent(training.data_wait_share)} of the time: `--augment light` only moves pixels, at most "
        f"{gain:.1f} times as fast, for less variety",
        free=False,
    )


def unused_gpu(training: TrainingSpeed) -> Change | None:
    """There is a GPU and the training runs elsewhere; how much faster it is nobody has measured, but that it is is sure enough."""
    if not training.spare_gpu:
        return None
    return Change(float("inf"), f"trained on the {training.device} although there is {training.spare_gpu}: leave --device out")


def step_bound(training: TrainingSpeed) -> Change | None:
    """The step is most of the time and one of the trials did it faster."""
    gains = [(_gain_of_step(training, trial.step.images_per_second), trial) for trial in training.trials]
    if training.data_wait_share > WAITS or not gains:
        return None
    gain, trial = max(gains, key=lambda item: item[0])
    larger = "--batch-size" in trial.flag  # fewer steps an epoch: another training
    text = f"step-bound: `{trial.flag}` was tried, about {gain:.1f} times as fast{', with fewer and larger steps' * larger}"
    return Change(gain, text, free=not larger)


def large_images(training: TrainingSpeed) -> Change | None:
    """The step is most of the time and the images are large enough to be halved."""
    half = training.image_size // 2
    if training.data_wait_share > WAITS or training.image_size < SMALLEST_HALVED:
        return None
    gain = (training.image_size / half) ** 2
    text = f"step-bound: convolutions cost by the pixel; `--image-size {half}` is up to {gain:.0f} times as fast, for some accuracy"
    return Change(gain, text, free=False)


def faster_format(models: Sequence[ModelSpeed]) -> Change | None:
    """An exported file answers sooner than the first one."""
    if len(models) < 2:  # noqa: PLR2004 (nothing to compare)
        return None
    first, best = models[0], max(models, key=lambda model: model.predict.images_per_second)
    gain = best.predict.images_per_second / first.predict.images_per_second
    latency = f"{first.latency.p50_ms:.1f} -> {best.latency.p50_ms:.1f} ms for one image"
    return Change(gain, f"predict with the exported file: `--model {best.file}`, {gain:.1f} times the images/s, {latency}")


def slow_files(models: Sequence[ModelSpeed]) -> Change | None:
    """Prediction spends its time on the files, not on the network."""
    share = _decode_share(models[0]) if models else 0.0
    if share <= DECODE_BOUND:
        return None
    gain = _without(share)
    return Change(
        gain,
        f"predict is decode-bound, {_percent(share)} of its time goes into reading files: smaller files, at most {gain:.1f} times as fast",
    )


TRAINING_RULES: tuple[Callable[[TrainingSpeed], Change | None], ...] = (
    decode_bound,
    read_bound,
    augment_bound,
    unused_gpu,
    step_bound,
    large_images,
)
MODEL_RULES: tuple[Callable[[Sequence[ModelSpeed]], Change | None], ...] = (faster_format, slow_files)


def size(count: float) -> str:
    """Return bytes in words: ``1.2 GB``, ``340 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, count / 1e6):.0f} MB"  # noqa: PLR2004 (a gigabyte)


def _best(changes: Iterable[Change | None]) -> Change | None:
    """Return the change to make, None if none is worth it."""
    worth = [change for change in changes if change is not None and change.gain >= GAIN]
    return max(worth, key=lambda change: (change.free, change.gain), default=None)


def _slowest(training: TrainingSpeed) -> str:
    """The stage between the store and the network that takes longest."""
    return max(DATA_STAGES, key=training.share)


def _without(share: float) -> float:
    """Times as fast if a `share` of the time were gone; two stages measured one after the other may add up to more than all."""
    return 1 / (1 - min(share, 0.9))


def _gain_of_step(training: TrainingSpeed, images_per_second: float) -> float:
    """Times as fast the whole training is if its step alone did so many images per second."""
    now = 1 / training.stages["train"].images_per_second
    then = now - 1 / training.stages["step"].images_per_second + 1 / images_per_second
    return now / max(then, 1 / images_per_second)


def _decode_share(model: ModelSpeed) -> float:
    """Share of a prediction's time that is spent on reading and decoding."""
    return max(0.0, 1 - model.predict.images_per_second / model.classify.images_per_second)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
