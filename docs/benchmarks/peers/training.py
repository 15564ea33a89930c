"""One training of one contender: from its settings to its line of results.jsonl."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from calibrate import LIMIT, epochs_for, learn
from contenders import Contender, Task, absent, settings
from environments import versions
from measure import TrainerError, Watched, watch
from table import Run

TOLERANCE = 0.1  # of the budget by which a training that was told its epochs may miss it without a second try


@dataclass(frozen=True)
class Job:
    """One training that is to be done."""

    contender: Contender
    task: Task

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.task.division.name, self.contender.name, self.task.budget, self.task.seed])


def measure(job: Job, peers: tuple[str, ...], cores: int) -> Run:
    """Train, predict, and return the line of results.jsonl."""
    contender, task = job.contender, job.task
    if contender.needs_epochs:
        task = replace(task, epochs=epochs_for(contender, task, surroundings(task)))
    command, seen = _train(contender, task)
    if contender.needs_epochs and abs(seen.trained / task.budget - 1) > TOLERANCE:
        fitting = learn(contender, task, seen)
        if fitting != task.epochs:  # the machine was slower or faster than when an epoch was timed
            task = replace(task, epochs=fitting)
            command, seen = _train(contender, task)
    predicted = watch(contender.predict(task), task.folder, log="predict.log", environment=surroundings(task), limit=LIMIT)
    shutil.rmtree(task.folder / "cache", ignore_errors=True)
    return {
        "data": task.division.name,
        "contender": contender.name,
        "budget": task.budget,
        "seed": task.seed,
        "accuracy": correct(task),
        "images": task.division.describe(),
        "parameters": contender.signs.parameters(task.folder / "train.log"),
        "trained": seen.trained,
        "wall": seen.wall,
        "cpu": seen.cpu,
        "others": seen.others,
        "memory": seen.memory,
        "predict_wall": predicted.wall,
        "history": [[row.wall, row.cpu, row.accuracy] for row in seen.history],
        "versions": versions(contender.peer, task.work),
        "settings": settings(command, task),
        "absent": absent(task.division, peers),
        "machine": machine(cores),
    }


def _train(contender: Contender, task: Task) -> tuple[list[str], Watched]:
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    task.division.forget()
    command, limit = contender.train(task), 2 * task.budget + LIMIT
    return command, watch(command, task.folder, log="train.log", environment=surroundings(task), limit=limit, signs=contender.signs)


def surroundings(task: Task) -> dict[str, str]:
    """Return the variables a trainer sees: the user's, no GPU, an empty store for cnnkit, and no look-ups in the network."""
    theirs = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ours = {"CUDA_VISIBLE_DEVICES": "", "CNNKIT_CACHE": str(task.folder / "cache"), "YOLO_CONFIG_DIR": str(task.work)}
    return {**theirs, **ours, "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "160"}


def correct(task: Task) -> float:
    """Return the share of right answers in the run's predictions.csv; raises `TrainerError` unless every image has one."""
    truth = task.division.truth()
    with (task.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        answers = {row["path"]: row["predicted"] for row in csv.DictReader(file)}
    if answers.keys() != truth.keys():
        raise TrainerError(
            f"{task.folder / 'predictions.csv'} has {len(answers):,} images, not the {len(truth):,} of {task.division.evaluated}"
        )
    return sum(answers[path] == label for path, label in truth.items()) / len(truth)


def machine(cores: int) -> str:
    """Describe what everything ran on."""
    info = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    model = found[1] if (found := re.search(r"model name\s*: (.*)", info)) else platform.processor()
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{name}\b", info)]
    memory = psutil.virtual_memory().total / 2**30
    return f"{model} ({', '.join(features)}), {cores} of {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
