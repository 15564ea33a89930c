"""The whole table of a GPU: fast recipe, start, training beside its steps, augmentation, predictions, and airbench94.

    python docs/benchmarks/gpu.py --data cifar10 [--photos FOLDER] [--airbench airbench94.py] [--seeds 3]
    python docs/benchmarks/gpu.py --data digits --small --device cpu

`--data` are the images of the fast recipe and of the small networks, `--photos` a folder of photographs for resnet50. `--airbench` is the
script of https://github.com/KellerJordan/cifar10-airbench, which the reader has fetched. It trains on the images of `--data`, written into
the files that it reads, and is ended after `--airbench-seconds`. Without `--photos` or `--airbench` their rows are left out.

The images are decoded into an empty cache by the first training, whose start is the cold one. Every row names the device. On a GPU with
one seed the script takes at most eight minutes, decoding included. `--small` makes every part tiny: it shows that the script works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from document import Table, add_option, save, spread

if TYPE_CHECKING:
    from cnnkit.speed.values import StageSpeed

SMALL_NETWORK = ("--set", "width=8")
AUGMENTED = ("--mixup", "0.2", "--cutmix", "1", "--randaugment", "2,9")
MAX_COMPARED = 64  # images whose predictions are compared with those of the CPU
MAX_PREDICTED = 4096  # images of the speed of predictions


@dataclass(frozen=True)
class Plan:
    """The sizes of all parts."""

    budgets: tuple[str, ...]
    archs: tuple[tuple[str, ...], ...]
    photo_network: tuple[str, ...]
    seconds: float


WHOLE = Plan(
    budgets=("8s", "15s", "30s"),
    archs=(("custom-cnn",), ("residual-cnn",), ("fast-cnn", "--recipe", "fast")),
    photo_network=("timm/resnet50", "--image-size", "224"),
    seconds=3.0,
)
SMALL = Plan(
    budgets=("2s",), archs=(("custom-cnn", *SMALL_NETWORK),), photo_network=("timm/test_resnet", "--image-size", "32"), seconds=0.05
)


def cnnkit(*arguments: str) -> tuple[Any, float]:
    """Run a command of cnnkit with ``--json``; return its document and its seconds."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "cnnkit", *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: cnnkit {' '.join(arguments)}")
    return json.loads(done.stdout), time.perf_counter() - started


def time_recipe(table: Table, data: str, device: str, plan: Plan, seeds: int, out: Path) -> None:
    """Add the accuracy of the fast recipe after each budget, and the seconds beside the first and the last budget."""
    starts: list[float] = []
    for budget in plan.budgets:
        found: list[float] = []
        split = ""
        for seed in range(seeds):
            flags = ("--data", data, "--recipe", "fast", "--budget", budget, "--seed", str(seed), "--device", device, "--out", str(out))
            run, seconds = cnnkit("train", *flags)
            starts.append(seconds - float(budget.removesuffix("s")))
            metrics, _ = cnnkit("eval", "--model", run["run"], "--device", device)
            split = metrics["split"]
            found.append(100 * metrics["accuracy"]["value"])
        table.add(f"fast recipe, `--budget {budget}`", f"{split} {spread(found, 1)} %", device)
    table.add("`train` beside its budget, empty cache", f"{starts[0]:.1f} s", device)
    table.add("`train` beside its budget, images in the cache", f"{starts[-1]:.1f} s", device)


def measure_training(flags: Sequence[str], seconds: float) -> dict[str, StageSpeed]:
    """Return the speed of a training and of its step alone."""
    from efficiency import bench, settings

    return bench(settings([*flags]), seconds).measure_steps()


def time_trainings(table: Table, data: str, device: str, plan: Plan, photos: str | None) -> None:
    """Add training over its step alone for each architecture, and mixing with RandAugment over plain images."""
    works = [(data, flags) for flags in plan.archs] + ([(photos, plan.photo_network)] if photos else [])
    for folder, (arch, *flags) in works:
        found = measure_training(["--data", folder, "--arch", arch, *flags, "--device", device], plan.seconds)
        train, step = (found[name].images_per_second for name in ("train", "step"))
        memory = found["train"].memory.gpu_peak_bytes
        peak = f"; peak memory of the GPU {memory / 1e9:.1f} GB" if memory else ""
        table.add(f"`{arch}`: training over its steps alone", f"{train / step:.2f} ({train:,.0f} of {step:,.0f} images/s{peak})", device)
    arch, *flags = plan.archs[0]
    common = ["--data", data, "--arch", arch, *flags, "--device", device, "--augment", "light"]
    plain, varied = (measure_training([*common, *more], plan.seconds)["train"].images_per_second for more in ((), AUGMENTED))
    table.add(f"`{arch}`: mixing and RandAugment over plain", f"{varied / plain:.2f} ({varied:,.0f} of {plain:,.0f} images/s)", device)


