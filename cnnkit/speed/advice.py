"""Advice from a benchmark: explicit rules, and the single best advice among their results.

A rule reads the figures and returns an `Advice` or None. Advice on the training comes before advice on prediction. Among several,
advice that leaves the accuracy as it is comes first, then the larger gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cnnkit.speed.values import DATA_STAGES, Benchmark, ModelSpeed, TrainingSpeed

MAX_WAIT_SHARE = 0.1  # of the time; a training that waits longer for data needs faster data
MIN_GAIN = 1.1  # times as fast; two measurements of two seconds differ by smaller factors anyway
MAX_DECODE_SHARE = 0.5  # of the time of a prediction, spent on reading and decoding
MIN_HALVED_SIZE = 64  # px; half of it is 32, the smallest size that cnnkit chooses by itself


@dataclass(frozen=True)
class Advice:
    """A change in one sentence, and its `gain` as a factor of speed; `is_free` tells whether it leaves the result as it is."""

    gain: float
    text: str
    is_free: bool = True


def verdict(benchmark: Benchmark) -> str:
    """Return the single best change in one sentence, or the reason why there is none."""
    training, models = benchmark.training, benchmark.models
    if training and (found := _best(rule(training) for rule in TRAINING_RULES)):
        return found.text
    if found := _best(rule(models) for rule in MODEL_RULES):
        return found.text
    if training is None:
        return f"nothing to change: predict spends {_percent(1 - _decode_share(models[0]))} of its time in the network"
    if training.data_wait_share > MAX_WAIT_SHARE:
        return (
            f"the training waits {_percent(training.data_wait_share)} of its time for data, mostly for {_slowest(training)}; no flag "
            f"makes this stage faster, but a larger network would use the waiting time"
        )
    return (
        f"nothing to change: the training reaches {_percent(training.efficiency)} of the speed of its steps alone; only a smaller "
        f"network or a faster machine makes it faster"
    )


def decode_bound(training: TrainingSpeed) -> Advice | None:
    """Advise a store if every epoch decodes the images again and this costs time."""
    lost = max(training.data_wait_share, 1 - training.efficiency)  # on a CPU decoding also takes time from the steps
    if training.cache != "none" or lost <= MAX_WAIT_SHARE:
        return None
    seconds = sum(1 / training.stages[name].images_per_second for name in (*DATA_STAGES, "step"))
    gain = 1 / seconds / training.stages["train"].images_per_second
    return Advice(
        gain,
        f"decode-bound, decoding costs {_percent(lost)} of the time: `--cache disk` is about {gain:.1f} times as fast and needs "
        f"{size_text(training.canvas_bytes)}",
    )


def read_bound(training: TrainingSpeed) -> Advice | None:
    """Advise a store in memory if the training waits for the store on the disk."""
    if training.cache != "disk" or training.data_wait_share <= MAX_WAIT_SHARE or _slowest(training) != "gather":
        return None
    gain = _gain_without(training.share("gather"))
    return Advice(
        gain,
        f"reading-bound, waiting {_percent(training.data_wait_share)} of the time: `--cache ram` is at most {gain:.1f} times as fast and "
        f"needs {size_text(training.canvas_bytes)} of memory",
    )


def augment_bound(training: TrainingSpeed) -> Advice | None:
    """Advise a light augmentation if the training waits for interpolated pixels."""
    if not training.interpolates or training.data_wait_share <= MAX_WAIT_SHARE or _slowest(training) != "augment":
        return None
    gain = _gain_without(training.share("augment"))
    return Advice(
        gain,
        f"augmentation-bound, waiting {_percent(training.data_wait_share)} of the time: `--augment light` is at most {gain:.1f} times as "
        f"fast, because it only moves pixels, but it varies the images less",
        is_free=False,
    )


def unused_gpu(training: TrainingSpeed) -> Advice | None:
    """Advise the GPU if the training does not use it; no measurement tells its gain, but a GPU is faster."""
    if not training.spare_gpu:
        return None
    return Advice(float("inf"), f"the training ran on the {training.device}, although the machine has {training.spare_gpu}: omit --device")


def step_bound(training: TrainingSpeed) -> Advice | None:
    """Advise the fastest trial if the step takes most of the time."""
    gains = [(_gain_of_step(training, trial.step.images_per_second), trial) for trial in training.trials]
    if training.data_wait_share > MAX_WAIT_SHARE or not gains:
        return None
    gain, trial = max(gains, key=lambda item: item[0])
    larger = "--batch-size" in trial.flag  # fewer steps per epoch change the result
    text = f"step-bound: `{trial.flag}` is about {gain:.1f} times as fast in a trial{', with fewer and larger steps' * larger}"
    return Advice(gain, text, is_free=not larger)


def large_images(training: TrainingSpeed) -> Advice | None:
    """Advise half the image size if the step takes most of the time and the images are large."""
    half = training.image_size // 2
    if training.data_wait_share > MAX_WAIT_SHARE or training.image_size < MIN_HALVED_SIZE:
        return None
    gain = (training.image_size / half) ** 2
    text = f"step-bound: convolutions cost time per pixel; `--image-size {half}` is up to {gain:.0f} times as fast, at a loss of accuracy"
    return Advice(gain, text, is_free=False)


def faster_format(models: Sequence[ModelSpeed]) -> Advice | None:
    """Advise the fastest file if it is not the first."""
    if len(models) < 2:  # noqa: PLR2004 (nothing to compare)
        return None
    first, best = models[0], max(models, key=lambda model: model.predict.images_per_second)
    gain = best.predict.images_per_second / first.predict.images_per_second
    speed = f"{gain:.1f} times as fast on many images, and takes {first.latency.p50_ms:.1f} -> {best.latency.p50_ms:.1f} ms for one image"
    accuracy = ""
    if first.accuracy and best.accuracy:
        values = f"{100 * first.accuracy.value:.1f} -> {100 * best.accuracy.value:.1f} %"
        accuracy = f", accuracy {values} on {best.accuracy.images} {best.accuracy.split} images"
    return Advice(gain, f"predict with the exported file: `--model {best.file}` is {speed}{accuracy}")


def slow_files(models: Sequence[ModelSpeed]) -> Advice | None:
    """Advise smaller files if prediction spends most of its time on reading and decoding."""
    share = _decode_share(models[0]) if models else 0.0
    if share <= MAX_DECODE_SHARE:
        return None
    gain = _gain_without(share)
    return Advice(
        gain,
        f"predict is decode-bound, reading files takes {_percent(share)} of its time: smaller files are at most {gain:.1f} times as fast",
    )


TRAINING_RULES: tuple[Callable[[TrainingSpeed], Advice | None], ...] = (
    decode_bound,
    read_bound,
    augment_bound,
    unused_gpu,
    step_bound,
    large_images,
)
MODEL_RULES: tuple[Callable[[Sequence[ModelSpeed]], Advice | None], ...] = (faster_format, slow_files)


def size_text(count: float) -> str:
    """Return a number of bytes as text: ``1.2 GB``, ``340 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, count / 1e6):.0f} MB"  # noqa: PLR2004 (a gigabyte)


def _best(found: Iterable[Advice | None]) -> Advice | None:
    """Return the best advice, None if no advice gains enough."""
    useful = [advice for advice in found if advice is not None and advice.gain >= MIN_GAIN]
    return max(useful, key=lambda advice: (advice.is_free, advice.gain), default=None)


def _slowest(training: TrainingSpeed) -> str:
    """Return the slowest stage between the store and the network."""
    return max(DATA_STAGES, key=training.share)


def _gain_without(share: float) -> float:
    """Return the gain if a `share` of the time were saved; the shares of stages timed one by one may exceed 1 together."""
    return 1 / (1 - min(share, 0.9))


def _gain_of_step(training: TrainingSpeed, images_per_second: float) -> float:
    """Return the gain of the whole training if its step alone reached `images_per_second`."""
    now = 1 / training.stages["train"].images_per_second
    then = now - 1 / training.stages["step"].images_per_second + 1 / images_per_second
    return now / max(then, 1 / images_per_second)


def _decode_share(model: ModelSpeed) -> float:
    """Return the share of the time of a prediction that reading and decoding take."""
    return max(0.0, 1 - model.predict.images_per_second / model.classify.images_per_second)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
