"""Speed of a training beside the same step on random tensors: the loss between the data and the arithmetic.

    python docs/benchmarks/efficiency.py [--turns 5] [--seconds 4] -- --data cifar10 --arch custom-cnn
    python docs/benchmarks/efficiency.py -- --data ants-bees --arch timm/resnet18 --augment none

What stands after ``--`` are flags of ``cnnkit train``. The images are decoded into the store first, if they are not there yet. Then
training and step are timed by turns in one process by what ``cnnkit benchmark`` times them with: batches from the store, gathered,
augmented and normalised, against two batches of random numbers that lie on the device already, normalised and of the same
shape. Prints one row of a Markdown table: the ratio of their images a second as median (least to most) of the turns, both
rates, the CPU-seconds of both for 1,000 images, and those of gathering, augmenting and normalising alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from document import Table, add_option, save, typed

if TYPE_CHECKING:
    from cnnkit.api.speed.training import TrainingBench
    from cnnkit.config.settings import TrainConfig
    from cnnkit.speed.values import StageSpeed

COLUMNS = ("`cnnkit train`", "ratio", "images/s", "of the step", "CPU-s per 1,000", "of the step", "gather, augment, normalise")


def settings(flags: list[str]) -> TrainConfig:
    """Return what ``cnnkit train`` makes of its flags."""
    from cnnkit.config.settings import validated

    command = [sys.executable, "-m", "cnnkit", "train", *flags, "--print-config", "--json"]
    return validated(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def bench(config: TrainConfig, seconds: float) -> TrainingBench:
    """Prepare the training and decode its images; no run is written."""
    from cnnkit.api.speed.training import TrainingBench
    from cnnkit.api.training.prepare import prepare
    from cnnkit.data.source import open_source
    from cnnkit.speed.stopwatch import Meter

    source = open_source(config.data.data)
    job = prepare(config, source=source, dry_run=True)
    print(f"{job.header.arch}: {job.runtime.describe()}; {job.dataset.store.storage}", file=sys.stderr)
    return TrainingBench(job, source, seconds, Meter(), lambda text: print(text, file=sys.stderr))


def cells(title: str, turns: list[dict[str, StageSpeed]], between: list[StageSpeed]) -> tuple[str, ...]:
    """Return the row of one training."""

    def middle(stage: str, figure: str) -> float:
        return statistics.median(getattr(turn[stage], figure) for turn in turns)

    ratios = [turn["train"].images_per_second / turn["step"].images_per_second for turn in turns]
    rates = [f"{middle(stage, 'images_per_second'):,.0f}" for stage in ("train", "step")]
    costs = [f"{middle(stage, 'cpu_seconds_per_1000_images'):.2f}" for stage in ("train", "step")]
    parts = ", ".join(f"{stage.cpu_seconds_per_1000_images:.3f}" for stage in between)
    ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return f"`{title}`", ratio, *rates, *costs, parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stage, after a warm-up of a quarter of them")
    add_option(parser)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and flags of cnnkit train")
    given = parser.parse_args()
    flags = [argument for argument in given.arguments if argument != "--"]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does before torch is loaded
    measured = bench(settings(flags), given.seconds)
    whole = measured.measure()
    turns = [dict(whole.stages), *(measured.measure_steps() for _ in range(given.turns - 1))]
    table = Table(*COLUMNS)
    table.add(*cells(typed(flags), turns, [whole.stages[name] for name in ("gather", "augment", "normalise")]))
    claim = f"Training from the store runs at {table.rows[0][1]} times the speed of its step on random tensors."
    save(given.json, "Training speed beside its step", claim, table.columns, table.rows)


if __name__ == "__main__":
    main()
