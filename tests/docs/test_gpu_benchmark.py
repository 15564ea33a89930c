"""The script that measures a GPU, with tiny settings on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "gpu.py"
AIRBENCH = """
import torch, time
images = torch.load("cifar10/train.pt")
assert images["images"].shape[1:] == (32, 32, 3) and images["images"].dtype == torch.uint8
assert len(images["labels"]) == len(images["images"]) and len(torch.load("cifar10/test.pt")["labels"]) > 0
print("|  run   |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |")
print("|  warmup  |  eval  |  0.1000  |  0.1000  |  0.1000  |  9.0000  |")
print("|  0  |  1  |  0.5000  |  0.5000  |    |  1.0000  |")
for _ in range(2): print("|    |  eval  |  0.9000  |  0.8950  |  0.9070  |  2.1000  |", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_every_row_is_measured_and_names_its_device(image_folder, tmp_path: Path) -> None:
    photos = image_folder({"ants": 12, "bees": 12}, size=(40, 32))
    airbench = tmp_path / "airbench94.py"
    airbench.write_text(AIRBENCH, "utf-8")
    options = ["--small", "--device", "cpu", "--photos", str(photos), "--airbench", str(airbench), "--airbench-seconds", "15"]
    command = [sys.executable, str(SCRIPT), "--data", "digits", *options, "--json", "training-gpu.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert rows[0] == ["measure", "value", "device"]
    assert all(len(row) == 3 and row[2].startswith("cpu") for row in rows[2:])
    measures = [row[0] for row in rows[2:]]
    assert measures == [
        "fast recipe, `--budget 2s`",
        "`train` beside its budget, empty cache",
        "`train` beside its budget, images in the cache",
        "`custom-cnn`: training over its steps alone",
        "`timm/test_resnet`: training over its steps alone",
        "`custom-cnn`: mixing and RandAugment over plain",
        "`timm/test_resnet`: predictions from files",
        "`timm/test_resnet`: predictions from canvases in memory",
        "`cnnkit eval` of `timm/test_resnet`, start included",
        "`timm/test_resnet`: largest difference of a probability from the CPU",
        "airbench on the same files, 2 trainings",
        "this script",
    ]
    values = dict(zip(measures, (row[1] for row in rows[2:]), strict=True))
    assert values["airbench on the same files, 2 trainings"] == "89.5 ± 0.0 %, with views 90.7 ± 0.0 %, 2.1 ± 0.0 s"
    assert values["`timm/test_resnet`: largest difference of a probability from the CPU"].startswith("0.0e+00; equal classes")
    assert Path("training-gpu.json").is_file()


def test_a_missing_data_flag_is_named() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--data" in done.stderr
