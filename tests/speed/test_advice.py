from __future__ import annotations

from dataclasses import replace

import pytest

from cnnkit.speed.advice import size, verdict
from cnnkit.speed.values import Benchmark, Latency, Memory, ModelSpeed, Stage, TrainingSpeed, Trial


def stage(rate: float, wait: float = 0.0) -> Stage:
    return Stage(images=int(100 * rate), seconds=100.0, cpu_seconds=100.0, memory=Memory(1), wait_seconds=100 * wait)


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
    """A healthy training unless a figure says otherwise."""
    rates = {"load": 2000.0, "gather": gather, "augment": augment, "normalise": 1e6, "step": step, "validate": 3000.0}
    stages = {**{name: stage(rate) for name, rate in rates.items()}, "train": stage(train, wait)}
    healthy = TrainingSpeed(
        "custom-cnn", "images", 5000, image_size, 128, "cpu", "fp32", "disk", 1_200_000_000, interpolates=True, stages=stages
    )
    return replace(healthy, **facts)  # type: ignore[arg-type]


def model(predict: float, classify: float, name: str = "torch", p50: float = 4.0) -> ModelSpeed:
    return ModelSpeed(name, f"runs/001/model.{name}", "images", stage(predict), stage(classify), Latency(50, p50, 2 * p50, 1.0))


def said(speed: TrainingSpeed | None, *models: ModelSpeed) -> str:
    return verdict(Benchmark({}, 2.0, speed, models))


def test_decode_bound():
    text = said(training(cache="none", train=400, wait=0.55))
    assert text == "decode-bound, which costs 60 % of the time: `--cache disk` needs 1.2 GB, about 2.4 times as fast"


def test_decoding_that_takes_the_cores_from_the_steps_counts_though_nothing_waits():
    assert "decode-bound, which costs 40 %" in said(training(cache="none", train=600, wait=0.05))


def test_decoding_as_fast_as_the_network_needs_no_store():
    assert said(training(cache="none")).startswith("nothing to change")


def test_a_slow_disk():
    text = said(training(train=500, wait=0.5, gather=1000))
    assert text == "reading-bound, waiting 50 % of the time: `--cache ram` needs 1.2 GB of memory, at most 2.0 times as fast"
    assert "mostly for gather" in said(training(train=500, wait=0.5, gather=1000, cache="ram"))


def test_augmentation_bound():
    slow = training(train=500, wait=0.5, augment=1000)
    assert said(slow) == (
        "augmentation-bound, waiting 50 % of the time: `--augment light` only moves pixels, at most 2.0 times as fast, for less variety"
    )
    assert "wait 50 % of the time for its data, mostly for augment" in said(replace(slow, interpolates=False))


def test_a_gpu_that_is_not_used_comes_first():
    text = said(training(spare_gpu="cuda", trials=(Trial("--precision auto", stage(5000)),)))
    assert text == "trained on the cpu although there is cuda: leave --device out"


def test_step_bound_names_the_trial_that_won_with_its_effect_on_the_whole_training():
    trials = (Trial("--precision auto", stage(2000)), Trial("--batch-size 512", stage(1100)))
    assert said(training(trials=trials)) == "step-bound: `--precision auto` was tried, about 1.9 times as fast"
    assert said(training(trials=trials[1:])).startswith("nothing to change"), "1.1 times the step is less for the whole"


def test_a_larger_batch_is_another_training():
    text = said(training(trials=(Trial("--batch-size 512", stage(2000)),)))
    assert text == "step-bound: `--batch-size 512` was tried, about 1.9 times as fast, with fewer and larger steps"


def test_what_changes_no_result_comes_before_what_does():
    large = training(image_size=224, trials=(Trial("--precision auto", stage(1500)),))
    assert "--precision auto" in said(large)
    assert said(replace(large, trials=())) == (
        "step-bound: convolutions cost by the pixel; `--image-size 112` is up to 4 times as fast, for some accuracy"
    )


def test_a_training_in_order_leaves_the_word_to_prediction():
    assert said(training()) == (
        "nothing to change: training reaches 96 % of what its steps alone do; only a smaller network or a faster machine makes it faster"
    )
    assert "model.onnx" in said(training(), model(500, 600), model(1000, 1500, "onnx", p50=2.0))


def test_an_exported_file_that_is_faster():
    text = said(None, model(500, 600), model(1000, 1500, "onnx", p50=2.0))
    assert text == "predict with the exported file: `--model runs/001/model.onnx`, 2.0 times the images/s, 4.0 -> 2.0 ms for one image"
    assert "exported" not in said(None, model(500, 600), model(520, 700, "onnx"))


def test_prediction_that_mostly_decodes():
    text = said(None, model(200, 1000))
    assert text == "predict is decode-bound, 80 % of its time goes into reading files: smaller files, at most 5.0 times as fast"


def test_prediction_in_order():
    assert said(None, model(900, 1000)) == "nothing to change: 90 % of the time of predict is the network's arithmetic"


@pytest.mark.parametrize(("count", "text"), [(1.2e9, "1.2 GB"), (3.4e8, "340 MB"), (5, "1 MB")])
def test_size(count, text):
    assert size(count) == text
