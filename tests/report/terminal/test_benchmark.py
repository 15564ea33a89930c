from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cnnkit.report.terminal.benchmark import benchmark_summary, three_digits
from cnnkit.speed.values import TRAINING_STAGES, Benchmark, FileAccuracy, Latency, Memory, ModelSpeed, StageSpeed, TrainingSpeed, Trial


def stage(rate: float, wait: float = 0.0) -> StageSpeed:
    return StageSpeed(int(100 * rate), 100.0, 150.0, Memory(1_100_000_000, 909_000_000), 100 * wait)


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
MODEL = ModelSpeed(
    "onnx", "runs/001-custom-cnn/export/model.onnx", "images", stage(794), stage(1000), Latency(190, 1.25, 5.6, 7.8, 0.4), 1_400_000
)


def test_a_summary_of_training_and_model():
    assert (
        plain(Benchmark(MACHINE, 2.0, TRAINING, (MODEL,)))
        == """\
custom-cnn on images: 1,385 training images, 32 px, batches of 128
cpu, fp32
onnx: runs/001-custom-cnn/export/model.onnx, on images
Linux x86_64, 2 cores, torch 2.15.0; about 2 s per stage

stage                                                 images/s   CPU-s / 1,000
──────────────────────────────────────────────────────────────────────────────
load        reading, decoding and resizing files         3,690           0.407
gather      taking rows from the store               1,990,000          < 0.01
augment     random augmentation                         17,400          0.0862
normalise   conversion to normalised floats            467,000          < 0.01
step        training step alone, on data in memory       1,000            1.50
train       complete training, all of the above            950            1.58
validate    validation from the store                    3,060           0.491
predict     onnx, from files                               794            1.89
classify    onnx, from decoded images                    1,000            1.50

training reaches 95 % of its steps' speed and waits for data 5.0 % of the time

one image          median ms   p95 ms   p99 ms   decoding ms
────────────────────────────────────────────────────────────
predict     onnx         1.2      5.6      7.8           0.4

file                 size
─────────────────────────
predict     onnx   1.4 MB

memory             peak RSS   PSS with workers
──────────────────────────────────────────────
train                1.1 GB             909 MB
predict     onnx     1.1 GB             909 MB

verdict: nothing to change: the training reaches 95 % of the speed of its steps
alone; only a smaller network or a faster machine makes it faster"""
    )


def test_files_stand_beside_each_other_with_size_and_accuracy():
    torch = replace(MODEL, format="torch", file="runs/001/best.safetensors", accuracy=FileAccuracy(0.914, 0.873, 0.943, 256, "val"))
    int8 = replace(MODEL, file="runs/001/export/model-int8.onnx", size_bytes=400_000, accuracy=FileAccuracy(0.9, 0.857, 0.931, 256, "val"))
    shown = plain(Benchmark(MACHINE, 2.0, None, (torch, int8)))
    assert (
        """\
file                      size   accuracy on 256 val images   95 % interval
───────────────────────────────────────────────────────────────────────────
predict     torch       1.4 MB                       91.4 %    87.3 to 94.3
predict     onnx int8   0.4 MB                       90.0 %    85.7 to 93.1"""
        in shown
    )
    assert "onnx int8, from files" in shown


def test_long_names_fit_80_columns():
    long = "a-folder-of-a-very-long-name/" * 8
    shown = plain(Benchmark({**MACHINE, "gpu": "NVIDIA H200"}, 2.0, TRAINING, (replace(MODEL, format=long, file=long, images=long),)))
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_trials_have_rows_below_the_stages():
    shown = plain(Benchmark(MACHINE, 2.0, replace(TRAINING, trials=(Trial("--batch-size 512", stage(1234)),)), ()))
    assert "with --batch-size 512" in shown
    assert "1,230" in shown
    assert "one image" not in shown


def test_the_stages_without_a_store_have_their_own_texts():
    shown = plain(Benchmark(MACHINE, 2.0, replace(TRAINING, cache="none"), ()))
    assert "taking rows from a store, for comparison" in shown
    assert "complete training, with decoding" in shown


def test_the_memory_of_an_untrained_model_is_not_shown():
    shown = plain(Benchmark(MACHINE, 2.0, TRAINING, (replace(MODEL, file="", format="torch"),)))
    assert "torch, untrained, from files" in shown
    assert "predict" not in shown.split("peak RSS")[1]


@pytest.mark.parametrize(
    ("value", "text"), [(1_991_234, "1,990,000"), (999.6, "1,000"), (85.24, "85.2"), (0.0349, "0.0349"), (0.0004, "< 0.01"), (0, "< 0.01")]
)
def test_three_digits(value, text):
    assert three_digits(value) == text


def test_the_seconds_before_the_first_step_are_named() -> None:
    start = {"imports": 2.04, "gpu": 3.1, "images": 0.5, "network": 1.26}
    text = plain(Benchmark(MACHINE, 2.0, replace(TRAINING, start_seconds=start), (), 0.0, ()), width=120)
    assert "before the first step: imports 2.0 s, starting the GPU 3.1 s, reading images 0.5 s, network and probe 1.3 s" in text
    assert "before the first step" not in plain(Benchmark(MACHINE, 2.0, TRAINING, (), 0.0, ()))