def time_predictions(table: Table, photos: str, device: str, plan: Plan, out: Path) -> None:
    """Add the speed of predictions from files and from canvases in memory, and their distance from those of the CPU."""
    import numpy as np
    import torch

    from cnnkit import load_model
    from cnnkit.api.inference.predict import find_images
    from cnnkit.data.image import read_image

    arch, *flags = plan.photo_network
    run, _ = cnnkit("train", "--data", photos, "--arch", arch, *flags, "--epochs", "1", "--device", device, "--out", str(out))
    files = [str(file) for folder in sorted(Path(photos).iterdir()) if folder.is_dir() for file in find_images([folder])[0]][:MAX_PREDICTED]
    model, on_cpu = load_model(run["run"], device=device), load_model(run["run"], device="cpu")
    mine, theirs = (np.array([each.probabilities for each in one.predict(files[:MAX_COMPARED])]) for one in (model, on_cpu))
    started = time.perf_counter()
    model.predict(files)
    speed = len(files) / (time.perf_counter() - started)
    table.add(f"`{arch}`: predictions from files", f"{speed:,.0f} images/s, {os.cpu_count()} cores decode", device)
    classifier: Any = model.classifier
    canvases = classifier.canvases([read_image(Path(file)) for file in files[:MAX_COMPARED]])
    many = canvases.repeat(max(1, len(files) // len(canvases)), 1, 1, 1)
    started = time.perf_counter()
    classifier.canvas_probabilities(many)
    speed = len(many) / (time.perf_counter() - started)
    table.add(f"`{arch}`: predictions from canvases in memory", f"{speed:,.0f} images/s", device)
    _, seconds = cnnkit("eval", "--model", run["run"], "--device", device)
    table.add(f"`cnnkit eval` of `{arch}`, start included", f"{seconds:.1f} s", device)
    top = np.sort(theirs, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-3  # noqa: PLR2004 (the margin above which both must name the same class)
    equal = float((mine.argmax(1) == theirs.argmax(1))[clear].mean()) if clear.any() else 1.0
    difference = f"{np.abs(mine - theirs).max():.1e}; equal classes where the margin exceeds 1e-3: {100 * equal:.1f} %"
    table.add(f"`{arch}`: largest difference of a probability from the CPU", difference, f"{device} and cpu, torch {torch.__version__}")


def write_tensors(data: str, folder: Path, size: int = 32) -> None:
    """Write the images of `data` as train.pt and test.pt of airbench: uint8 (N, 32, 32, 3) with labels; val joins train."""
    import numpy as np
    import torch

    from cnnkit.config.settings import DataConfig
    from cnnkit.data.dataset import load_dataset
    from cnnkit.data.source import open_source
    from cnnkit.data.store.stream import gather
    from cnnkit.model.preprocessing import Preprocessing

    geometry = Preprocessing(image_size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    config = DataConfig(data=data)
    dataset = load_dataset(open_source(data), config, geometry, seed=0)
    assert dataset.store.canvases is not None  # noqa: S101 (a geometry was given)
    for name, splits in (("train", ("train", "val")), ("test", ("test",))):
        rows, labels = (np.concatenate(parts) for parts in zip(*(dataset.arrays(split) for split in splits), strict=True))
        images = torch.from_numpy(next(iter(gather(dataset.store.canvases, [rows])))).permute(0, 2, 3, 1).contiguous()
        torch.save({"images": images, "labels": torch.from_numpy(labels), "classes": list(dataset.classes)}, folder / f"{name}.pt")


def evaluations(lines: Sequence[str]) -> Iterator[tuple[float, float, float]]:
    """Yield accuracy without views, accuracy with views and seconds of each training that airbench printed."""
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "eval" in cells:
            with suppress(ValueError):
                val, views, seconds = map(float, cells[-3:])
                yield val, views, seconds


def time_airbench(table: Table, script: Path, data: str, device: str, seconds: float) -> None:
    """Add accuracy and seconds of airbench's trainings on the same files; the first one warms up and does not count."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cifar10").mkdir()
        write_tensors(data, Path(folder) / "cifar10")
        with (Path(folder) / "out").open("w+") as out:
            process = subprocess.Popen([sys.executable, "-u", str(script.resolve())], cwd=folder, stdout=out, stderr=subprocess.STDOUT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()
            process.wait()
            out.seek(0)
            text = out.read()
    found = list(evaluations(text.splitlines()))
    if not found:
        sys.exit(f"{script}: printed no row of an evaluation within {seconds:.0f} s:\n{text[-2000:]}")
    plain, views, took = (list(column) for column in zip(*(found[1:] or found), strict=True))
    table.add(
        f"airbench on the same files, {len(plain)} trainings",
        f"{spread([100 * one for one in plain], 1)} %, with views {spread([100 * one for one in views], 1)} %, {spread(took, 1)} s",
        device,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="images of the fast recipe: the folder cifar10")
    parser.add_argument("--photos", help="folder of photographs for resnet50")
    parser.add_argument("--airbench", type=Path, metavar="SCRIPT", help="airbench94.py, which the reader has fetched")
    parser.add_argument("--airbench-seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=1, help="of the fast recipe")
    parser.add_argument("--device", default="cuda", choices=("cuda", "mps", "cpu"))
    parser.add_argument("--small", action="store_true", help="make every part tiny")
    add_option(parser)
    given = parser.parse_args()
    plan, started = SMALL if given.small else WHOLE, time.perf_counter()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does before torch is loaded
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CNNKIT_CACHE"] = str(Path(folder) / "cache")
        table = Table("measure", "value", "device")
        time_recipe(table, given.data, given.device, plan, given.seeds, Path(folder) / "runs")
        time_trainings(table, given.data, given.device, plan, given.photos)
        if given.photos:
            time_predictions(table, given.photos, given.device, plan, Path(folder) / "runs")
        if given.airbench:
            time_airbench(table, given.airbench, given.data, given.device, given.airbench_seconds)
    table.add("this script", f"{time.perf_counter() - started:.0f} s", given.device)
    claim = f"On {given.device} the fast recipe reaches {table.rows[len(plan.budgets) - 1][1]} with `--budget {plan.budgets[-1]}`."
    save(given.json, "Table of a GPU", claim, table.columns, table.rows, seeds=range(given.seeds))


if __name__ == "__main__":
    main()
