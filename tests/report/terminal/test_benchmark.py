from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cnnkit.report.terminal.benchmark import benchmark_summary, rounded
from cnnkit.speed.values import TRAINING_STAGES, Benchmark, Latency, Memory, ModelSpeed, Stage, TrainingSpeed, Trial


def stage(rate: float, wait: float = 0.0) -> Stage:
    return Stage(int(100 * rate), 100.0, 150.0, Memory(1_100_000_000, 909_000_000), 100 * wait)


def plain(benchmark: Benchmark, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(benchmark_summary(benchmark))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


RATES = dict(zip(TRAINING_STAGES, (3690, 1_990_000, 17_400, 467_123, 1000, 950, 3055), strict=True))
TRAINING = TrainingSpeed(
    arch="custom-cnn",
    data="images",
    images=1385,
    image_size=32,
    batch_size=128,
    device="cpu",
    runtime="cpu, fp32",
    cache="disk",
    canvas_bytes=6_000_000,
    interpolates=True,
    stages={name: stage(rate, 0.05) for name, rate in RATES.items()},
)
MACHINE = {"system": "Linux x86_64", "cores": 2, "torch": "2.15.0"}
MODEL = ModelSpeed("onnx", "runs/001-custom-cnn/export/model.onnx", "images", stage(794), stage(1000), Latency(90, 1.25, 5.6, 0.4))


def test_all_of_it():
    assert (
        plain(Benchmark(MACHINE, 2.0, TRAINING, (MODEL,)))
        == """\
custom-cnn on images: 1,385 training images, 32 px, batches of 128
cpu, fp32
onnx: runs/001-custom-cnn/export/model.onnx, on images
Linux x86_64, 2 cores, torch 2.15.0; about 2 s a stage

stage                                                   images/s   CPU-s / 1,000
────────────────────────────────────────────────────────────────────────────────
load        files read, decoded, resized                   3,690           0.407
gather      rows taken from the store                  1,990,000          < 0.01
augment     varied at random                              17,400          0.0862
normalise   made floats of unit scale                    467,000          < 0.01
step        a training step alone, on data in memory       1,000            1.50
train       training as it is, all of the above              950            1.58
validate    validation from the store                      3,060           0.491
predict     onnx, from files                                 794            1.89
classify    onnx, images decoded before                    1,000            1.50

training reaches 95 % of its steps alone; 5.0 % of the time it waits for data

one image          median ms   95 % below   of it decoding
──────────────────────────────────────────────────────────
predict     onnx         1.2          5.6              0.4

memory             peak RSS   PSS with workers
──────────────────────────────────────────────
train                1.1 GB             909 MB
predict     onnx     1.1 GB             909 MB

verdict: nothing to change: training reaches 95 % of what its steps alone do;
only a smaller network or a faster machine makes it faster"""
    )


def test_it_fits_80_columns_whatever_the_names():
    long = "a-folder-of-a-very-long-name/" * 8
    shown = plain(Benchmark({**MACHINE, "gpu": "NVIDIA H200"}, 2.0, TRAINING, (replace(MODEL, format=long, file=long, images=long),)))
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_trials_stand_below_the_stages():
    shown = plain(Benchmark(MACHINE, 2.0, replace(TRAINING, trials=(Trial("--batch-size 512", stage(1234)),)), ()))
    assert "with --batch-size 512" in shown
    assert "1,230" in shown
    assert "one image" not in shown


def test_without_a_store_the_stages_say_so():
    shown = plain(Benchmark(MACHINE, 2.0, replace(TRAINING, cache="none"), ()))
    assert "as it would be from a store" in shown
    assert "files decoded anew" in shown


def test_the_memory_of_an_untrained_model_is_that_of_the_training_before_and_not_shown():
    shown = plain(Benchmark(MACHINE, 2.0, TRAINING, (replace(MODEL, file="", format="torch"),)))
    assert "torch, untrained, from files" in shown
    assert "predict" not in shown.split("peak RSS")[1]


@pytest.mark.parametrize(
    ("value", "text"), [(1_991_234, "1,990,000"), (999.6, "1,000"), (85.24, "85.2"), (0.0349, "0.0349"), (0.0004, "< 0.01"), (0, "< 0.01")]
)
def test_three_digits(value, text):
    assert rounded(value) == text
