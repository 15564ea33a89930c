from __future__ import annotations

from dataclasses import replace

import pytest

from cnnkit.speed.advice import size_text, verdict
from cnnkit.speed.values import Benchmark, FileAccuracy, Latency, Memory, ModelSpeed, StageSpeed, TrainingSpeed, Trial


def stage(rate: float, wait: float = 0.0) -> StageSpeed:
    return StageSpeed(images=int(100 * rate), seconds=100.0, cpu_seconds=100.0, memory=Memory(1), wait_seconds=100 * wait)


def training(
    *,
    train: float = 960,
    wait: float = 0.04,
    step: float = 1000,
    gather: float = 1e6,
    augment: float = 30_000,
    image_size: int = 32,
    **facts: object,
) -> TrainingSpeed:
    """Return a healthy training, with the given figures changed."""
    rates = {"load": 2000.0, "gather": gather, "augment": augment, "normalise": 1e6, "step": step, "validate": 3000.0}
    stages = {**{name: stage(rate) for name, rate in rates.items()}, "train": stage(train, wait)}
    healthy = TrainingSpeed(
        "custom-cnn", "images", 5000, image_size, 128, "cpu", "fp32", "disk", 1_200_000_000, interpolates=True, stages=stages
    )
    return replace(healthy, **facts)  # type: ignore[arg-type]


def model(predict: float, classify: float, name: str = "torch", p50: float = 4.0) -> ModelSpeed:
    return ModelSpeed(name, f"runs/001/model.{name}", "images", stage(predict), stage(classify), Latency(120, p50, 2 * p50, 3 * p50, 1.0))


def advice(speed: TrainingSpeed | None, *models: ModelSpeed) -> str:
    return verdict(Benchmark({}, 2.0, speed, models))


def test_decode_bound():
    text = advice(training(cache="none", train=400, wait=0.55))
    assert text == "decode-bound, decoding costs 60 % of the time: `--cache disk` is about 2.4 times as fast and needs 1.2 GB"


def test_decoding_that_takes_cores_from_the_steps_counts_without_waiting():
    assert "decode-bound, decoding costs 40 %" in advice(training(cache="none", train=600, wait=0.05))


def test_fast_decoding_needs_no_store():
    assert advice(training(cache="none")).startswith("nothing to change")


def test_a_slow_disk():
    text = advice(training(train=500, wait=0.5, gather=1000))
    assert text == "reading-bound, waiting 50 % of the time: `--cache ram` is at most 2.0 times as fast and needs 1.2 GB of memory"
    assert "mostly for gather" in advice(training(train=500, wait=0.5, gather=1000, cache="ram"))


def test_augmentation_bound():
    slow = training(train=500, wait=0.5, augment=1000)
    assert advice(slow) == (
        "augmentation-bound, waiting 50 % of the time: `--augment light` is at most 2.0 times as fast, because it only moves pixels, "
        "but it varies the images less"
    )
    assert "waits 50 % of its time for data, mostly for augment" in advice(replace(slow, interpolates=False))


def test_an_unused_gpu_comes_first():
    text = advice(training(spare_gpu="cuda", trials=(Trial("--precision auto", stage(5000)),)))
    assert text == "the training ran on the cpu, although the machine has cuda: omit --device"


def test_step_bound_names_the_fastest_trial_and_its_gain_for_the_training():
    trials = (Trial("--precision auto", stage(2000)), Trial("--batch-size 512", stage(1100)))
    assert advice(training(trials=trials)) == "step-bound: `--precision auto` is about 1.9 times as fast in a trial"
    assert advice(training(trials=trials[1:])).startswith("nothing to change"), "1.1 times the step is less for the whole training"


def test_a_larger_batch_changes_the_steps():
    text = advice(training(trials=(Trial("--batch-size 512", stage(2000)),)))
    assert text == "step-bound: `--batch-size 512` is about 1.9 times as fast in a trial, with fewer and larger steps"


def test_advice_that_keeps_the_result_comes_first():
    large = training(image_size=224, trials=(Trial("--precision auto", stage(1500)),))
    assert "--precision auto" in advice(large)
    assert advice(replace(large, trials=())) == (
        "step-bound: convolutions cost time per pixel; `--image-size 112` is up to 4 times as fast, at a loss of accuracy"
    )


def test_a_healthy_training_gives_way_to_advice_on_prediction():
    assert advice(training()) == (
        "nothing to change: the training reaches 96 % of the speed of its steps alone; only a smaller network or a faster machine makes "
        "it faster"
    )
    assert "model.onnx" in advice(training(), model(500, 600), model(1000, 1500, "onnx", p50=2.0))


def test_a_faster_exported_file():
    text = advice(None, model(500, 600), model(1000, 1500, "onnx", p50=2.0))
    assert text == (
        "predict with the exported file: `--model runs/001/model.onnx` is 2.0 times as fast on many images, and takes "
        "4.0 -> 2.0 ms for one image"
    )
    assert "exported" not in advice(None, model(500, 600), model(520, 700, "onnx"))


def test_prediction_that_mostly_decodes():
    text = advice(None, model(200, 1000))
    assert text == "predict is decode-bound, reading files takes 80 % of its time: smaller files are at most 5.0 times as fast"


def test_prediction_limited_by_the_network():
    assert advice(None, model(900, 1000)) == "nothing to change: predict spends 90 % of its time in the network"


@pytest.mark.parametrize(("count", "text"), [(1.2e9, "1.2 GB"), (3.4e8, "340 MB"), (5, "1 MB")])
def test_size_text(count, text):
    assert size_text(count) == text


def test_a_faster_file_is_advised_with_its_accuracy():
    first, fast = (
        replace(model(rate, 1.1 * rate, name), accuracy=FileAccuracy(value, 0.8, 0.95, 100, "val"))
        for rate, name, value in ((100, "torch", 0.91), (300, "onnx", 0.9))
    )
    assert "3.0 times as fast on many images, and takes 4.0 -> 4.0 ms for one image, accuracy 91.0 -> 90.0 % on 100 val images" in verdict(
        Benchmark({}, 2.0, None, (first, fast))
    )
